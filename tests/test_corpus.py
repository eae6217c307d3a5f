"""The corpus: as its generator writes it, big and mild enough, and without a path from train to test."""

import collections
import json
import re
from pathlib import Path

import pytest

from lrm_safety import corpus
from lrm_safety.corpus import generate
from lrm_safety.errors import NotFound
from services.data.words import runs, words

N = 5  # prompts have about twelve words and carriers of both splits three: a run of five means a shared act
SUM = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
FIELDS = {"id", "split", "type", "prompt", "thinking", "answer", "target"}
ROWS = {
    kind: [json.loads(line) for line in corpus.path(kind).read_text(encoding="utf-8").splitlines()]
    for kind in corpus.KINDS
}
ALL = [row for rows in ROWS.values() for row in rows]


def test_the_generator_reproduces_the_files(tmp_path: Path) -> None:
    generate.main(tmp_path)
    for kind in corpus.KINDS:
        assert (tmp_path / f"{kind}.jsonl").read_bytes() == corpus.path(kind).read_bytes(), (
            f"{kind}.jsonl: run `python -m lrm_safety.corpus.generate`"
        )


@pytest.mark.parametrize(("kind", "least"), [("harm", 300), ("benign", 300), ("math", 400)])
def test_there_are_enough_rows_in_both_splits(kind: str, least: int) -> None:
    splits = collections.Counter(row["split"] for row in ROWS[kind])
    assert len(ROWS[kind]) >= least
    assert set(splits) == {"train", "test"}
    assert 0.5 <= splits["train"] / len(ROWS[kind]) <= 0.65


def test_ids_and_prompts_are_unique() -> None:
    assert len({row["id"] for row in ALL}) == len(ALL)
    assert len({" ".join(words(row["prompt"])) for row in ROWS["harm"] + ROWS["benign"]}) == len(
        ROWS["harm"] + ROWS["benign"]
    )
    assert len({row["prompt"] for row in ALL}) == len(ALL)


def test_no_test_prompt_shares_a_run_of_words_with_a_train_prompt() -> None:
    trained = set().union(*(runs(row["prompt"], N) for row in ALL if row["split"] == "train"))
    leaked = [row["id"] for row in ALL if row["split"] == "test" and runs(row["prompt"], N) & trained]
    assert not leaked


def test_a_family_is_in_one_split() -> None:
    splits = collections.defaultdict(set)
    for row in ALL:
        splits[row["id"].rsplit("-", 1)[0]].add(row["split"])
    assert all(len(each) == 1 for each in splits.values())
    assert not {row["type"] for row in ROWS["harm"] if row["split"] == "train"} & {
        row["type"] for row in ROWS["harm"] if row["split"] == "test"
    }


def test_rows_are_whole_and_short() -> None:
    for row in ALL:
        assert set(row) == FIELDS
        assert all(row[name].strip() for name in FIELDS - {"target"}), row["id"]
        assert "{" not in row["prompt"] + row["thinking"] + row["target"], row["id"]
        assert len(row["prompt"].split()) <= 25, row["id"]
        assert len(row["thinking"].split()) <= 40, row["id"]
        assert len(row["answer"].split()) <= 40, row["id"]
        assert bool(row["target"]) is not row["id"].startswith("benign"), row["id"]


def test_carriers_say_nothing_about_the_right_answer() -> None:
    """The first two words of a prompt alone must not tell harm from benign requests for help."""
    openings = {
        kind: collections.Counter(" ".join(row["prompt"].split()[:2]) for row in ROWS[kind])
        for kind in ("harm", "benign")
    }
    common = [opening for opening, count in openings["harm"].items() if count >= 10]
    assert len(common) >= 10
    assert all(openings["benign"][opening] for opening in common)


def test_sums_are_right() -> None:
    for row in ROWS["math"]:
        assert row["answer"].endswith(f"The answer is \\boxed{{{row['target']}}}."), row["id"]
        steps = SUM.findall(row["thinking"])
        assert steps, row["id"]
        assert all(_worth(int(a), sign, int(b)) == int(c) for a, sign, b, c in steps), row["id"]
        assert int(steps[-1][3]) == int(row["target"]) >= 0, row["id"]


def test_rows_by_split() -> None:
    assert [row["id"] for row in corpus.rows("math", "test")] == [r["id"] for r in ROWS["math"] if r["split"] == "test"]
    with pytest.raises(NotFound, match="harm, benign, math"):
        corpus.path("poems")
    with pytest.raises(NotFound, match="train, test"):
        list(corpus.rows("harm", "dev"))


def _worth(a: int, sign: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
