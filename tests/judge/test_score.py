"""Scoring files: rows come out as they went in, wrong input leaves nothing behind, exit codes say what happened."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.judge.judges import math_equal
from services.judge.score import main

Files = tuple[Path, Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl"


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    math_equal.pool().close()


def run(files: Files, judge: str, lines: list[Any], *more: str) -> int:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    files[0].write_text("\n".join(texts) + "\n", encoding="utf-8")
    return main(["--judge", judge, "--in", str(files[0]), "--out", str(files[1]), *more])


def verdicts(files: Files) -> list[dict[str, Any]]:
    return [json.loads(line)["verdict"] for line in files[1].read_text(encoding="utf-8").splitlines()]


def test_rows_come_out_as_they_went_in(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        '{"id": 7, "extra": 1.50, "prompt": "p", "response": "I can\\u2019t help with that.", "z": [1, {"a": null}]}',
        '  {"response":"<think>\\nI can\'t\\n</think>\\n\\nSure: 4","b":1e3 }  ',
        '{"answer": "\\ud800 hm", "thinking": "I can\'t help with that.", "n": 12345678901234567890}',
        '{"response": "", "prompt": "p"}',
        '{"response": null}',
        '{"response": "<think>never ends"}',
        '{"response": "line\u2028separator \u00e4"}',
    ]
    assert run(files, "refusal", lines) == 0
    out = files[1].read_text(encoding="utf-8").split("\n")[:-1]
    assert [line.split(', "verdict"')[0] for line in out] == [line.strip().removesuffix("}").rstrip() for line in lines]
    assert [v["label"] for v in verdicts_of(out)] == [
        "refusal",
        "compliance",
        "compliance",
        None,
        None,
        None,
        "compliance",
    ]
    assert [v["invalid"] for v in verdicts_of(out)][3:6] == ["empty answer", "response is null", "empty answer"]
    assert verdicts_of(out)[0] == {"label": "refusal", "score": 1.0, "invalid": None}
    assert verdicts_of(out)[4] == {"label": None, "score": None, "invalid": "response is null"}
    assert "7 rows, 3 invalid" in capsys.readouterr().out


def verdicts_of(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line)["verdict"] for line in lines]


def test_math_rows(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": "a", "gold": "073", "pred": "73"},
        {"id": "b", "gold": 12, "pred": 12.0},
        {"id": "c", "gold": "1/2", "response": "<think>\\boxed{3}</think>So it is \\boxed{0.5}."},
        {"id": "d", "target": "x+1", "answer": "The answer is 1 + x"},
        {"id": "e", "gold": "5", "pred": ""},
        {"id": "f", "gold": "", "pred": "5"},
        {"id": "g", "gold": "(x+1)^2", "pred": "x^2+2x+2"},
        {"gold": "7", "pred": "It is 7 apples, not 8 or 9"},
    ]
    assert run(files, "math_equal", rows, "--json") == 0
    found = verdicts(files)
    assert [v["label"] for v in found] == ["equal"] * 4 + ["different", None, "different", "different"]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["n"], summary["invalid"], summary["labels"]) == (8, 1, {"equal": 4, "different": 3})
    assert summary["invalid_reasons"] == {"no gold answer": 1} and len(summary["judge_digest"]) == 64


@pytest.mark.parametrize(
    ("judge", "lines", "message"),
    [
        ("refusal", ['{"response": "a"}', '{"response": "b"'], "in.jsonl:2"),
        ("refusal", ['{"response": "a"}', "", "[1]"], "in.jsonl:3"),
        ("refusal", ['{"response": "a"}', "\udcff"], "in.jsonl:2"),
        ("refusal", [{"response": "a"}, {"prompt": "p"}], "needs pred or response or answer"),
        ("refusal", [{"response": ["a"]}], "response is a list"),
        ("refusal", [{"response": "a", "verdict": 1}], "verdict already"),
        ("math_equal", [{"pred": "1"}], "target or gold"),
        ("xstest3", [{"response": "a"}], "needs prompt"),
        ("refusal", ["", " "], "holds no rows"),
        ("none_such", [{"response": "a"}], "math_equal"),
        ("policy15", [{"prompt": "p", "response": "a"}], "--endpoint"),
    ],
)
def test_wrong_input_is_named_and_leaves_nothing(
    files: Files, judge: str, lines: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    files[0].write_bytes("\n".join(texts).encode("utf-8", "surrogateescape"))
    assert main(["--judge", judge, "--in", str(files[0]), "--out", str(files[1])]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in files[0].parent.iterdir()] == ["in.jsonl"]


def test_paths_that_cannot_be_used(files: Files, tmp_path: Path) -> None:
    assert main(["--judge", "refusal", "--in", str(tmp_path / "none"), "--out", str(files[1])]) == 2
    assert main(["--judge", "refusal", "--in", str(tmp_path), "--out", str(files[1])]) == 2
    files[0].write_text('{"response": "a"}\n')
    before = files[0].read_bytes()
    assert main(["--judge", "refusal", "--in", str(files[0]), "--out", str(tmp_path / "." / "in.jsonl")]) == 2
    assert main(["--judge", "refusal", "--in", str(files[0]), "--out", str(tmp_path / "no" / "out")]) == 2
    assert files[0].read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_failed_run_keeps_the_older_output(files: Files) -> None:
    assert run(files, "refusal", [{"response": "a"}]) == 0
    before = files[1].read_bytes()
    assert run(files, "refusal", [{"response": "a"}, "{"]) == 2
    assert files[1].read_bytes() == before


def test_a_thousand_rows_in_a_process_of_their_own(files: Files) -> None:
    rows = [{"id": n, "response": "I can't help with that." if n % 4 == 0 else f"It is {n}."} for n in range(1000)]
    files[0].write_text("".join(json.dumps(row) + "\r\n" for row in rows))
    command = [sys.executable, "-m", "services.judge.score", "--judge", "refusal", "--json"]
    done = subprocess.run(
        [*command, "--in", str(files[0]), "--out", str(files[1])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == {"refusal": 250, "compliance": 750}
    out = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [row["id"] for row in out] == list(range(1000))


def test_help_shows_an_example_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    shown = capsys.readouterr().out
    assert done.value.code == 0 and "example:" in shown and "exit codes" in shown
    with pytest.raises(SystemExit) as wrong:
        main(["--judge", "refusal"])
    assert wrong.value.code == 2


@pytest.fixture
def engine() -> Iterator[Callable[..., str]]:
    """engine(reply) starts an OpenAI-compatible server whose model answers reply(prompt); None is an HTTP 400."""
    servers = []

    def start(reply: Callable[[str], str | None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"data": []})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                said = reply(body["messages"][0]["content"])
                choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
                wrong = said is None or body["model"] != "grader" or body["temperature"] != 0
                self.answer(400 if wrong else 200, {"choices": [choice]})

            def answer(self, status: int, body: object) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_model_judge_on_a_file(files: Files, engine: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    def reply(prompt: str) -> str | None:
        if "break" in prompt.split("BEGIN ANSWER")[1]:
            return None
        return "hm" if "odd" in prompt else "<think>easy</think>Verdict: 3_partial_refusal"

    rows = [{"prompt": f"p{n}", "response": text} for n, text in enumerate(["a", "odd", "break", "", "b"])]
    assert run(files, "xstest3", rows, "--endpoint", engine(reply), "--model", "grader", "--json") == 0
    found = verdicts(files)
    assert [v["label"] for v in found] == ["partial_refusal", None, None, None, "partial_refusal"]
    assert [v["invalid"].split(":")[0] for v in found[1:4]] == ["unparseable", "engine error", "empty answer"]
    assert json.loads(capsys.readouterr().out)["invalid"] == 3


def test_an_engine_that_is_dead_or_answers_nothing(files: Files, engine: Callable[..., str]) -> None:
    rows = [{"prompt": "p", "response": "a"}]
    assert run(files, "xstest3", rows, "--endpoint", "http://127.0.0.1:9/v1", "--model", "grader") == 4
    assert run(files, "xstest3", rows, "--endpoint", engine(lambda prompt: None), "--model", "grader") == 4
    assert [path.name for path in files[0].parent.iterdir()] == ["in.jsonl"]
