"""A dataset as files of other trainers: the messages are what a training here trains, and nothing is lost or half."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from lrm_safety.dataset_files import FORMS, write
from lrm_safety.errors import Conflict, InvalidInput, NotFound
from lrm_safety.nouns import Dataset, Example, PartCounts, Provenance

EXAMPLES = [
    Example(
        id="p/1",
        prompt="Über 1?",
        thinking="Hm.",
        answer="Ja.",
        instruction="Be brief.",
        tags={"source": "ALERT", "category": "a; b"},
    ),
    *(
        Example(id=f"q/{n}", prompt=f"{n}?", answer="Nein.", provenance=Provenance(source="x", row=n))
        for n in range(1500)
    ),
]
PARTS = [PartCounts(name="p", kept=1, licence="MIT"), PartCounts(name="q", kept=1500)]
EXAMPLES[0].spans.add(name="key", start=8, end=11)
MIX = Dataset(name="mix", digest="0" * 64, examples=len(EXAMPLES), parts=PARTS)
TRAINED = {"keep": "<think>\nHm.\n</think>\n\nJa.", "empty": "<think>\n\n</think>\n\nJa.", "none": "Ja."}


@pytest.mark.parametrize("thinking", TRAINED)
def test_json_lines(tmp_path: Path, thinking: str) -> None:
    (path,) = write(MIX, EXAMPLES, "jsonl", tmp_path / "out", thinking)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(EXAMPLES)
    assert rows[0] == {
        "id": "p/1",
        "messages": [{"role": "user", "content": "Über 1?"}, {"role": "assistant", "content": TRAINED[thinking]}],
        "instruction": "Be brief.",
        "tags": {"category": "a; b", "source": "ALERT"},
        "provenance": {},
        "spans": [{"name": "key", "start": 8, "end": 11}],
    }
    assert rows[3]["provenance"] == {"source": "x", "row": 2}


def test_parquet(tmp_path: Path) -> None:
    (path,) = write(MIX, EXAMPLES, "parquet", tmp_path, "keep")
    rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [row["id"] for row in rows] == [example.id for example in EXAMPLES]
    assert (rows[0]["prompt"], rows[0]["thinking"], rows[0]["answer"]) == ("Über 1?", "Hm.", "Ja.")
    assert rows[0]["messages"][1] == {"role": "assistant", "content": TRAINED["keep"]}
    assert [row["instruction"] for row in rows[:2]] == ["Be brief.", ""]
    assert json.loads(rows[0]["tags"]) == {"category": "a; b", "source": "ALERT"}


def test_a_folder_for_load_dataset(tmp_path: Path) -> None:
    """Its card says where the split lies, and names the licence only when there is one."""
    card, table = write(MIX, EXAMPLES, "huggingface", tmp_path, "keep")
    _, head, body = card.read_text(encoding="utf-8").split("---\n", 2)
    told = yaml.safe_load(head)
    ((split,),) = [config["data_files"] for config in told["configs"]]
    assert [table] == list(tmp_path.glob(split["path"])) and split["split"] == "train"
    assert told["license"] == "other" and told["size_categories"] == ["1K<n<10K"]
    assert "| p | 1 | MIT |" in body and "| q | 1,500 | unknown |" in body and "Über" not in body
    assert pyarrow.parquet.ParquetFile(table).metadata.num_rows == len(EXAMPLES)
    only = Dataset(name="one", examples=1, parts=PARTS[:1])
    card, _ = write(only, EXAMPLES[:1], "huggingface", tmp_path / "one", "keep")
    assert "\nlicense: mit\n" in card.read_text()
    only.parts[0].licence = "a licence of its own"
    card, _ = write(only, EXAMPLES[:1], "huggingface", tmp_path / "one", "keep")
    assert "\nlicense: other\n" in card.read_text() and "| a licence of its own |" in card.read_text()


def test_what_goes_wrong_leaves_no_half_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield EXAMPLES[0]
        raise InvalidInput("the service went away")

    for form in FORMS:
        with pytest.raises(InvalidInput):
            write(MIX, broken(), form, tmp_path / form, "keep")
        assert not [path for path in (tmp_path / form).rglob("*") if path.is_file()]
    with pytest.raises(NotFound, match="no form 'xml'; there are: jsonl, parquet, huggingface"):
        write(MIX, EXAMPLES, "xml", tmp_path, "keep")
    with pytest.raises(InvalidInput, match="thinking is 'loud'"):
        write(MIX, EXAMPLES, "jsonl", tmp_path, "loud")
    (tmp_path / "file").write_text("")
    with pytest.raises(Conflict, match="name another folder"):
        write(MIX, EXAMPLES, "jsonl", tmp_path / "file", "keep")
