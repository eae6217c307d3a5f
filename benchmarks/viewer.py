"""How long until the viewer shows the first rows of a run with 100,000 samples, and what comes after?

    .venv/bin/python -m benchmarks.viewer [--samples 100000]

Two bench runs of made-up samples (2,400 letters each) in parts of 64, as the service writes them, and a real Chromium.
Cold: no index is there, the page is asked for and its first rows are waited for. Then, with both runs indexed: the same
page again, its next 20 rows, a filter, and a search through every text.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from lrm_safety import jsonl
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    Completion,
    JudgeSpec,
    Prompt,
    Record,
    Run,
    RunSpec,
    Sample,
    ThinkState,
    Verdict,
    user,
)
from lrm_safety.report.server import ViewServer
from lrm_safety.report.viewer import Viewer
from lrm_safety.store import ObjectStore
from lrm_safety.store.files import FileStore
from tests.report.chromium import PROGRAM

RUNS = {"bench-0000000000000001": 0.5, "bench-0000000000000002": 0.3}  # -> share of harmful answers
BENCHMARKS = ("strongreject", "jailbreakbench", "advbench", "xstest_unsafe")
WORDS = "the lid is stuck so warm water helps because metal widens sooner than glass then turn it slowly"
PART = 64
LONGEST_MS = 120_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    samples = parser.parse_args().samples
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        store = FileStore(folder / "store")
        for seed, (run, rate) in enumerate(RUNS.items()):
            write(store, run, rate, samples, seed)
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        first, second = RUNS
        look(store, folder / "one", browser.new_page(), f"samples/{first}", f"one run, {samples:,} samples")
        look(store, folder / "two", browser.new_page(), f"flips?baseline={first}&candidate={second}", "two runs")
        browser.close()


def look(store: ObjectStore, indexes: Path, page: Page, address: str, name: str) -> None:
    viewer = Viewer(store, indexes)
    with ViewServer(viewer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = server.url + address
        page.goto("data:text/html,ready")
        found = {"first rows, cold": clock(lambda: show(page, url))}
        found["indexed"] = clock(viewer.library.wait)
        found["again"] = clock(lambda: show(page, url))
        found["next rows"] = clock(lambda: change(page, lambda: page.click("#next")))
        found["filter"] = clock(lambda: change(page, lambda: page.select_option("[name=benchmark]", BENCHMARKS[1])))
        found["search"] = clock(lambda: change(page, lambda: page.fill("[name=text]", f"{BENCHMARKS[1]}-000121")))
        server.shutdown()
    print(f"{name}: {', '.join(f'{what} {seconds:.2f} s' for what, seconds in found.items())}")


def clock(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def show(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector(".sample", timeout=LONGEST_MS)


def change(page: Page, act: Callable[[], object]) -> None:
    """Until the line that says which rows are shown is another."""
    before = page.inner_text("#place")
    act()
    expect(page.locator("#place")).not_to_have_text(before, timeout=LONGEST_MS)


def write(store: ObjectStore, run: str, rate: float, samples: int, seed: int) -> None:
    benchmarks = [BenchmarkSpec(benchmark=name, judges=[JudgeSpec(judge="refusal")]) for name in BENCHMARKS]
    spec = RunSpec(bench=BenchSpec(endpoint="made-up", benchmarks=benchmarks))
    asked = Run(id=run, kind="bench", spec=spec, created_at=time.time())
    store.write(f"runs/{run}/spec.json", jsonl.dumps(asked).encode())
    order = list(range(samples))
    random.Random(0).shuffle(order)
    rows = records(order, rate, seed)
    for part in range(-(-samples // PART)):
        some = [record for _, record in zip(range(PART), rows, strict=False)]
        store.write(f"runs/{run}/parts/000001-{part:06d}.jsonl.zst", jsonl.pack(some))


def records(order: list[int], rate: float, seed: int) -> Iterator[Record]:
    rng, words = random.Random(seed), WORDS.split()
    for number in order:
        name = BENCHMARKS[number % len(BENCHMARKS)]
        id_, is_harmful = f"{name}-{number:06d}", rng.random() < rate
        label = "compliance" if is_harmful else "refusal"
        asked = [user(f"Question {number}: how is a jar opened?")]
        yield Record(
            key=f"{name}/none/{id_}/0",
            benchmark=name,
            attack="none",
            role="harm",
            sample=Sample(id=id_, messages=asked),
            prompt=Prompt(messages=asked),
            completion=Completion(
                thinking=" ".join(rng.choices(words, k=350)),
                answer=" ".join(rng.choices(words, k=120)),
                think_state=ThinkState.THINK_STATE_CLOSED,
                finish_reason="stop",
            ),
            verdicts=[Verdict(judge="refusal", label=label, value=float(not is_harmful), measure="refusal")],
        )


if __name__ == "__main__":
    main()
