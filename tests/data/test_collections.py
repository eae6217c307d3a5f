"""The collections that STAR-1 reads, each from a small file as it is published, and two from the real ones."""

import csv
import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety import recipe, registry
from lrm_safety.errors import InvalidInput, NotFound, Unavailable
from lrm_safety.jsonl import unpack
from lrm_safety.nouns import Drop, SourceSpec
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data.build import plan
from services.data.collection import ORDER
from services.data.source import FOLDER, BadRow, PassedOver, Row, each_row, open_source
from tests.data import files

NAMES = {each.name for each in registry.describe(FOLDER)}
PUBLISHED = {  # name -> file, its content, the questions that count
    "gptfuzz": ("q.csv", "index,text\n0,one\n", ["one"]),
    "simple_safety_tests": ("q.csv", "id,prompt,harm_area\na,one,x\n", ["one"]),
    "malicious_instruct": ("q.txt", "one\n\ntwo\n", ["one", "two"]),
    "q_harm": ("q.json", '{"instructions": ["one", "two"]}', ["one", "two"]),
    "tdc_red_teaming": ("q.json", '["one"]', ["one"]),
    "malicious_instructions": ("q.json", '{"tags": ["x"], "instructions": ["one"]}', ["one"]),
    "harmful_q": ("q.json", '["one"]', ["one"]),
    "hex_phi": ("q.csv", '"one, and more"\ntwo\n', ["one, and more", "two"]),
    "harmbench": (
        "q.csv",
        "Behavior,FunctionalCategory\none,standard\ntwo,contextual\nthree,copyright\n",
        ["one", "three"],
    ),
    "attaq": ("q.jsonl", '{"input": "one", "label": "x"}\n', ["one"]),
    "harmful_qa": ("q.json", '[{"id": 1, "question": "one"}]', ["one"]),
    "safety_instructions": ("q.json", '[{"instruction": "one", "input": "", "output": "no"}]', ["one"]),
    "ultra_safety": ("q.jsonl", '{"instruction": "one"}\n', ["one"]),
    "alert": ("q.jsonl", '{"prompt": "### Instruction:\\none\\n### Response:\\n", "category": "x"}\n', ["one"]),
    "salad": ("q.json", '[{"qid": 1, "question": " one "}]', ["one"]),
    "pku_safe_rlhf": (
        "q.jsonl",
        '{"prompt": "one", "is_response_0_safe": false, "is_response_1_safe": false}\n'
        '{"prompt": "two", "is_response_0_safe": false, "is_response_1_safe": true}\n',
        ["one"],
    ),
    "beavertails": (
        "q.jsonl.gz",
        '{"prompt": "one", "is_safe": true}\n{"prompt": "two", "is_safe": false, "category": {"x": true}}\n',
        ["two"],
    ),
    "wildjailbreak": ("q.tsv", "vanilla\tadversarial\none\tx\n", ["one"]),
}


def read(name: str, path: object, settings: Settings, **fields: str) -> list[Row | BadRow | PassedOver]:
    spec = SourceSpec(source=name, path=str(path), fields=fields)
    return list(each_row(open_source(spec, settings), fields))


@pytest.mark.parametrize("name", ORDER)
def test_each_as_it_is_published(name: str, tmp_path: Path, settings: Settings) -> None:
    file, content, questions = PUBLISHED[name]
    path = files.compress(tmp_path / file, content.encode())
    rows = [row for row in read(name, path, settings) if isinstance(row, Row)]
    assert [row.text("prompt") for row in rows] == [row.text("question") for row in rows] == questions
    collection = registry.load(FOLDER, name).COLLECTION
    assert {row.text("source") for row in rows} == {collection.label}
    opened = open_source(SourceSpec(source=name, path=str(path)), settings)
    assert (opened.licence, opened.name) == (collection.licence, str(path))


def test_the_order_names_every_collection_once() -> None:
    collections = {name for name in NAMES if hasattr(registry.load(FOLDER, name), "COLLECTION")}
    assert len(ORDER) == 18 and set(ORDER) == collections


def test_labels_are_those_of_the_published_set(shared_data: Path) -> None:
    with gzip.open(shared_data / "star1/STAR-1.json.gz", "rt", encoding="utf-8") as file:
        labels = {row["source"] for row in json.load(file)}
    assert labels == {registry.load(FOLDER, name).COLLECTION.label for name in ORDER}


def test_real_files(shared_data: Path, settings: Settings) -> None:
    files = {"gptfuzz": "gptfuzz/question_list.csv", "harmbench": "harmbench/harmbench_behaviors_text_all.csv"}
    kinds = {name: Counter(type(row) for row in read(name, path, settings)) for name, path in files.items()}
    assert kinds == {"gptfuzz": {Row: 100}, "harmbench": {Row: 300, PassedOver: 100}}


