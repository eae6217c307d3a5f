"""When an evaluation may stop asking: it reads its results against a finished baseline, in the drawn order.

What has been sent is finished and recorded; only the sending ends. A start after a kill reads the records that are kept
in the same order, and so comes to the same decision; what a faster machine had already sent beyond it changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lrm_safety.errors import Conflict
from lrm_safety.measured import measure
from lrm_safety.nouns import ROLES, Record, Savings, Scorecard
from lrm_safety.stats import Shown
from services.bench import order
from services.bench.calibrated import PERFECT, Sharpness
from services.bench.compare import Side, asked
from services.bench.plan import Task
from services.bench.reading import Answer, Reading, open_reading
from services.bench.terms import Terms


@dataclass
class Stopping:
    """Says which roles are still asked; without a baseline all of them, to the end."""

    readings: Mapping[str, Reading] = field(default_factory=dict)  # role -> its reading
    required: frozenset[str] = frozenset()
    spend_rest: bool = False
    baseline: Side | None = None

    @property
    def is_on(self) -> bool:
        return self.baseline is not None

    def arrange(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks in the order in which they are sent; last, those of waived benchmarks. Raises Conflict."""
        every = list(tasks)
        if self.baseline is None:
            return every
        by_key = {task.key: task for task in every}
        strange = [key for key in by_key if key not in self.baseline.asked]
        if strange:
            raise Conflict(
                f"the baseline {self.baseline.scorecard.run} has not asked {len(strange)} of {len(every)} samples, "
                f"first: {strange[0]}; measure it on the same files, then ask again"
            )
        first = order.take_turns(self._units())
        rest = [key for key in by_key if key not in set(first)]
        return [by_key[key] for key in first + rest if key in by_key]

    def tell(self, record: Record) -> None:
        """Raises Conflict when the baseline was asked something else under this key."""
        if self.baseline is None:
            return
        if self.baseline.asked[record.key] != asked(record):
            raise Conflict(f"{record.key}: the baseline was asked something else; measure both on the same files")
        if record.role in self.readings:
            judge = record.verdicts[0].judge if record.verdicts else ""
            answer = Answer(measure(record, judge).value, record.completion.finish_reason == "length")
            self.readings[record.role].tell(record.key, answer)

    def closed(self) -> frozenset[str]:
        """Roles of which nothing more need be sent."""
        if self.baseline is None or self.spend_rest:
            return frozenset()
        if self.is_decided:
            return frozenset(ROLES)
        return frozenset(role for role, reading in self.readings.items() if reading.is_over)

    @property
    def is_decided(self) -> bool:
        """One required role is shown to be worse, or every one not to be."""
        needed = [self.readings[role] for role in self.required]
        return any(each.shown is Shown.WORSE for each in needed) or (
            bool(needed) and all(each.is_over for each in needed)
        )

    def _units(self) -> list[list[tuple[str, ...]]]:
        assert self.baseline is not None
        seed = self.baseline.scorecard.spec.seed
        drawn = {role: reading.units for role, reading in self.readings.items()}
        for role in ROLES:
            units = order.units_of(self.baseline, role) if role not in drawn else {}
            if units:
                drawn[role] = [units[name] for name in order.draw(units, role, seed, {}).order]
        return list(drawn.values())


def open_stopping(
    terms: Terms, baseline: Side, sharp: Mapping[str, Sharpness], earlier: Sequence[Side] = ()
) -> Stopping:
    """`sharp`: role -> how well its judge sees, for those with a calibration."""
    readings = {role: open_reading(terms, role, baseline, sharp.get(role, PERFECT), earlier) for role in terms.tiers}
    return Stopping(readings, frozenset(terms.required), terms.gate.spend_rest, baseline)


def savings(planned: Iterable[str], recorded: set[str], baseline: Side, card: Scorecard) -> Savings:
    """What the stop has saved, estimated: the baseline's tokens on the skipped samples, at the pace of this run."""
    keys = list(planned)
    skipped = [key for key in keys if key not in recorded]
    tokens = float(sum(baseline.tokens.get(key, 0) for key in skipped))
    paced = card if card.generated_tokens else baseline.scorecard
    pace = paced.seconds / paced.generated_tokens if paced.generated_tokens else 0.0
    return Savings(
        planned=len(keys),
        dispatched=len(keys) - len(skipped),
        skipped=len(skipped),
        tokens=tokens,
        gpu_seconds=tokens * pace,
    )
