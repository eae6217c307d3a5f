"""Builds: deterministic by spec and seed, counted to the last row, refused in clear words, never half published."""

from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety.errors import Cancelled, InvalidInput, NotFound
from lrm_safety.jsonl import unpack
from lrm_safety.nouns import Dataset, DatasetSpec, Drop, FilterSpec, reference
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import build
from services.data.build import plan
from services.data.reading import read_examples
from services.data.spool import SeededOrder
from tests.data.files import Listener, dataset, jsonl, part


def carry_out(spec: DatasetSpec, settings: Settings, store: ObjectStore) -> Dataset:
    return plan(spec, settings, store).carry_out(Listener(), store, settings.state_dir / "data")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return jsonl(
        tmp_path / "rows.jsonl", [{"id": n, "prompt": f"Question {n}?", "answer": f"Nr {n}"} for n in range(50)]
    )


def test_same_spec_same_bytes(rows: Path, settings: Settings, store: ObjectStore) -> None:
    spec = dataset(part(rows, count=20))
    first = carry_out(spec, settings, store)
    assert carry_out(spec, settings, store).digest == first.digest
    assert carry_out(dataset(part(rows, count=20), seed=2), settings, store).digest != first.digest


def test_a_greater_count_only_adds(rows: Path, settings: Settings, store: ObjectStore) -> None:
    drawn = [
        {each.id for each in read_examples(store, carry_out(dataset(part(rows, count=n)), settings, store))}
        for n in (10, 20, 50)
    ]
    assert [len(each) for each in drawn] == [10, 20, 50]
    assert drawn[0] < drawn[1] < drawn[2]
    every = carry_out(dataset(part(rows)), settings, store)
    assert {each.id for each in read_examples(store, every)} == drawn[2]


def test_what_is_known_of_a_response_goes_on_to_the_next_dataset(
    tmp_path: Path, settings: Settings, store: ObjectStore
) -> None:
    known = {"source": "old", "row": 9, "writer": "r1@ab", "verdicts": [{"judge": "star1", "label": "10"}]}
    path = jsonl(
        tmp_path / "a.jsonl",
        [
            {"prompt": "1?", "answer": "2", "instruction": "Be kind.", "provenance": known},
            {"prompt": "2?", "answer": "3", "provenance": {"writer": 7}},  # a field of the same name, not ours
        ],
    )
    first = carry_out(dataset(part(path)), settings, store)
    made = carry_out(dataset(part("mix", source="dataset")), settings, store)
    ours, foreign = sorted(read_examples(store, made), key=lambda each: each.prompt)
    assert ours.instruction == "Be kind."
    assert (ours.provenance.writer, ours.provenance.verdicts[0].label) == ("r1@ab", "10")
    assert ours.provenance.source == reference(first.name, first.digest)
    assert not foreign.provenance.writer


def test_parts_are_mixed_and_say_where_they_come_from(rows: Path, settings: Settings, store: ObjectStore) -> None:
    spec = dataset(part(rows, name="a", count=30), part(rows, builder="nocot", count=30), part("math", source="demo"))
    made = carry_out(spec, settings, store)
    examples = list(read_examples(store, made))
    assert made.examples == len(examples) == 30 + 30 + 240
    assert len({each.id for each in examples}) == len(examples)  # the same rows in two parts stay apart
    assert [each.name for each in made.parts] == ["a", "nocot_1", "as_written_2"]
    assert {each.id.split("/")[0] for each in examples[:60]} == {"a", "nocot_1", "as_written_2"}
    one = next(each for each in examples if each.id == "as_written_2/math-sum-03")
    assert (one.provenance.source, one.provenance.row, one.provenance.builder) == ("demo/math", 3, "as_written")
    assert [each.licence for each in made.parts] == ["", "", "Apache-2.0"]


