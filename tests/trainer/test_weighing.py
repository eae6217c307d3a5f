"""What an import asks for: by what its weights weigh, the same whenever it is asked; and the weights loaded once."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import PreTrainedModel

from lrm_safety.errors import Corrupt
from lrm_safety.jobs import JobState, JobStatus
from lrm_safety.jobs.machine import Machine, detect
from lrm_safety.nouns import Run, RunSpec, TrainingSpec
from services.trainer import import_worker, service, weighing
from services.trainer.attempt import Attempt, Interrupted
from services.trainer.jobs import import_job
from services.trainer.ledger import Ledger
from services.trainer.origins import Origin
from services.trainer.weighing import decide_gib, is_short, needed_gib

GIB = 2**30
SHARDS = {"model-1.safetensors": 10 * GIB, "model-2.safetensors": 4 * GIB}


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


@pytest.fixture
def hub(monkeypatch):
    """hub(sizes) is what the hub says from now on, or raises; returns the questions it was asked."""

    def script(sizes: dict[str, int | None] | Exception) -> list[tuple[str, str | None]]:
        asked = []

        def model_info(self, name, *, revision, files_metadata, timeout):
            asked.append((name, revision))
            assert files_metadata and timeout <= 10
            if isinstance(sizes, Exception):
                raise sizes
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in sizes.items()])

        monkeypatch.setattr(weighing.HfApi, "model_info", model_info)
        return asked

    return script


def test_what_files_weigh(tmp_path, monkeypatch):
    for name, size in {**SHARDS, "pytorch_model.bin": 50 * GIB}.items():
        sparse(tmp_path / "folder" / name, size)
    assert needed_gib(Origin("folder", str(tmp_path / "folder")), is_offline=True) == 17  # 1.5 + 1.1 * 14
    sparse(tmp_path / "small" / "model.safetensors", 1)
    assert needed_gib(Origin("folder", str(tmp_path / "small")), is_offline=True) == 3
    assert needed_gib(Origin("folder", str(tmp_path / "none")), is_offline=True) is None
    assert needed_gib(Origin("package", "no-such-package"), is_offline=True) is None
    sparse(tmp_path / "model.gguf", GIB)
    monkeypatch.setattr(weighing, "find_in_package", lambda package: tmp_path / "model.gguf")
    assert needed_gib(Origin("package", "any"), is_offline=True) == 18  # 1.5 + 16


def test_what_the_hub_says(hub):
    asked = hub({**SHARDS, "original/model.safetensors": 50 * GIB, "model.gguf": GIB, "config.json": None})
    assert needed_gib(Origin("hub", "a/b@v1"), is_offline=False) == 17
    assert needed_gib(Origin("hub", "a/b"), is_offline=True) is None
    assert asked == [("a/b", "v1")]
    for says in (OSError("no route"), RuntimeError("odd"), {"model.safetensors": None}, {}):
        hub(says)
        assert needed_gib(Origin("hub", "a/b"), is_offline=False) is None


def test_an_attempt_asks_for_the_same_whatever_is_known_later(store):
    ledger, answers = Ledger(store, "import-1"), iter([None, 17.0])

    def ask(attempt, was_killed, most_gib=100):
        return decide_gib(ledger, attempt, lambda: next(answers), was_killed, most_gib)

    assert ask(1, was_killed=False) == ask(1, was_killed=True, most_gib=1) == 3
    assert [ask(2, was_killed=False), ask(3, was_killed=True), ask(4, was_killed=True)] == [17, 68, 100]


def test_unknown_weights_get_four_times_as_much_after_a_kill(store):
    asked = [decide_gib(Ledger(store, "import-1"), n, lambda: None, n > 1, most_gib=30) for n in (1, 2, 3)]
    assert asked == [3, 12, 30]
    job = import_job(Run(id="import-1", spec=RunSpec(training=TrainingSpec())), asked[1], 2, detect())
    assert (job.id, job.memory_gib) == ("import-1-2", 12)


def test_a_job_that_knows_more_leaves_it_to_the_next_attempt(store):
    ledger = Ledger(store, "import-1")
    assert decide_gib(ledger, 1, lambda: None, was_killed=False, most_gib=10) == 3
    assert not is_short(ledger, lambda: None, has_gib=3)
    assert is_short(ledger, lambda: 17.0, has_gib=3)
    assert decide_gib(ledger, 2, lambda: None, was_killed=False, most_gib=10) == 10
    assert not is_short(ledger, lambda: 17.0, has_gib=10)  # all that there is: it is tried


@pytest.fixture
def loads(monkeypatch):
    """The folders that models were loaded from."""
    seen, load = [], PreTrainedModel.from_pretrained.__func__

    def note(kind, folder, *more, **named):
        seen.append(Path(folder).name)
        return load(kind, folder, *more, **named)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(note))
    return seen


def test_a_folder_is_loaded_once(bench, tiny_folder, loads):
    asked = RunSpec(training=TrainingSpec(name="mine", base=str(tiny_folder)))
    ledger = Ledger(bench.store, "import-1")
    import_worker.work(Attempt(Run(id="import-1", spec=asked), bench.settings, bench.store, ledger))
    assert ledger.read_result().name == "mine"
    assert loads == ["folder"]


def test_what_was_dequantised_is_compared(tiny_folder):
    state = import_worker._load(tiny_folder, import_worker.AutoModelForCausalLM).state_dict()
    import_worker._verify(tiny_folder, False, state)
    with pytest.raises(Corrupt, match=r"model\.norm\.weight"):
        import_worker._verify(tiny_folder, False, {**state, "model.norm.weight": state["model.norm.weight"] + 1})


def test_too_little_memory_ends_before_anything_is_fetched(bench, hub, monkeypatch):
    hub({"model.safetensors": 2**50})
    monkeypatch.setattr(import_worker, "download", pytest.fail)
    run = Run(id="import-1", spec=RunSpec(training=TrainingSpec(name="mine", base="hub:a/b")))
    with pytest.raises(Interrupted):
        import_worker.work(Attempt(run, bench.settings, bench.store, Ledger(bench.store, "import-1")))


def test_the_service_asks_for_more_only_after_a_kill(bench):
    trainer = service.TrainerService(bench.settings)
    run = Run(id="import-1", spec=RunSpec(training=TrainingSpec(base="hub:a/b")))
    ends = {"import-1-1": (JobState.FAILED, 75), "import-1-2": (JobState.FAILED, 137)}
    trainer._is_offline = True
    trainer._runner = SimpleNamespace(
        machine=lambda: Machine(2, 64.0), status=lambda job: JobStatus(job, *ends.get(job, (JobState.CANCELLED, 137)))
    )
    assert [trainer._import_job(run, attempt).memory_gib for attempt in (1, 2, 3, 4)] == [3, 3, 12, 3]
