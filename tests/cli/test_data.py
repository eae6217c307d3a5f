"""lrm data through the real service: built, shown, compared, inspected, exported; no text that was not asked for."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrm_safety import artefacts
from lrm_safety.cli import app, data
from lrm_safety.clients import Clients
from lrm_safety.errors import InvalidInput, LrmError, NotFound
from lrm_safety.nouns import Checkpoint
from lrm_safety.store import ObjectStore
from services.data import service
from tests.fakes import tiny_model

TEXT = "HARMFUL-WORDS"
ROWS = [
    {"id": f"r{n}", "prompt": f"{TEXT} {n} [/bold]?", "thinking": "No. " * n, "answer": "I won't.", "type": kind}
    for n, kind in enumerate(["theft", "theft", "fraud"])
]
RECIPE = """
dataset:
  name: small
  tokenizer: tiny
  parts:
    - {name: rows, builder: as_written, source: {source: jsonl, path: %s}, options: {licence: MIT}}
"""


@pytest.fixture
def lrm(
    serve: Callable, clients: Clients, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs `lrm data …` here, against a data service of its own with one tokenizer."""
    serve("data", service.register)
    (tmp_path / "tiny").mkdir()
    tiny_model.write_tokenizer(tmp_path / "tiny")
    artefacts.publish(store, "checkpoints", tmp_path / "tiny", Checkpoint(name="tiny"))

    @contextmanager
    def connected(settings: object) -> Iterator[Clients]:
        yield clients

    monkeypatch.setattr(data, "connected", connected)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> str:
        done = CliRunner().invoke(app, ["data", *map(str, words)])
        if done.exception:
            raise done.exception
        lines = done.output.splitlines()
        return "\n".join(line for line in lines if "module=" not in line)  # the service logs beside us here

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    lines = [json.dumps(row) for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines[:2], '{"prompt": "' + TEXT, lines[2]]))
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE % (tmp_path / "rows.jsonl"))
    return path


def said(done: str) -> list[str]:
    return [" ".join(line.split()) for line in done.splitlines()]


def test_a_bad_row_is_a_failure_or_a_count(lrm: Callable, recipe: Path) -> None:
    with pytest.raises(LrmError, match=r"rows\.jsonl, line 3: it is not JSON") as error:
        lrm("build", recipe)
    assert TEXT not in str(error.value)
    lines = said(lrm("build", recipe, "--on-bad-row", "skip"))
    assert "examples 3, 1 bad rows skipped" in lines and "read 3 1 not JSON" in lines
    with pytest.raises(InvalidInput, match="on_bad_row is 'ignore'; expected fail or skip"):
        lrm("build", recipe, "--on-bad-row", "ignore")


def test_show_says_numbers_and_no_text(lrm: Callable, recipe: Path) -> None:
    lrm("build", recipe, "--on-bad-row", "skip")
    shown = lrm("show", "small")
    lines = said(shown)
    assert TEXT not in shown and TEXT not in lrm("show", "small", "--json")
    assert "licence MIT" in lines and "rows 100.0 % of the dataset, MIT" in lines
    assert "theft 2 66.7 %" in lines and "fraud 1 33.3 %" in lines
    assert any(
        line.startswith("response tokens mean 30.3, 90th percentile 33, longest 34; 91 in all (tiny@") for line in lines
    ), shown
    told = json.loads(lrm("show", "small", "--tokenizer", "tiny", "--json"))
    assert told["bad_rows"] == 1 and sum(told["response_tokens"]["histogram"]) == 3
    (listed,) = json.loads(lrm("list", "--json"))
    assert listed["digest"] == told["digest"]


def test_inspect_shows_one_example_that_is_asked_for(lrm: Callable, recipe: Path) -> None:
    lrm("build", recipe, "--on-bad-row", "skip")
    assert f"{TEXT} 1 [/bold]?" in lrm("inspect", "small", "rows/r1")
    shown = lrm("inspect", "small", "rows/r1", "--tokens", "--thinking", "none")
    rows = [line.split(maxsplit=2) for line in said(shown)]
    trained = [row[-1].split(" ", 1)[1] for row in rows if row[1:2] == ["yes"]]
    assert trained == [*map(repr, "I won't."), "'<|im_end|>'"]
    told = json.loads(lrm("inspect", "small", "rows/r1", "--tokens", "--json"))
    assert "".join(each["text"] for each in told["tokens"] if each.get("is_trained")).startswith("<think>\nNo.")
    with pytest.raises(NotFound, match="has no example 'rows/r9'"):
        lrm("inspect", "small", "rows/r9")


def test_diff_tells_ids_and_shares(lrm: Callable, recipe: Path, tmp_path: Path) -> None:
    lrm("build", recipe, "--on-bad-row", "skip")
    first = json.loads(lrm("show", "small", "--json"))["digest"]
    changed = [ROWS[0], {**ROWS[1], "answer": "No."}, {**ROWS[2], "id": "r7"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, changed)))
    lrm("build", recipe)
    shown = lrm("diff", f"small@{first}", "small")
    assert TEXT not in shown
    assert "ids 1 added, 1 removed, 1 changed, 1 the same" in said(shown)
    assert {"rows/r7 added", "rows/r2 removed", "rows/r1 changed", "theft 2 (66.7 %) 2 (66.7 %)"} <= set(said(shown))
    told = json.loads(lrm("diff", f"small@{first}", "small", "--json"))["changes"]
    assert sorted(each["change"] for each in told) == ["added", "changed", "removed"]


def test_export(lrm: Callable, recipe: Path, tmp_path: Path) -> None:
    lrm("build", recipe, "--on-bad-row", "skip")
    done = lrm("export", "small", "--to", "jsonl", "--out", tmp_path / "out", "--thinking", "empty")
    assert said(done) == [str(tmp_path / "out" / "small.jsonl")] and TEXT not in done
    rows = [json.loads(line) for line in (tmp_path / "out" / "small.jsonl").read_text().splitlines()]
    assert {row["messages"][1]["content"] for row in rows} == {"<think>\n\n</think>\n\nI won't."}
    with pytest.raises(NotFound, match="there are: jsonl, parquet, huggingface"):
        lrm("export", "small", "--to", "xml", "--out", tmp_path / "out")
