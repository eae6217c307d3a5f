"""The viewer without a browser: what its pages hold, what its server refuses, how samples are found."""

import http.client
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lrm_safety import jsonl, stats
from lrm_safety.errors import Conflict
from lrm_safety.nouns import BenchmarkSpec, BenchSpec, Cell, Completion, Decision, Record, Run, Scorecard
from lrm_safety.report.finding import Finder, Wanted
from lrm_safety.report.server import ViewServer
from lrm_safety.report.tradeoff import models_of, pareto, rate_of
from lrm_safety.report.viewer import Viewer
from lrm_safety.store.files import FileStore
from tests.report.made_store import bench, fill, records
from tests.report.sample_outcome import SECRET

RECIPE = "recipe-0000000000000003"
PAIR = f"/flips?baseline={bench(4)}&candidate={bench(7)}"
DATASET = f"/datasets/safe_mix@{'2' * 16}"
ADDRESSES = (
    *("/", "/pareto", "/datasets", DATASET, "/cost", PAIR),
    *(f"/runs/{RECIPE}", f"/runs/{bench(2)}", f"/samples/{bench(2)}"),
)
PLACES = (("a", "none", 80), ("a", "prefill", 80), ("b", "none", 20))


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Viewer:
    folder = tmp_path_factory.mktemp("viewer")
    store = FileStore(folder / "store")
    fill(store)
    return Viewer(store, folder / "view")


@pytest.fixture(scope="module")
def server(viewer: Viewer) -> Iterator[ViewServer]:
    with ViewServer(viewer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server: ViewServer, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    text = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, text, headers)
    answer = connection.getresponse()
    said = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return said


def finder(viewer: Viewer, *runs: str) -> Finder:
    made = viewer.library.finder(list(runs))
    viewer.library.unread(made)
    viewer.library.wait()
    return made


@pytest.mark.parametrize("path", ADDRESSES)
def test_pages_forbid_everything_but_themselves(server: ViewServer, path: str) -> None:
    status, headers, text = ask(server, path)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert SECRET not in text and "Friendly question" not in text, "a page is whole before a sample's text is read"
    assert not re.search(r'(?:src|href|action)="(?!/|#|data:,)', text), "only addresses of its own"


def test_a_dataset_is_told_in_numbers(server: ViewServer) -> None:
    """The newest of a name, or one version; and a run's page leads to it."""
    _, _, text = ask(server, "/datasets/safe_mix")
    assert text == ask(server, DATASET)[2] and DATASET in ask(server, f"/runs/{RECIPE}")[2]
    said = " ".join(re.sub("<[^>]*>", " ", text).split())
    for words in (
        *("Examples 1,000, 3 bad rows skipped", "read 2 not JSON, 1 duplicate id −3 1,000", "Illicit 381 38.1 %"),
        *("before → after: none 610 → 610, vacillates 375 → 350", "Mean 312.4, 90th percentile 690"),
        *("strongreject 0 of 1,000 prompts; 2 taken out before", "aime24 not compared: there is no file"),
    ):
        assert words in said
    listed = " ".join(re.sub("<[^>]*>", " ", ask(server, "/datasets")[2]).split())
    assert "safe_mix@22222222 1,000 312 Apache-2.0 2 xstest" in listed
    assert ask(server, "/datasets/nothing")[0] == 404 and ask(server, "/datasets/a/b")[0] == 400


def test_strangers_get_nothing(server: ViewServer) -> None:
    status, headers, text = ask(server, "/", Host="rebound.example")
    assert status == 400 and "smollm2" not in text and "Access-Control-Allow-Origin" not in headers
    with pytest.raises(Conflict, match="--port"):
        ViewServer(server.viewer, server.server_port)
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nowhere", 404), ("/runs/../x", 400), ("/runs/%2e%2e", 400), ("/runs/bench-none", 404), ("/flips", 400)],
)
def test_wrong_addresses_are_told_so(server: ViewServer, path: str, status: int) -> None:
    assert ask(server, path)[0] == status


@pytest.mark.parametrize("body", [b"{", b"[]", {"runs": []}, {"runs": ["../x"]}, {"runs": [bench(1)], "start": -1}])
def test_wrong_questions_are_told_so(server: ViewServer, body: Any) -> None:
    assert ask(server, "/samples/find", body)[0] == 400


def test_nothing_is_logged(server: ViewServer, capfd: pytest.CaptureFixture[str]) -> None:
    ask(server, "/samples/find", {"runs": [bench(1)], "text": SECRET})
    assert capfd.readouterr() == ("", "")


def test_the_overview_leads_to_every_decision(viewer: Viewer) -> None:
    text = viewer.overview()
    assert [f"/runs/recipe-{i:016x}" in text for i in range(1, 8)] == [True] * 7
    text = text.partition("<tbody>")[2]
    assert text.index("smollm2-safe@88888888") < text.index("smollm2-safe@22222222"), "newest first"
    assert "11.5 %</strong>" in text and "[6.6, 19.2]" in text and "n 200" in text and "4 invalid" in text


