"""The real worker as a subprocess: it learns, survives SIGKILL with the same losses, refuses what would be wrong."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lrm_safety import artefacts
from lrm_safety.chat import ChatTemplate
from lrm_safety.nouns import Checkpoint
from lrm_safety.store import ObjectStore
from services.trainer.attempt import EXIT_INTERRUPTED, EXIT_INVALID_INPUT
from services.trainer.ledger import Ledger
from services.trainer.resume import ResumePoints
from tests.trainer.conftest import Bench, make_bench, write_model, write_tokenizer

LONG = {"epochs": 20, "save_every_steps": 10}  # 60 steps


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[tuple[Bench, Ledger]]:
    """A run that nothing disturbed."""
    bench = make_bench(tmp_path_factory.mktemp("finished"), tiny_folder)
    ledger, code, output = bench.train(bench.spec(**LONG))
    assert code == 0, output
    yield bench, ledger


def losses(ledger: Ledger) -> list[tuple[int, float]]:
    return [(row.step, row.loss) for row in ledger.read_metrics()]


def test_loss_falls_and_every_step_is_logged(finished):
    rows = list(finished[1].read_metrics())
    assert [row.step for row in rows] == list(range(1, 61))
    assert rows[-1].loss < 0.5 * rows[0].loss
    assert rows[-1].token_accuracy > rows[0].token_accuracy + 0.3
    assert rows[-1].epoch == pytest.approx(20)
    assert [rows[0].learning_rate, rows[6].learning_rate] == pytest.approx([0, 3e-3])
    assert all(row.tokens_per_s > 0 and row.grad_norm > 0 for row in rows)
    progress = finished[1].read_progress()
    assert (progress.stage, progress.metrics["loss"]) == ("published", rows[-1].loss)


def test_the_checkpoint_is_a_whole_folder_with_its_history(finished, tmp_path):
    bench, ledger = finished
    result = ledger.read_result()
    assert artefacts.find(bench.store, "checkpoints", Checkpoint, "tuned") == result
    folder = artefacts.fetch(bench.store, "checkpoints", result, tmp_path)
    weights = load_file(folder / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == result.parameters
    base = artefacts.find(bench.store, "checkpoints", Checkpoint, bench.base)
    before = load_file(artefacts.fetch(bench.store, "checkpoints", base, tmp_path) / "model.safetensors")
    assert weights.keys() == before.keys()
    assert any(not weights[name].equal(before[name]) for name in weights)
    assert ChatTemplate.from_folder(folder) == ChatTemplate.from_folder(tmp_path / base.digest)
    assert (folder / "generation_config.json").is_file()
    assert (result.step, result.lineage.base, result.lineage.dataset) == (60, bench.base, bench.dataset)
    assert (ledger.read_setup().examples, result.lineage.examples, result.lineage.dropped_too_long) == (24, 24, 0)
    assert (result.lineage.training.precision, result.lineage.licence) == ("fp32", "none")


def test_nothing_is_left_but_the_result(finished):
    bench, ledger = finished
    assert not list(bench.store.list(f"runs/{ledger.run}/resume/"))
    assert not (bench.settings.state_dir / "training" / ledger.run).exists()


def test_a_killed_run_goes_on_with_the_same_losses_to_the_same_weights(finished, bench):
    ledger = bench.ask(bench.spec(**LONG))
    process = bench.start(ledger)
    while not list(bench.store.list(f"runs/{ledger.run}/resume/00000020/manifest.json")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert ledger.read_result() is None
    assert ledger.read_error(1) is None
    again, code, output = bench.train(bench.spec(**LONG), attempt=2)
    assert code == 0, output
    assert "training_resumed" in output
    assert losses(again) == losses(finished[1])
    assert again.read_result().digest == finished[1].read_result().digest


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "epochs"), [(1, 20), pytest.param(2, 30, marks=pytest.mark.long)])
def test_a_run_that_is_asked_to_stop_saves_where_it_is(finished, bench, processes, epochs):
    """As a drained node asks: between two resume points of its own. The next attempt takes no step twice."""
    spec = bench.spec(epochs=epochs, save_every_steps=1000, processes=processes, micro_batch_size=4 // processes)
    ledger = bench.ask(spec)
    process = bench.start(ledger)
    while ledger.read_progress() is None or ledger.read_progress().done < 3:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert (process.returncode == EXIT_INTERRUPTED) == (processes == 1), output
    assert "attempt_interrupted" in output
    assert ledger.read_error(1) is None
    again, code, output = bench.train(spec, attempt=2)
    assert code == 0 and "training_resumed" in output, output
    assert [step for step, _ in losses(again)] == list(range(1, 3 * epochs + 1))
    if processes == 1:
        assert losses(again) == losses(finished[1])


def test_a_loss_that_is_not_finite_ends_the_run(bench):
    """No weights come out, the resume points stay, and the exit code says that a retry will not help."""
    spec = bench.spec(learning_rate=1.0, max_grad_norm=1e6, epochs=60, save_every_steps=1, warmup_ratio=0.0)
    spec.max_grad_norm = 0
    spec.learning_rate = 1e30
    ledger, code, output = bench.train(spec)
    assert code == EXIT_INVALID_INPUT, output
    assert "is not finite at step" in str(ledger.read_error(1))
    assert ledger.read_result() is None
    assert list(bench.store.list(f"runs/{ledger.run}/resume/00000001/manifest.json"))


@pytest.mark.long
@pytest.mark.timeout(1500)  # nine processes come and go
def test_any_rank_may_be_killed_at_any_step(tmp_path):
    """Once in the middle of a save, once after one. Resumed by as many processes the weights are those of a run that
    nothing disturbed; by another number the losses stay within 1 %."""
    folder = tmp_path / "still"
    write_model(folder, dropout=0.0)  # its random numbers are drawn by process
    write_tokenizer(folder)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, killed = (make_bench(tmp_path / name, folder) for name in ("whole", "killed"))
    two = {**LONG, "processes": 2, "zero_stage": 2, "micro_batch_size": 2}
    undisturbed, code, output = whole.train(whole.spec(**two))
    assert code == 0, output

    ledger = killed.ask(killed.spec(**two))
    saving = kill_in_a_save(killed.start(ledger), killed.store, ledger.run)
    step, rank = random.choice(range(saving + 10, 60, 10)), random.randrange(2)
    process = killed.start(ledger, attempt=2)
    while not killed.store.stat(f"runs/{ledger.run}/resume/{step:08d}/manifest.json"):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.002)
    os.kill(workers(process.pid)[rank], signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0 and ledger.read_result() is None

    alone, code, output = killed.train(
        killed.spec(**{**two, "processes": 1, "zero_stage": 0}, continues=ledger.run, name="alone")
    )
    assert code == 0 and "training_resumed" in output, output
    curve = [loss for _, loss in losses(undisturbed)]
    assert [loss for _, loss in losses(alone)] == pytest.approx(curve, rel=0.01), (step, rank)
    again, code, output = killed.train(killed.spec(**two), attempt=3)
    assert code == 0 and "training_resumed" in output, output
    assert losses(again) == losses(undisturbed), (saving, step, rank)
    assert again.read_result().digest == undisturbed.read_result().digest, (saving, step, rank)


def kill_in_a_save(launcher: subprocess.Popen[str], store: ObjectStore, run: str) -> int:
    """The step of a resume point that is begun and never complete: all processes stand still before they are killed."""
    for step in (10, 20, 30, 40):
        at = f"runs/{run}/resume/{step:08d}/"
        while not any(store.list(at)):
            assert launcher.poll() is None, launcher.stdout.read()
            time.sleep(0.001)
        tell(workers(launcher.pid), signal.SIGSTOP)
        if not store.stat(f"{at}manifest.json"):
            tell(workers(launcher.pid), signal.SIGKILL)
            launcher.communicate(timeout=120)
            assert ResumePoints(store, run).newest() < step
            return step
        tell(workers(launcher.pid), signal.SIGCONT)
    raise AssertionError("every save was complete before the processes stood still")


def tell(processes: list[int], what: signal.Signals) -> None:
    for process in processes:
        os.kill(process, what)


def workers(launcher: int) -> list[int]:
    """The processes that torchrun started."""
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]
