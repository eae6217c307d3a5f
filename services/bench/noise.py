"""How often a baseline contradicts itself (A/A): no gate can hold a margin below that.

Pairs are the same sample measured twice, in two repeats of one run or in two runs. Their differences have mean 0, so
the rate of n units moves against itself with standard error sqrt(s² / n), s² being the mean squared difference of a
unit; the floor is its one-sided 95 % point, 1.645 sqrt(s² / n).

    noise/<suite digest>.json
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from math import sqrt

from lrm_safety import jsonl
from lrm_safety.distributions import normal
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import ROLES, BenchSpec, Noise, RoleNoise
from lrm_safety.store import ObjectStore
from services.bench.compare import Side
from services.bench.terms import Terms

LEVEL = 0.95
Values = dict[str, dict[str, float]]  # unit -> sample under an attack -> value


def suite_digest(spec: BenchSpec) -> str:
    """Of what is asked and how it is judged: the spec without model, repeats, baseline, gate and history."""
    suite = BenchSpec()
    suite.CopyFrom(spec)
    for field in ("endpoint", "baseline_run", "gate", "history"):
        suite.ClearField(field)
    for each in suite.benchmarks:
        each.ClearField("repeats")
    return hashlib.sha256(jsonl.canonical(suite)).hexdigest()


def measure_noise(sides: Sequence[Side]) -> Noise:
    """Raises InvalidInput when these are not runs of one model on one suite, or show no sample twice."""
    cards = [side.scorecard for side in sides]
    suites = {suite_digest(card.spec) for card in cards}
    if len(suites) != 1 or len({card.weights_digest for card in cards}) != 1:
        raise InvalidInput("noise is measured between runs of the same weights on the same suite; these differ")
    made = Noise(suite=suites.pop(), runs=[card.run for card in cards], created_at=time.time())
    made.roles.extend(found for role in ROLES if (found := _role_noise(role, sides)).pairs)
    if not made.roles:
        raise InvalidInput("no sample was measured twice; give two runs, or one with repeats (`--repeats 3`)")
    return made


def find_noise(store: ObjectStore, suite: str) -> Noise | None:
    key = _key(suite)
    return jsonl.loads(Noise, store.read(key)) if store.stat(key) else None


def keep_noise(store: ObjectStore, noise: Noise) -> None:
    store.write(_key(noise.suite), jsonl.dumps(noise).encode())


def floors(noise: Noise | None) -> dict[str, float]:
    return {each.role: each.floor for each in noise.roles} if noise else {}


def check_margins(terms: Terms, noise: Noise | None) -> None:
    """Raises InvalidInput when a required role's margin is under the noise floor."""
    for role, floor in floors(noise).items():
        margin = terms.gate.margins.get(role, 1.0)
        if role in terms.required and margin < floor:
            raise InvalidInput(
                f"gate.margins.{role} is {margin}, under the noise floor {floor:.4f} of this suite: a model differs "
                f"from itself by as much; expected {floor:.4f} or more, or more samples"
            )


def _role_noise(role: str, sides: Sequence[Side]) -> RoleNoise:
    sets = [values for side in sides for values in _repeats(role, side)]
    found = RoleNoise(role=role, samples=len({name for values in sets for unit in values.values() for name in unit}))
    squares = []
    for first, second in combinations(sets, 2):
        for unit in first.keys() & second.keys():
            both = first[unit].keys() & second[unit].keys()
            changes = [second[unit][name] - first[unit][name] for name in sorted(both)]
            found.pairs += len(changes)
            found.flips += sum(change != 0 for change in changes)
            if changes:
                squares.append((sum(changes) / len(changes)) ** 2)
    units = len({unit for values in sets for unit in values})
    if squares:
        found.floor = normal.inv_cdf(LEVEL) * sqrt(sum(squares) / len(squares) / units)
    return found


def _repeats(role: str, side: Side) -> list[Values]:
    """What the deciding judges saw, for each repeat of its own."""
    repeats: dict[str, Values] = defaultdict(lambda: defaultdict(dict))
    for cell in side.deciding(role):
        for key, seen in side.seen[cell.benchmark, cell.attack, cell.judge].items():
            name, _, repeat = key.rpartition("/")
            if seen.value is not None:
                repeats[repeat][seen.unit][name] = seen.value
    return list(repeats.values())


def _key(suite: str) -> str:
    return f"noise/{suite}.json"
