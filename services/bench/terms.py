"""What a gate asks for on the day it is asked: which roles are required, which are advisory, which are waived.

Every required role has to be shown not to be worse, each at α: an intersection-union test (Berger, Technometrics 24
(1982) 295-300). One required role shown to be worse blocks; each of k roles has α / k for that (Bonferroni), so that a
candidate which is worse in none is blocked with probability α at most, however they depend.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lrm_safety.gates import last_day, resolve
from lrm_safety.nouns import ROLES, Gate, Waiver

REQUIRED, ADVISORY, WAIVED = "required", "advisory", "waived"


@dataclass(frozen=True)
class Terms:
    gate: Gate  # resolved
    tiers: Mapping[str, str]  # role with a margin -> required | advisory | waived, in the order of ROLES
    waivers: tuple[Waiver, ...]  # those that count today and touch this suite
    left_out: frozenset[str]  # waived benchmarks

    @property
    def required(self) -> list[str]:
        return [role for role, tier in self.tiers.items() if tier == REQUIRED]

    @property
    def block_alpha(self) -> float:
        """The error rate of one role's "worse"."""
        return self.gate.alpha / max(1, len(self.required))


def terms_of(gate: Gate, suite: Mapping[str, str], now: float) -> Terms:
    """`suite`: benchmark -> role; `now` in seconds since 1970. Raises InvalidInput for a gate that makes no sense."""
    gate = resolve(gate)
    today = datetime.fromtimestamp(now, UTC).date()
    counting = [w for w in gate.waivers if today <= last_day(w)]
    waived = {waiver.what for waiver in counting}
    tiers = {}
    for role in (role for role in ROLES if role in gate.margins):
        measured = [benchmark for benchmark, of in suite.items() if of == role]
        is_waived = role in waived or (measured and waived.issuperset(measured))
        tiers[role] = WAIVED if is_waived else ADVISORY if role in gate.advisory else REQUIRED
    used = tuple(w for w in counting if w.what in tiers or suite.get(w.what) in tiers)
    return Terms(gate, tiers, used, frozenset(waived & suite.keys()))
