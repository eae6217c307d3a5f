"""How many samples a second does the platform itself carry, when the engine answers at once?

    .venv/bin/python -m benchmarks.harness [--samples 2000] [--runs 3]

One process hosts inference, judge and bench; an OpenAI-compatible server in another answers every request at once. Each
run evaluates fresh samples (none cached), from RunBenchmarks to the scorecard: generation, judging, commits and all.
"""

import argparse
import csv
import multiprocessing
import socket
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lrm_safety import serving
from lrm_safety.clients import Clients, rpc
from lrm_safety.nouns import BenchmarkSpec, BenchSpec, DeployRequest, GetScorecardRequest, RunBenchmarksRequest
from lrm_safety.pipeline import follow
from lrm_safety.settings import SERVICES, Settings
from services.bench import service as bench
from services.inference import service as inference
from services.judge import service as judge
from tests.conftest import free_ports
from tests.fakes.scripted_engine import ScriptedEngine

HOSTED = {"inference": inference.register, "judge": judge.register, "bench": bench.register}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    port = free_ports(1)[0]
    engine = multiprocessing.get_context("spawn").Process(target=answer_at_once, args=(port,), daemon=True)
    engine.start()
    wait_for(port)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), f"http://127.0.0.1:{port}/v1", options.samples, options.runs)
    engine.terminate()
    print(
        f"{options.samples} samples a run, {options.runs} runs: {', '.join(f'{rate:.0f}' for rate in rates)} samples/s"
    )
    print(f"median {statistics.median(rates):.0f} samples/s")


def measure(folder: Path, url: str, samples: int, runs: int) -> list[float]:
    addresses = dict(zip(SERVICES, (f"127.0.0.1:{port}" for port in free_ports(len(SERVICES))), strict=True))
    settings = replace(
        Settings(), store=f"file://{folder}/store", state_dir=folder / "state", addresses=addresses,
        metrics_ports=dict.fromkeys(SERVICES, 0),
    )  # fmt: skip
    servers = [serving.start(name, register, settings) for name, register in HOSTED.items()]
    clients = Clients(settings)
    rpc(clients.inference.Deploy, DeployRequest(name="instant", url=url, model="scripted"))
    rates = [one(clients, write(folder / f"{number}.csv", number, samples)) for number in range(runs)]
    clients.close()
    for server in servers:
        server.stop(0).wait()
    return rates


def one(clients: Clients, path: Path) -> float:
    spec = BenchSpec(endpoint="instant", benchmarks=[BenchmarkSpec(benchmark="strongreject", path=str(path))])
    started = time.perf_counter()
    run = follow(
        clients, "bench", lambda: rpc(clients.bench.RunBenchmarks, RunBenchmarksRequest(spec=spec)), lambda _: None
    )
    seconds = time.perf_counter() - started
    (cell,) = rpc(clients.bench.GetScorecard, GetScorecardRequest(run=run.id)).cells
    assert cell.invalid == 0
    return cell.n / seconds


def write(path: Path, number: int, samples: int) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("category", "source", "forbidden_prompt"))
        rows.writerows(("none", "made", f"Request {index} of run {number}") for index in range(samples))
    return path


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"the engine did not listen on port {port} within 30 s")


def answer_at_once(port: int) -> None:
    engine = ScriptedEngine(port=port)
    engine.reply = lambda messages: "<think>\nNo.\n</think>\n\nI'm sorry, but I can't help with that."
    time.sleep(3600)


if __name__ == "__main__":
    main()