def test_a_decision_between_two_runs_has_a_page(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    fill(store)
    decision = Decision(run=bench(2), outcome=2, baseline_run=bench(1), candidate_run=bench(2), reasons=["too little"])
    store.write(f"runs/{bench(2)}/decision.json", jsonl.dumps(decision).encode())
    text = Viewer(store, tmp_path / "view").run(bench(2))
    assert "BLOCK" in text and "too little" in text and bench(1) in text


def test_every_sample_is_found_once(viewer: Viewer) -> None:
    found, made = finder(viewer, bench(7)), {record.key: record for record in records(7)}
    keys = [s["key"] for start in range(0, 360, 20) for s in found.find(Wanted(), start).samples]
    assert sorted(keys) == sorted(made) and len(keys) == 340
    sample = found.find(Wanted(text="math500-007")).samples[0]
    assert sample["sides"]["baseline"]["answer"] == made[sample["key"]].completion.answer


def test_filters_count_what_is_there(viewer: Viewer) -> None:
    found, made = finder(viewer, bench(7)), list(records(7))
    invalid = sum(bool(record.verdicts[0].invalid) for record in made)
    cut = sum(record.completion.finish_reason == "length" for record in made)
    refused = sum(record.verdicts[0].label == "refusal" and record.attack == "prefill" for record in made)
    assert found.find(Wanted(label="invalid")).total == invalid > 0
    assert found.find(Wanted(label="truncated")).total == cut > 0
    assert found.find(Wanted(label="=refusal", attack="prefill")).total == refused > 0
    assert found.find(Wanted(benchmark="xstest", text="TUNE A GUITAR")).total == 13
    assert found.find(Wanted(text='"benchmark"')).total == 0, "what is ours in the stored line is not searched"
    assert found.find(Wanted(label="=no such")).total == 0


def test_flips_are_those_of_the_verdicts(viewer: Viewer) -> None:
    found = finder(viewer, bench(4), bench(7))
    sides = [{r.key: r.verdicts[0] for r in records(number)} for number in (4, 7)]
    changed = [key for key in sides[0] if sides[0][key].label != sides[1][key].label]
    answer = found.find(Wanted(flip="changed"))
    assert answer.total == len(changed) and {s["key"] for s in answer.samples} <= set(changed)
    assert {s["flip"] for s in found.find(Wanted()).samples} <= {"worse", "better"}, "changes come first"
    assert sum(number for *_, number in found.flips()) == 340
    refused_now = found.find(Wanted(flip="better", label="=refusal", model="candidate"))
    assert refused_now.total > 0 == found.find(Wanted(flip="better", label="=refusal", model="baseline")).total


def test_many_who_ask_at_once_make_one_pairing(viewer: Viewer) -> None:
    made = finder(viewer, bench(5), bench(6))
    counts: list[int] = []

    def ask_first() -> None:
        made.settle()
        counts.append(made.find(Wanted()).every)

    threads = [threading.Thread(target=ask_first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [340] * 8


def test_an_error_gives_way_to_a_later_completion(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    first, second = (next(records(1)) for _ in range(2))
    first.completion.CopyFrom(Completion(error="the engine is gone"))
    _put(store, [first], [second])
    found = finder(Viewer(store, tmp_path / "view"), "bench-x")
    assert found.find(Wanted()).samples[0]["sides"]["baseline"]["error"] == ""
    assert found.find(Wanted()).total == 1


def test_the_index_is_kept_grows_and_is_made_anew(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    every = list(records(1))
    _put(store, every[:10])
    assert finder(Viewer(store, tmp_path / "view"), "bench-x").find(Wanted()).every == 10
    store.write("runs/bench-x/parts/000002-000000.jsonl.zst", jsonl.pack(every[10:15]))
    assert finder(Viewer(store, tmp_path / "view"), "bench-x").find(Wanted()).every == 15
    store.delete("runs/bench-x/parts/000001-000000.jsonl.zst")
    assert finder(Viewer(store, tmp_path / "view"), "bench-x").find(Wanted()).every == 5, "a run that was made anew"
    (tmp_path / "view" / "bench-x.sqlite").write_bytes(b"not an index")
    assert finder(Viewer(store, tmp_path / "view"), "bench-x").find(Wanted()).every == 5


def test_the_frontier_is_of_those_that_nobody_beats(viewer: Viewer) -> None:
    models = models_of(viewer.shelf.outcomes())
    assert len(models) == 8
    plot = pareto(models, "reasoning")
    assert plot and [dot.title.split("@")[1][:8] for dot in plot.dots if dot.is_best] == ["88888888"]
    assert pareto([], "reasoning") is None


def _put(store: FileStore, *parts: list[Record]) -> None:
    store.write("runs/bench-x/spec.json", jsonl.dumps(Run(id="bench-x", kind="bench")).encode())
    for number, part in enumerate(parts):
        store.write(f"runs/bench-x/parts/00000{number + 1}-000000.jsonl.zst", jsonl.pack(part))


def test_attacks_and_repeats_of_one_sample_are_no_more_samples() -> None:
    """40 samples twice under two attacks and 20 others: 60, not 180."""
    spec = BenchSpec(benchmarks=[BenchmarkSpec(benchmark="a", repeats=2), BenchmarkSpec(benchmark="b")])
    cells = [Cell(benchmark=b, attack=attack, role="harm", n=n, value=0.5) for b, attack, n in PLACES]
    rate = rate_of(Scorecard(spec=spec, cells=cells), "harm")
    assert rate is not None
    assert (rate.value, rate.n, (rate.low, rate.high)) == (0.5, 180, stats.wilson(30, 60))
    assert rate_of(Scorecard(spec=spec, cells=cells), "reasoning") is None
