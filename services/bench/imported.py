"""Runs that another tool measured: kept beside our own, scored by the same code, paired by sample id and never else."""

import hashlib
from collections.abc import Iterator
from itertools import islice

from lrm_safety import jsonl
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import ROLES, Endpoint, ImportRunRequest, Record, Run, RunSpec, Scorecard, Tenant
from lrm_safety.runs import OwnedRun, RunHost
from services.bench.compare import Side
from services.bench.scorecard import build_scorecard, cell_key

ROWS_AT_ONCE = 500


def start(host: RunHost, requests: Iterator[ImportRunRequest], tenant: Tenant) -> Run:
    """The run of these records; the same ones are the same run. Raises InvalidInput for a stream that is no run."""
    first = next(requests, ImportRunRequest())
    if not first.scorecard.HasField("imported"):
        raise InvalidInput("an import begins with a scorecard that says where it is from (`imported`)")
    records = [request.record for request in requests]
    _check(first.scorecard, records)
    content = hashlib.sha256(jsonl.canonical(first.scorecard))
    for record in records:
        content.update(jsonl.canonical(record))
    spec = RunSpec(bench=first.scorecard.spec)

    def work(run: OwnedRun) -> str:
        return _keep(run, first.scorecard, records)

    return host.start("bench", spec, work, content.hexdigest(), tenant=tenant)


def check_samples(baseline: Side, candidate: Side) -> None:
    """With an imported side there is no common protocol to check, only the samples. Raises InvalidInput unless, of each
    cell that decides, both runs have the same sample ids.
    """
    theirs = baseline if baseline.scorecard.HasField("imported") else candidate
    where = f"{theirs.scorecard.run} was imported ({theirs.scorecard.imported.format} log)"
    for cell in candidate.deciding():
        name = "/".join(cell_key(cell))
        before, after = baseline.seen.get(cell_key(cell)), candidate.seen[cell_key(cell)]
        if before is None:
            raise InvalidInput(
                f"{where}, and {name} is not in {baseline.scorecard.run}: a gate compares like with like"
            )
        if before.keys() != after.keys() or not after:
            both, either = len(before.keys() & after.keys()), len(before.keys() | after.keys())
            raise InvalidInput(
                f"{where}, and of {name} the two runs share {both} of {either} sample ids; a gate needs the same "
                "samples in both: measure them here, or import logs of one task"
            )


def is_imported(*sides: Side) -> bool:
    return any(side.scorecard.HasField("imported") for side in sides)


def _check(card: Scorecard, records: list[Record]) -> None:
    asked = {each.benchmark for each in card.spec.benchmarks if each.judges and each.attacks}
    if not asked or not (records or card.cells):
        raise InvalidInput("an import needs benchmarks with attacks and judges, and records or cells")
    keys = [record.key for record in records]
    if len(set(keys)) < len(keys):
        raise InvalidInput("two records of the import have the same key; expected benchmark/attack/sample/repeat once")
    rows = {(each.benchmark, each.role) for each in records} | {(each.benchmark, each.role) for each in card.cells}
    for benchmark, role in rows:
        if benchmark not in asked or role not in ROLES:
            raise InvalidInput(f"{benchmark or 'a row'}: not a benchmark of the import's spec, or without a role")


def _keep(run: OwnedRun, head: Scorecard, records: list[Record]) -> str:
    rows = iter(records)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        run.commit(some)
        run.progress("import", len(records), len(records), "samples")
    endpoint = Endpoint(name=head.endpoint, checkpoint=head.checkpoint, weights_digest=head.weights_digest)
    card = build_scorecard(run.id, head.spec, endpoint, records, 0.0)
    card.cells.extend(head.cells)
    card.imported.CopyFrom(head.imported)
    card.created_at = head.created_at or card.created_at
    card.generated_tokens = 0.0  # none of them here
    run.store.create(f"runs/{run.id}/scorecard.json", jsonl.dumps(card).encode())
    return run.id
