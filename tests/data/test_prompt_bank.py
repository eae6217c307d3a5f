"""Requests in jailbreak templates: balanced, seeded, each with both its origins."""

import csv
import random
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from lrm_safety import recipe
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.source import Row, Source, open_source, read_rows
from services.data.sources.prompt_bank import balanced_pairs
from tests.data import files

REQUESTS = [{"goal": f"request {n}", "kind": "k"} for n in range(6)]
TEMPLATES = [{"id": f"t{n}", "text": f"template {n}: [INSERT PROMPT HERE]!"} for n in range(4)]


@pytest.fixture
def bank(tmp_path: Path, settings: Settings):
    files.jsonl(tmp_path / "requests.jsonl", REQUESTS)
    files.jsonl(tmp_path / "templates.jsonl", TEMPLATES)

    def opened(**options: str) -> Source:
        options = {"template_path": str(tmp_path / "templates.jsonl"), "behaviour_field": "goal", **options}
        spec = SourceSpec(source="prompt_bank", path=str(tmp_path / "requests.jsonl"), options=options)
        return open_source(spec, settings)

    return opened


def rows(source: Source) -> list[Row]:
    return list(read_rows(source, {}))


@pytest.mark.parametrize(("first", "second"), [(1, 1), (6, 4), (4, 6), (5, 5), (7, 3), (12, 8)])
def test_every_beginning_is_balanced(first: int, second: int) -> None:
    pairs = list(balanced_pairs(first, second, random.Random(3)))
    assert sorted(pairs) == sorted(product(range(first), range(second)))
    for length in range(1, len(pairs) + 1):
        for side, size in ((0, first), (1, second)):
            counts = Counter(pair[side] for pair in pairs[:length])
            assert max(counts.values()) - min(counts.get(index, 0) for index in range(size)) <= 1


def test_rows(bank, tmp_path: Path) -> None:
    found = rows(bank(count="12"))
    assert [row.number for row in found] == list(range(1, 13))
    for row in found:
        behaviour, template = row.text("id").split("+")
        request, framing = REQUESTS[int(behaviour) - 1]["goal"], template.removeprefix("t")
        assert row.text("prompt") == f"template {framing}: {request}!"
        assert (row.text("request"), row.text("kind")) == (request, "k")
        assert row.text("behaviour") == f"{tmp_path}/requests.jsonl#{behaviour}"
        assert row.text("template") == f"{tmp_path}/templates.jsonl#{template}"


def test_the_seed_decides(bank) -> None:
    def ids(**options: str) -> list[str]:
        return [row.text("id") for row in rows(bank(**options))]

    assert ids(seed="1") == ids(seed="1") != ids(seed="2")
    assert sorted(ids(seed="1")) == sorted(ids(seed="2")) and len(set(ids())) == 24
    assert ids(seed="1", count="5") == ids(seed="1")[:5]  # a greater count only adds
    few = ids(seed="1", behaviours="3", templates="2")
    assert len(few) == 6 and len({each.split("+")[0] for each in few}) == 3
    assert bank(seed="1").digest == bank(seed="1").digest != bank(seed="2").digest


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"template_path": ""}, "`template_path` is missing"),
        ({"template_path": "templates.yaml"}, "'templates.yaml' ends in no known format"),
        ({"seed": "one"}, "seed is 'one'; expected a whole number"),
        ({"count": "-1"}, "count is '-1'"),
        ({"behaviours": "7"}, "requests.jsonl has 6 rows; expected 7 behaviours"),
        ({"placeholder": "{goal}"}, r"templates.jsonl, row \d: the placeholder '{goal}' is not in it"),
        ({"behaviour_field": "prompt"}, "there is no field 'prompt'"),
        ({"wording": "x"}, "prompt_bank has no option wording"),
        ({"where": "kind"}, "where is 'kind'; expected field=value"),
        ({"where": "colour=red"}, "there is no field 'colour'"),
        ({"where": "kind=other"}, "requests.jsonl has 0 rows"),
    ],
)
def test_mistakes(bank, options: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        rows(bank(**options))


def test_the_behaviours_of_the_study(shared_data: Path, settings: Settings) -> None:
    """HarmBench's 200 standard ones: 198 of them stand word for word in the study's published file, and no other."""
    spec = recipe.load_dataset(Path(__file__).parents[2] / "recipes" / "data" / "benign_mix_100.yaml")
    found = rows(open_source(spec.parts[0].source, settings))
    assert len(found) == 200 * 20 and len({row.text("request") for row in found}) == 200
    assert {row.text("FunctionalCategory") for row in found} == {"standard"}


def test_the_published_files(shared_data: Path, settings: Settings) -> None:
    """A bank as in the study: 200 requests x 20 templates, 1,000 of them."""
    options = {"template_path": "gptfuzz/jailbreak_templates.csv", "behaviour_field": "goal", "seed": "42"}
    options |= {"behaviours": "200", "templates": "20", "count": "1000"}
    spec = SourceSpec(source="prompt_bank", path="advbench/harmful_behaviors.csv", options=options)
    found = rows(open_source(spec, settings))
    assert len(Counter(row.text("prompt") for row in found).values()) == 1000
    assert set(Counter(row.text("behaviour") for row in found).values()) == {5}
    assert set(Counter(row.text("template") for row in found).values()) == {50}
    with (shared_data / "advbench" / "harmful_behaviors.csv").open(encoding="utf-8") as file:
        goals = {row["goal"].strip() for row in csv.DictReader(file)}
    assert all(row.text("request") in goals for row in found)