def test_every_row_is_accounted_for(tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    texts = ["one", "One!", "two", "", "a very long prompt indeed", "three", "four", "five"]
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": text, "answer": "x"} for text in texts])
    filters = [FilterSpec(filter="exact"), FilterSpec(filter="length", options={"words": "4"})]
    spec = dataset(part(path, count=3, options={"licence": "CC0-1.0"}), filters=filters)
    (counts,) = carry_out(spec, settings, store).parts
    assert (counts.read, counts.kept, counts.licence) == (8, 3, "CC0-1.0")
    assert dict(counts.dropped) == {"same prompt": 1, "empty prompt": 1, "too many words": 1, "not drawn": 2}
    assert counts.read == counts.kept + sum(counts.dropped.values())


BAD = [
    b'{"id": "a", "prompt": "one", "answer": "x"}',
    b'{"id": "b", "prompt": "secret',
    b'{"id": "c", "question": "secret"}',
    b'{"id": "d", "prompt": {"secret": 1}, "answer": "x"}',
    b'{"id": "e", "prompt": "secret \\u0000", "answer": "x"}',
    b'{"id": "f", "prompt": "secret \\ud83d", "answer": "x"}',
    b'{"id": "a", "prompt": "secret", "answer": "x"}',
    b'{"id": "g", "prompt": "%s", "answer": "x"}' % (b"secret" * 2_000_000),
    b'{"id": "h", "prompt": "two", "answer": "x"}',
]
REASONS = [
    ("not JSON", 2),
    ("missing field", 3),
    ("wrong type", 4),
    ("NUL character", 5),
    ("half a character", 6),
    ("duplicate id", 7),
    ("too long", 8),
]


@pytest.mark.parametrize(("reason", "line"), REASONS)
def test_a_bad_row_ends_a_build(reason: str, line: int, tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([BAD[0], BAD[line - 1]]))
    with pytest.raises(InvalidInput, match=r"a\.jsonl, (line|row) 2: ") as error:
        carry_out(dataset(part(tmp_path / "a.jsonl")), settings, store)
    assert "secret" not in str(error.value) and list(store.list("datasets/")) == []


def test_bad_rows_that_are_skipped_are_counted_and_told(tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(BAD))
    spec = dataset(part(path, name="p", options={"tags": ""}), filters=[FilterSpec(filter="exact")])
    spec.on_bad_row = "skip"
    made = carry_out(spec, settings, store)
    assert sorted(each.id for each in read_examples(store, made)) == ["p/a", "p/h"]
    assert made.bad_rows == len(REASONS)
    assert (made.parts[0].read, made.parts[0].kept) == (len(BAD), 2)
    assert dict(made.parts[0].dropped) == {reason: 1 for reason, _ in REASONS}
    first = made.funnel[0]
    assert (first.step, first.read, first.kept) == ("read", len(BAD), 2)
    (entry,) = [each for each in made.files if each.path == "dropped.jsonl.zst"]
    told = list(unpack(Drop, store.read(f"datasets/mix/{made.digest}/{entry.path}")))
    assert sorted((each.reason, each.row) for each in told) == sorted(REASONS)
    assert all(each.what.startswith((f"line {each.row}: ", f"row {each.row}: ")) for each in told)
    assert {(each.source, each.step) for each in told} == {(str(path), "read")}
    assert "secret" not in "".join(map(str, told))


def test_shards(rows: Path, settings: Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_EXAMPLES", 20)
    made = carry_out(dataset(part(rows)), settings, store)
    assert [each.path for each in made.files] == [f"examples-{n:05d}.jsonl.zst" for n in range(3)]
    whole = [each.id for each in read_examples(store, made)]
    assert len(whole) == 50
    assert [each.id for each in read_examples(store, made, limit=25)] == whole[:25]


def test_the_order_does_not_depend_on_the_file() -> None:
    def order(ids: list[int], seed: str) -> list[int]:
        seeded = SeededOrder(seed)
        for id_ in ids:
            seeded.add(str(id_))
        return [ids[place] for place in seeded.order()]

    ids = list(range(30))
    assert order(ids, "1") == order(ids[::-1], "1") != order(ids, "2")


def test_specs_that_make_no_sense(rows: Path, settings: Settings, store: ObjectStore) -> None:
    def refused(spec: DatasetSpec, says: str) -> None:
        with pytest.raises((InvalidInput, NotFound), match=says):
            plan(spec, settings, store)

    refused(dataset(), "has no `parts`")
    refused(dataset(part(rows, count=-1)), "count is -1")
    refused(dataset(part(rows, name="a"), part(rows, name="a")), "more than one part a")
    refused(dataset(part(rows), name="a/b"), "name 'a/b'")
    refused(dataset(part(rows), name=""), "name ''")
    refused(dataset(part(rows, options={"colour": "red"})), "no option colour")
    refused(dataset(part(rows, builder="magic")), "no builder is named 'magic'")
    refused(dataset(part(rows), filters=[FilterSpec(filter="magic")]), "no filter is named 'magic'")
    refused(dataset(part("no/such.jsonl")), "there is no file")
    refused(DatasetSpec(name="a", parts=[part(rows)], tokenizer="nobody"), "nobody")


def test_more_than_there_are(rows: Path, settings: Settings, store: ObjectStore) -> None:
    spec = dataset(part(rows, name="p", count=51), filters=[FilterSpec(filter="length", options={"words": "3"})])
    with pytest.raises(
        InvalidInput, match=r"part p asks for 51 examples; .* gives 0 \(50 rows read, 50 dropped: too many"
    ):
        carry_out(spec, settings, store)
    assert list(store.list("datasets/")) == []


def test_nothing_left(tmp_path: Path, rows: Path, settings: Settings, store: ObjectStore) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InvalidInput, match="would be empty: part as_written_0: 0 rows read"):
        carry_out(dataset(part(tmp_path / "empty.jsonl")), settings, store)
    with pytest.raises(InvalidInput, match="would be empty"):
        carry_out(dataset(part(rows), filters=[FilterSpec(filter="length", options={"words": "1"})]), settings, store)
    assert list(store.list("datasets/")) == []


def test_a_build_that_is_stopped_leaves_nothing(rows: Path, settings: Settings, store: ObjectStore) -> None:
    class Stopping(Listener):
        def progress(self, *told: object, **more: object) -> None:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        plan(dataset(part(rows)), settings, store).carry_out(Stopping(), store, settings.state_dir)
    assert list(store.list("datasets/")) == []


def test_the_scratch_folder_is_gone_and_an_old_one_does_no_harm(
    rows: Path, settings: Settings, store: ObjectStore
) -> None:
    scratch = settings.state_dir / "data" / "dataset-test"
    scratch.mkdir(parents=True)
    (scratch / "examples-00000.jsonl.zst").write_bytes(b"half of a")
    (scratch / "examples-00001.jsonl.zst").write_bytes(b"killed build")
    made = carry_out(dataset(part(rows)), settings, store)
    assert len(list(read_examples(store, made))) == 50
    assert not scratch.exists()


def test_what_decides_the_result_is_in_the_inputs(rows: Path, settings: Settings, store: ObjectStore) -> None:
    spec = dataset(part(rows), filters=[FilterSpec(filter="exact")])
    before = plan(spec, settings, store).inputs
    assert plan(spec, replace(settings, hub_offline=True), store).inputs == before
    rows.write_text(rows.read_text() + '{"prompt": "One more?", "answer": "Yes."}\n')
    assert plan(spec, settings, store).inputs != before
