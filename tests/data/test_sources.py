"""Every source on real files: plain and compressed, whole and broken; errors name the place and never the text."""

import json
from pathlib import Path

import pytest
import zstandard

from lrm_safety import artefacts, corpus
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.jsonl import pack
from lrm_safety.nouns import Dataset, Example, PartCounts, SourceSpec
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import files as data_files
from services.data.source import Row, open_source, read_rows
from tests.data import files

SECRET = "do-not-quote-me"


def rows(path: Path, source: str, settings: Settings, **fields: str) -> list[Row]:
    opened = open_source(SourceSpec(source=source, path=str(path), fields=fields), settings)
    return list(read_rows(opened, fields))


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_jsonl(ending: str, tmp_path: Path, settings: Settings) -> None:
    path = files.jsonl(tmp_path / f"a.jsonl{ending}", files.ROWS)
    found = rows(path, "jsonl", settings, **files.FIELDS)
    assert [row.text("prompt") for row in found] == [row["question"] for row in files.ROWS]
    assert [row.text("answer") for row in found] == ["Use kill.", "Nobody knows.", "So."]
    assert [row.number for row in found] == [1, 2, 3]
    assert found[0].fields["n"] == 1  # the file's own fields stay


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_json(ending: str, tmp_path: Path, settings: Settings) -> None:
    path = files.compress(tmp_path / f"a.json{ending}", json.dumps(files.ROWS).encode())
    assert [row.fields for row in rows(path, "json", settings)] == files.ROWS


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_csv_with_fields_over_several_lines(ending: str, tmp_path: Path, settings: Settings) -> None:
    text = '\ufeffquestion,n\r\n"one, two",1\r\n"He said ""hi"",\nthen left",2\r\n\r\n'
    found = rows(files.compress(tmp_path / f"a.csv{ending}", text.encode()), "csv", settings, prompt="question")
    assert [row.text("prompt") for row in found] == ["one, two", 'He said "hi",\nthen left']
    assert [row.number for row in found] == [1, 2]


def test_parquet(tmp_path: Path, settings: Settings) -> None:
    many = [{**row, "n": n} for n, row in enumerate(files.ROWS * 200)]
    found = rows(files.parquet(tmp_path / "a.parquet", many), "parquet", settings, **files.FIELDS)
    assert [row.fields["n"] for row in found] == list(range(600))
    assert found[-1].text("answer") == "So."
    assert found[-1].number == 600


def test_demo_is_the_train_split_only(settings: Settings) -> None:
    for kind in corpus.KINDS:
        found = rows(Path(kind), "demo", settings)
        assert [row.fields["id"] for row in found] == [row["id"] for row in corpus.rows(kind, "train")]
    assert open_source(SourceSpec(source="demo", path="harm"), settings).licence == "Apache-2.0"
    with pytest.raises(NotFound, match="harm, benign, math"):
        rows(Path("poems"), "demo", settings)


def test_real_files(shared_data: Path, settings: Settings) -> None:
    star = rows(Path("star1/STAR-1.json.gz"), "json", settings)  # found under LRM_DATA
    assert len(star) == 1000
    xstest = rows(Path("xstest/xstest_prompts.csv"), "csv", settings)
    assert len(xstest) == 450
    harmbench = rows(Path("harmbench/harmbench_behaviors_text_all.csv"), "csv", settings)
    assert len(harmbench) == 400
    assert len(rows(Path("math/gsm8k_test.jsonl.gz"), "jsonl", settings)) == 1319


def test_a_missing_file_names_both_places(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound) as error:
        rows(Path("no/such.jsonl"), "jsonl", settings)
    assert str(tmp_path / "no/such.jsonl") in str(error.value)
    assert str(settings.data_dir / "no/such.jsonl") in str(error.value)


def test_the_working_folder_comes_before_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "there" / "a").write_text("there")
    assert data_files.locate("a", tmp_path / "there") == tmp_path / "there" / "a"
    (tmp_path / "here" / "a").write_text("here")
    assert data_files.locate("a", tmp_path / "there") == tmp_path / "here" / "a"
    assert data_files.locate(str(tmp_path / "there" / "a"), tmp_path) == tmp_path / "there" / "a"


@pytest.mark.parametrize(
    ("name", "source", "text", "says"),
    [
        ("a.jsonl", "jsonl", f'{{"a": 1}}\n\n{{"a": "{SECRET}\n', "line 3: it is not JSON"),
        ("a.jsonl", "jsonl", f'["{SECRET}"]\n', "line 1: expected an object, got list"),
        ("a.jsonl", "jsonl", "[" * 100_000 + "\n", "line 1: it is not JSON"),
        ("a.json", "json", f'[{{"a": 1}},\n{{"a" "{SECRET}"}}]', "line 2: it is not JSON"),
        ("a.json", "json", f'{{"a": "{SECRET}"}}', "expected a list of objects, got dict"),
        ("a.json", "json", f'[{{"a": 1}}, "{SECRET}"]', "row 2: expected an object, got str"),
        ("a.csv", "csv", f"a,b\n1,2\n1,2,{SECRET}\n", "line 3: row 2 has 3 fields, the header has 2"),
        ("a.csv", "csv", f'a,b\n"{SECRET},2\n', "line 2: it is not CSV"),
        ("a.parquet", "parquet", SECRET, "cannot be read as Parquet"),
        ("a.jsonl.gz", "jsonl", SECRET, "cannot be decompressed"),
        ("a.jsonl.zst", "jsonl", SECRET, "cannot be decompressed"),
    ],
)
def test_broken_files(name: str, source: str, text: str, says: str, tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidInput) as error:
        rows(path, source, settings)
    assert says in str(error.value)
    assert str(path) in str(error.value)
    assert SECRET not in str(error.value)


