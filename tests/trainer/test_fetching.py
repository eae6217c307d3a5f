"""The base's files come to a machine once, however many processes it runs."""

import pytest
import torch.distributed as dist

from lrm_safety import artefacts
from lrm_safety.nouns import Checkpoint, Run
from services.trainer import worker
from services.trainer.attempt import Attempt
from services.trainer.ledger import Ledger


@pytest.mark.parametrize(("rank", "expected"), [(0, ["fetch", "barrier", "fetch"]), (1, ["barrier", "fetch"])])
def test_others_wait_for_the_first_process_of_their_machine(store, settings, monkeypatch, rank, expected):
    """What was fetched before is there at once."""
    done = []
    monkeypatch.setattr(dist, "get_node_local_rank", lambda fallback: rank)
    monkeypatch.setattr(dist, "barrier", lambda: done.append("barrier"))
    monkeypatch.setattr(artefacts, "fetch", lambda *_: done.append("fetch"))
    worker.fetch(Attempt(Run(), settings, store, Ledger(store, "training-1", 1)), Checkpoint())
    assert done == expected
