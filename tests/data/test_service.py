"""DataService over real gRPC: ask, follow, read; ask again; and what it refuses."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from lrm_safety import adoption, artefacts
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.jsonl import dumps
from lrm_safety.nouns import (
    BuildDatasetRequest,
    Checkpoint,
    DatasetSpec,
    GetDatasetRequest,
    ListDatasetsRequest,
    ListPluginsRequest,
    ReadExamplesRequest,
    Run,
    RunSpec,
    RunState,
    WatchRunRequest,
    reference,
)
from lrm_safety.pipeline import follow
from lrm_safety.runs import run_id
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import service
from services.data.build import plan
from tests.data.files import dataset, jsonl, part


@pytest.fixture
def data(serve: Callable, clients: Clients) -> Clients:
    serve("data", service.register)
    return clients


def built(clients: Clients, spec: DatasetSpec) -> Run:
    run = rpc(clients.data.BuildDataset, BuildDatasetRequest(spec=spec))
    *_, last = rpc_stream(clients.runs("data").WatchRun, WatchRunRequest(id=run.id), timeout_s=60)
    return last


def tokenizer(store: ObjectStore, folder: Path) -> Checkpoint:
    """A checkpoint of nothing but a tokenizer that splits at blanks and punctuation."""
    folder.mkdir()
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.enable_truncation(2)  # must not matter
    made.save(str(folder / "tokenizer.json"))
    return artefacts.publish(store, "checkpoints", folder, Checkpoint(name="tiny"))


def test_build_get_read(data: Clients, store: ObjectStore, tmp_path: Path) -> None:
    checkpoint = tokenizer(store, tmp_path / "tiny")
    rows = [{"prompt": f"{n}?", "thinking": "a " * n, "answer": "b"} for n in range(1, 11)]
    spec = dataset(part(jsonl(tmp_path / "a.jsonl.zst", rows), name="rows"))
    spec.tokenizer = "tiny"
    run = built(data, spec)
    assert run.state == RunState.RUN_STATE_DONE, run.error
    made = rpc(data.data.GetDataset, GetDatasetRequest(dataset=run.result))
    assert reference(made.name, made.digest) == run.result
    assert made.spec.tokenizer == reference("tiny", checkpoint.digest)
    tokens = made.response_tokens  # <think>, n words, </think>, 1 word
    assert (tokens.mean, tokens.max, tokens.total) == (8.5, 13, 85)
    assert tokens.p90 == pytest.approx(12.1)
    examples = list(rpc_stream(data.data.ReadExamples, ReadExamplesRequest(dataset="mix")))
    assert {each.id: each.prompt for each in examples} == {f"rows/{n}": f"{n}?" for n in range(1, 11)}
    assert len(list(rpc_stream(data.data.ReadExamples, ReadExamplesRequest(dataset="mix", limit=3)))) == 3
    assert [each.digest for each in rpc(data.data.ListDatasets, ListDatasetsRequest()).datasets] == [made.digest]


def test_asking_again_is_the_same_run_until_a_file_changes(data: Clients, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "1?", "answer": "b"}])
    first = built(data, dataset(part(path)))
    again = rpc(data.data.BuildDataset, BuildDatasetRequest(spec=dataset(part(path))))
    assert (again.id, again.result, again.epoch, again.state) == (first.id, first.result, 1, RunState.RUN_STATE_DONE)
    named = dataset(part(path, name="as_written_0"))  # the default, written down
    assert rpc(data.data.BuildDataset, BuildDatasetRequest(spec=named)).id == first.id
    jsonl(path, [{"prompt": "2?", "answer": "b"}])
    changed = built(data, dataset(part(path)))
    assert changed.id != first.id
    newest = rpc(data.data.GetDataset, GetDatasetRequest(dataset="mix"))
    assert changed.result == reference("mix", newest.digest)


def test_a_failed_build_says_why_and_can_be_asked_again(data: Clients, tmp_path: Path, store: ObjectStore) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "1?", "answer": "b"}\n{"prompt": "secret\n')
    run = built(data, dataset(part(path)))
    assert run.state == RunState.RUN_STATE_FAILED
    assert f"{path}, line 2" in run.error
    assert "secret" not in run.error
    assert built(data, dataset(part(path))).epoch == 2
    assert list(store.list("datasets/")) == []


def test_wrong_specs_are_refused_at_once(data: Clients) -> None:
    with pytest.raises(InvalidInput, match="has no `parts`"):
        rpc(data.data.BuildDataset, BuildDatasetRequest(spec=DatasetSpec(name="a")))
    with pytest.raises(NotFound, match="there is no file"):
        rpc(data.data.BuildDataset, BuildDatasetRequest(spec=dataset(part("no.jsonl"))))
    with pytest.raises(NotFound, match="no datasets match 'nothing'"):
        rpc(data.data.GetDataset, GetDatasetRequest(dataset="nothing"))
    with pytest.raises(InvalidInput, match="limit is -1"):
        list(rpc_stream(data.data.ReadExamples, ReadExamplesRequest(dataset="nothing", limit=-1)))


def test_a_flipped_byte_is_found(data: Clients, store: ObjectStore, settings: Settings, tmp_path: Path) -> None:
    run = built(data, dataset(part("harm", source="demo", count=10)))
    (key,) = [key for key in store.list("datasets/") if "/examples-" in key]
    flipped = bytearray(store.read(key))
    flipped[len(flipped) // 2] ^= 1
    store.write(key, bytes(flipped))
    with pytest.raises(Corrupt, match=r"examples-00000\.jsonl\.zst"):
        list(rpc_stream(data.data.ReadExamples, ReadExamplesRequest(dataset=run.result)))


def test_plugins_are_listed(data: Clients) -> None:
    def names(kind: str) -> list[str]:
        found = rpc(data.data.ListPlugins, ListPluginsRequest(kind=kind)).plugins
        assert all(len(each.summary) > 20 for each in found)
        return [each.name for each in found]

    assert {"as_written", "direct_refusal", "nocot", "star1"} < set(names("builders"))
    assert {"csv", "dataset", "demo", "hub", "json", "jsonl", "parquet", "store", "wildjailbreak"} < set(
        names("sources")
    )
    assert {"exact", "length", "ngram"} <= set(names("filters"))
    assert "diversity" in names("selectors")
    with pytest.raises(NotFound, match="builders, sources, filters, selectors"):
        names("judges")


def test_star1_and_the_demo_corpus_together(data: Clients, shared_data: Path) -> None:
    started = time.monotonic()
    spec = dataset(
        part("star1/STAR-1.json.gz", "star1_file", "json", name="star1", options={"licence": "Apache-2.0"}),
        part("harm", source="demo", name="decline", count=120),
        part("benign", source="demo", name="look_alikes", count=100),
        part("lrm_safety_study/sft_train_nocot.json.gz", "nocot", "json", name="nocot", count=50),
    )
    run = built(data, spec)
    assert run.state == RunState.RUN_STATE_DONE, run.error
    made = rpc(data.data.GetDataset, GetDatasetRequest(dataset=run.result))
    assert {part.name: (part.read, part.kept) for part in made.parts} == {
        "star1": (1000, 1000),
        "decline": (192, 120),
        "look_alikes": (180, 100),
        "nocot": (1000, 50),
    }
    assert time.monotonic() - started < 30


def test_in_a_cluster_a_build_without_an_owner_goes_on(
    serve: Callable, clients: Clients, settings: Settings, store: ObjectStore, tmp_path: Path, monkeypatch
) -> None:
    """From its spec alone; and one whose file has changed says so, and is another run when it is asked for again."""
    monkeypatch.setattr(adoption, "EVERY_S", 0.1)
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "1?", "answer": "b"}])
    planned = plan(dataset(part(path, name="rows")), settings, store)
    run = Run(kind="dataset", spec=RunSpec(dataset=planned.spec), epoch=1, updated_at=1)
    run.id = run_id("dataset", run.spec, *planned.inputs)

    def leave_alone() -> None:
        for name in ("spec", "state"):
            store.write(f"runs/{run.id}/{name}.json", dumps(run).encode())
        store.write(f"runs/{run.id}/epochs/000001.json", b"elsewhere 1 1 1")
        store.write(f"open/{run.id}", b"")

    leave_alone()
    serve("data", service.register, jobs="cluster")
    *_, last = rpc_stream(clients.runs("data").WatchRun, WatchRunRequest(id=run.id), timeout_s=30)
    assert (last.state, last.epoch) == (RunState.RUN_STATE_DONE, 2), last.error

    for key in list(store.list(f"runs/{run.id}/")):
        store.delete(key)
    jsonl(tmp_path / "a.jsonl", [{"prompt": "2?", "answer": "b"}])
    leave_alone()
    shown: list[Run] = []

    def ask() -> Run:
        """At first the run as it was asked for; then whatever the service makes of it now."""
        if not shown:
            return run
        return rpc(clients.data.BuildDataset, BuildDatasetRequest(spec=dataset(part(path, name="rows"))))

    followed = follow(clients, "data", ask, shown.append)
    changed = next(each for each in shown if each.state == RunState.RUN_STATE_FAILED)
    assert changed.id == run.id and changed.error.endswith(adoption.CHANGED)
    assert followed.state == RunState.RUN_STATE_DONE and followed.id != run.id