def test_text_that_is_not_utf8(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.csv").write_bytes("a\nGrüße\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match="not UTF-8"):
        rows(tmp_path / "a.csv", "csv", settings)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_was_cut_short_is_not_taken_for_a_whole_one(
    ending: str, tmp_path: Path, settings: Settings
) -> None:
    path = files.jsonl(tmp_path / f"a.jsonl{ending}", [{"prompt": f"number {n}"} for n in range(50_000)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InvalidInput, match="cannot be decompressed"):
        rows(path, "jsonl", settings)


def test_several_zstd_frames_are_one_file(tmp_path: Path, settings: Settings) -> None:
    pack = zstandard.ZstdCompressor().compress
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(pack(f'{{"n": {n}}}\n'.encode()) for n in range(500)))
    assert [row.fields["n"] for row in rows(tmp_path / "a.jsonl.zst", "jsonl", settings)] == list(range(500))


def test_a_missing_field_names_what_there_is(tmp_path: Path, settings: Settings) -> None:
    path = files.jsonl(tmp_path / "a.jsonl", [{"question": "x", "reply": {"text": "y"}}, {"question": SECRET}])
    with pytest.raises(InvalidInput) as error:
        rows(path, "jsonl", settings, **files.FIELDS)
    assert all(part in str(error.value) for part in (str(path), "row 2", "'reply.text'", "there are: question"))
    assert SECRET not in str(error.value)


def test_a_field_is_text_or_an_error() -> None:
    row = Row("a.jsonl", 7, {"n": 5, "none": None, "list": [SECRET], "half": "\ud83d"})
    assert (row.text("n"), row.text("none"), row.optional("absent")) == ("5", "", "")
    for name in ("list", "half", "absent"):
        with pytest.raises(InvalidInput, match="row 7") as error:
            row.text(name)
        assert SECRET not in str(error.value)


def test_a_dotted_name_of_its_own_comes_first(tmp_path: Path, settings: Settings) -> None:
    path = files.jsonl(tmp_path / "a.jsonl", [{"a.b": "flat", "a": {"b": "deep"}}])
    assert rows(path, "jsonl", settings, prompt="a.b")[0].text("prompt") == "flat"


def test_the_digest_is_of_the_bytes(tmp_path: Path, settings: Settings) -> None:
    path = files.jsonl(tmp_path / "a.jsonl", files.ROWS)
    spec = SourceSpec(source="jsonl", path=str(path))
    before = open_source(spec, settings).digest
    assert open_source(spec, settings).digest == before
    files.jsonl(path, files.ROWS[:2])
    assert open_source(spec, settings).digest != before


def test_unknown_source(settings: Settings) -> None:
    with pytest.raises(NotFound, match=r"attaq, .*wildjailbreak"):
        open_source(SourceSpec(source="excel", path="a.xlsx"), settings)
    with pytest.raises(InvalidInput, match=r"attaq, .*wildjailbreak"):
        open_source(SourceSpec(path="a.jsonl"), settings)
    with pytest.raises(InvalidInput, match="path"):
        open_source(SourceSpec(source="jsonl"), settings)


def test_a_file_in_the_object_store(tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    store.upload(files.jsonl(tmp_path / "a.jsonl.gz", files.ROWS), "uploads/a.jsonl.gz")
    found = rows(Path("uploads/a.jsonl.gz"), "store", settings, **files.FIELDS)
    assert [row.text("answer") for row in found] == ["Use kill.", "Nobody knows.", "So."]
    assert found[0].place == "store/uploads/a.jsonl.gz, row 1"
    assert not list((settings.state_dir / "data" / "store").iterdir()), "what was fetched is gone"
    opened = open_source(SourceSpec(source="store", path="uploads/a.jsonl.gz"), settings)
    store.upload(files.jsonl(tmp_path / "b.jsonl.gz", files.ROWS[:1]), "uploads/a.jsonl.gz")
    with pytest.raises(Corrupt, match="changed after the build"):
        next(opened.read())
    with pytest.raises(NotFound, match=r"the store has no uploads/b\.csv"):
        open_source(SourceSpec(source="store", path="uploads/b.csv"), settings)
    with pytest.raises(InvalidInput, match=r"no format; expected \.jsonl"):
        open_source(SourceSpec(source="store", path="uploads/b.exe"), settings)


def test_the_examples_of_another_dataset(tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    example = Example(id="p/1", prompt="1?", thinking="Hm.", answer="2", tags={"source": "ALERT", "category": "a; b"})
    example.provenance.row = 7
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "examples-00000.jsonl.zst").write_bytes(pack([example]))
    manifest = Dataset(name="first", parts=[PartCounts(name="p", licence="MIT")])
    made = artefacts.publish(store, "datasets", tmp_path / "first", manifest)
    for path in ("first", f"first@{made.digest[:8]}"):
        (row,) = rows(Path(path), "dataset", settings, of="provenance.row")
        assert (row.number, row.text("id"), row.text("prompt"), row.text("of")) == (1, "p/1", "1?", "7")
        assert (row.text("category"), row.fields["tags"]) == ("a; b", {"source": "ALERT", "category": "a; b"})
    opened = open_source(SourceSpec(source="dataset", path="first"), settings)
    assert (opened.digest, opened.licence, opened.name) == (made.digest, "MIT", f"first@{made.digest}")
    with pytest.raises(NotFound, match="no datasets match 'second'; there are: first"):
        open_source(SourceSpec(source="dataset", path="second"), settings)