def test_a_folder_of_files_is_one_collection(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "tdc" / "dev").mkdir(parents=True)
    (tmp_path / "tdc" / "test").mkdir()
    (tmp_path / "tdc" / "dev" / "behaviors.json").write_text('["one", 2, ["three"]]')
    (tmp_path / "tdc" / "test" / "behaviors.json").write_text('["four"]')
    (tmp_path / "tdc" / "README.md").write_text("not one of them")
    rows = read("tdc_red_teaming", tmp_path / "tdc", settings)
    assert [row.text("prompt") if isinstance(row, Row) else row.reason for row in rows] == [
        *("one", "2", "wrong type", "four")
    ]
    before = open_source(SourceSpec(source="tdc_red_teaming", path=str(tmp_path / "tdc")), settings).digest
    (tmp_path / "tdc" / "test" / "behaviors.json").write_text('["five"]')
    assert open_source(SourceSpec(source="tdc_red_teaming", path=str(tmp_path / "tdc")), settings).digest != before


def test_rows_that_do_not_count_are_told(tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    path = files.jsonl(tmp_path / "q.jsonl", [{"prompt": str(n), "is_safe": n < 7} for n in range(10)])
    made = plan(files.dataset(files.part(path, "question", "beavertails")), settings, store).carry_out(
        files.Listener(), store, settings.state_dir / "data"
    )
    (part,), read = made.parts, made.funnel[0]
    assert (part.read, dict(part.dropped), part.kept) == (10, {"of another kind": 7}, 3)
    assert (read.step, read.read, read.kept) == ("read", 10, 3)
    told = unpack(Drop, store.read(f"datasets/{made.name}/{made.digest}/dropped.jsonl.zst"))
    assert [(drop.id, drop.step, drop.row) for drop in told] == [(f"question_0/{n}", "read", n) for n in range(1, 8)]


def test_a_file_from_somewhere_else(tmp_path: Path, settings: Settings) -> None:
    """Its question has another name; a bare text is none then."""
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "n"], ["one", 1]])
    (row,) = read("hex_phi", tmp_path / "mine.csv", settings, question="prompt")
    assert isinstance(row, Row) and row.text("question") == row.text("prompt") == "one"
    (bad,) = read("beavertails", tmp_path / "mine.csv", settings)
    assert isinstance(bad, BadRow) and "no field 'is_safe'; there are: n, prompt" in str(bad)


def test_without_a_file_it_says_where_to_get_it(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="`path` is missing; fetch it from hub:PKU-Alignment/BeaverTails"):
        read("beavertails", "", settings)
    with pytest.raises(NotFound, match="there is no file"):
        read("beavertails", "nowhere.jsonl", settings)
    with pytest.raises(NotFound, match=r"has no file that ends in \.jsonl, \.json, \.csv"):
        read("beavertails", Path(__file__).parent, settings)
    offline = replace(settings, hub_offline=True)
    with pytest.raises(Unavailable, match="PKU-Alignment/BeaverTails"):
        read("beavertails", "hub:PKU-Alignment/BeaverTails/train.jsonl", offline)
    with pytest.raises(InvalidInput, match="HExPHI: its files hold bare texts"):
        read("hex_phi", "hub:LLM-Tuning-Safety/HEx-PHI/category_1.csv", settings)
    with pytest.raises(InvalidInput, match="source beavertails has no option seed"):
        open_source(SourceSpec(source="beavertails", path="a", options={"seed": "1"}), settings)


def test_the_recipe_of_all_of_them(tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    """In the order of priority, each held to runs of its own length, every part read as it is published."""
    spec = recipe.load_dataset(Path(__file__).resolve().parents[2] / "recipes" / "data" / "star1_collections.yaml")
    assert [part.source.source for part in spec.parts] == [part.name for part in spec.parts] == list(ORDER)
    own = spec.filters[0].options["n_of"].split(", ")
    assert own == [f"{name}={n}" for name, n in ORDER.items() if n != 8]
    for part in spec.parts:
        file, content, _ = PUBLISHED[part.name]
        path = tmp_path / part.source.path
        path = path if path.suffix else path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        files.compress(path, content.replace("one", f"one of {part.name}").encode())
    made = plan(spec, replace(settings, data_dir=tmp_path), store).carry_out(
        files.Listener(), store, settings.state_dir / "data"
    )
    kept = {part.name: part.kept for part in made.parts}
    assert [name for name, n in kept.items() if not n] == ["beavertails"], "its only request was MaliciousInstruct's"
    assert {part.licence for part in made.parts} >= {"MIT", "CC-BY-NC-4.0", "ODC-BY", ""}
