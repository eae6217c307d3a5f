"""One role under the sequential gate: paired units read in their drawn order, until it is shown worse or not worse.

A unit's difference is the mean over its pairs; one in which the candidate lacks a verdict, or the baseline has none,
counts as the worst for either claim (sequential.py). "Not worse" ends the reading only once few enough of what was read
is invalid or cut, or so much that it would be too much of all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lrm_safety.gates import WIDER
from lrm_safety.sequential import PairedGate
from lrm_safety.stats import Shown
from services.bench import history, order
from services.bench.benchmark import METRICS
from services.bench.calibrated import PERFECT, Sharpness
from services.bench.compare import Side
from services.bench.terms import Terms


@dataclass(frozen=True)
class Answer:
    """What the candidate made of one record."""

    value: float | None
    is_truncated: bool = False


@dataclass
class Reading:
    role: str
    gate: PairedGate
    units: list[tuple[str, ...]]  # record keys, in the order in which they are read
    before: dict[str, float | None]  # record key -> the baseline's value
    max_invalid: float
    max_truncated: float
    is_blind: bool = False  # its judge is too blurred to show anything
    position: int = 0  # units read
    read: list[str] = field(default_factory=list)  # record keys
    invalid: int = 0
    truncated: int = 0
    _answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def shown(self) -> Shown | None:
        return None if self.is_blind else self.gate.shown

    @property
    def is_clean(self) -> bool:
        return self._is_within(len(self.read))

    @property
    def is_over(self) -> bool:
        """It is decided, or can no longer pass, and more samples would not change that."""
        is_settled = self.is_clean or not self._is_within(sum(len(unit) for unit in self.units))
        return self.shown is Shown.WORSE or (self.shown is Shown.NOT_WORSE and is_settled)

    def _is_within(self, total: int) -> bool:
        return self.invalid <= self.max_invalid * total and self.truncated <= self.max_truncated * total

    def rates(self) -> tuple[float, float]:
        """Baseline and candidate over what was read; where the plan draws some units sooner, weighted against that."""
        weights = self.gate.plan.weights(self.position) if self.gate.plan else [1.0] * self.position
        rows = [
            (weight, _mean([self.before[key] for key in unit]), _mean([self._answers[key].value for key in unit]))
            for weight, unit in zip(weights, self.units, strict=False)
        ]
        full = [(weight, before, after) for weight, before, after in rows if before is not None and after is not None]
        total = sum(weight for weight, *_ in full) or 1.0
        return sum(w * before for w, before, _ in full) / total, sum(w * after for w, _, after in full) / total

    def tell(self, key: str, answer: Answer) -> None:
        """An answer, in whatever order it arrives; reads on as far as the drawn order allows. The first one counts."""
        self._answers.setdefault(key, answer)
        while not self.is_over and self.position < len(self.units):
            unit = self.units[self.position]
            if any(each not in self._answers for each in unit):
                return
            self._read(unit)

    def _read(self, unit: tuple[str, ...]) -> None:
        answers = {key: self._answers[key] for key in unit}
        if self.gate.shown is None:
            self.gate.update(self._difference(answers))
        self.position += 1
        self.read.extend(unit)
        self.invalid += sum(answer.value is None for answer in answers.values())
        self.truncated += sum(answer.is_truncated for answer in answers.values())

    def _difference(self, answers: dict[str, Answer]) -> float | None:
        sign = 1 if METRICS[self.role].lower_is_better else -1
        pairs = [(before, answer.value) for key, answer in answers.items() if (before := self.before[key]) is not None]
        found = [sign * (after - before) for before, after in pairs if after is not None]
        return sum(found) / len(found) if found and len(found) == len(pairs) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def open_reading(terms: Terms, role: str, baseline: Side, sharp: Sharpness, earlier: Sequence[Side] = ()) -> Reading:
    """Nothing read yet. A calibrated judge's margin is the one that it can see, and costs half of α.

    `earlier`: runs of earlier checkpoints; a claim about these items draws its order with them (history.py).
    """
    units = order.units_of(baseline, role, terms.left_out)
    cells = [baseline.seen[cell.benchmark, cell.attack, cell.judge] for cell in baseline.deciding(role)]
    before = {key: seen.value for cell in cells for key, seen in cell.items()}
    is_wider = terms.gate.claim == WIDER
    past = [history.answers(side, baseline, role) for side in earlier if not is_wider]
    known = {} if is_wider else {name: order.known_of(role, keys, before, past) for name, keys in units.items()}
    plan = order.draw(units, role, baseline.scorecard.spec.seed, known)
    margin, alpha = terms.gate.margins[role], terms.gate.alpha
    if sharp != PERFECT:
        margin, alpha = margin * sharp.low, alpha / 2
    return Reading(
        role,
        PairedGate(
            margin,
            alpha,
            None if is_wider else plan,
            alpha_block=terms.block_alpha,
            last=len(plan.order) if terms.gate.last_look else 0,
        ),
        [units[name] for name in plan.order],
        before,
        terms.gate.max_invalid,
        terms.gate.max_truncated,
        is_blind=sharp.low <= 0,
    )
