"""Whether a measurement goes on that asks an endpoint: who is done with it must not end it for others."""

from lrm_safety import epochs, runs
from lrm_safety.errors import NotFound
from lrm_safety.nouns import BenchSpec, Run, has_ended
from lrm_safety.store import ObjectStore


def is_needed(store: ObjectStore, endpoint: str) -> bool:
    """By a bench run with a living owner, as its subject or as a judge. One that was cancelled needs nothing more."""
    for id_ in runs.open_runs(store, "bench"):
        try:
            run = runs.read_run(store, id_)
        except NotFound:  # somebody removed it
            continue
        if endpoint in _asked(run.spec.bench) and _goes_on(store, run):
            return True
    return False


def _goes_on(store: ObjectStore, run: Run) -> bool:
    is_cancelled = store.stat(f"runs/{run.id}/cancel") is not None
    return not has_ended(run) and not is_cancelled and epochs.has_living_owner(store, run)


def _asked(spec: BenchSpec) -> set[str]:
    return {spec.endpoint, *(judge.endpoint for each in spec.benchmarks for judge in each.judges)}
