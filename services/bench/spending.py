"""What a bench run has cost: the tokens that it had generated, and for how many verdicts. Engines bill GPU-seconds."""

import time
from collections.abc import Iterable

from lrm_safety.nouns import Cost, Record, Run


def spent(run: Run, records: Iterable[Record]) -> Cost:
    """`records` as they lie in the parts: what was generated twice was paid twice, answers from the cache were not."""
    cost = Cost(id=run.id, kind="bench", started_at=run.created_at, ended_at=time.time())
    cost.tenant.CopyFrom(run.tenant)
    judged: set[str] = set()
    for record in records:
        if not record.completion.cached:
            cost.tokens += record.completion.usage.completion_tokens
        if record.verdicts and not record.verdicts[0].invalid:
            judged.add(record.key)
    cost.verdicts = len(judged)
    return cost
