"""The records a page carries for its browser: both models' side by side by key, flips first, within stated limits.

Records are streamed twice: once to see which samples changed and how long they are, once to keep the chosen ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from lrm_safety.nouns import Message, Record, ThinkState, Verdict
from lrm_safety.report.facts import ReportData, baseline_of, candidate_of, deciding_judges, role_rank

MOST_SAMPLES = 5_000  # pairs in one page
MOST_LETTERS = 24_000_000  # of text in one page
MOST_TEXT = 20_000  # letters of one text; the middle of a longer one is left out
TAIL = 5_000  # of MOST_TEXT, kept from a long text's end
THINK_STATES = {
    ThinkState.THINK_STATE_ABSENT: "absent",
    ThinkState.THINK_STATE_CLOSED: "closed",
    ThinkState.THINK_STATE_TRUNCATED: "truncated",
}
TURNED = {  # role, measure -> whether a value of 1 is good
    ("harm", "harm"): False,
    ("harm", "refusal"): True,
    ("over_refusal", "refusal"): False,
    ("reasoning", "correct"): True,
    ("utility", "correct"): True,
}
FLIP_ORDER = ("worse", "better", "unpaired", "same", "")


@dataclass
class Glance:
    """What the first pass keeps of a sample: how bad each model's answer is in [0, 1], None without a verdict."""

    place: tuple[int, str, str, str]
    letters: int = 0
    bad: dict[str, float | None] = field(default_factory=dict)

    def flip(self, sides: list[str]) -> str:
        """worse | same | better: candidate against baseline; unpaired without two verdicts; empty with one model."""
        if len(sides) < 2:
            return ""
        before, after = self.bad.get(sides[0]), self.bad.get(sides[1])
        if before is None or after is None:
            return "unpaired"
        return "same" if before == after else "worse" if after > before else "better"


def embedded(data: ReportData) -> dict[str, Any]:
    """{sides, total, samples}: what the page's script reads. `total` counts all samples, `samples` those that fit."""
    cards = {"baseline": baseline_of(data.outcome), "candidate": candidate_of(data.outcome)}
    runs = {side: card.run for side, card in cards.items() if card is not None}
    judges = deciding_judges(data.outcome)
    glances = _look(data, runs, judges)
    chosen = {key: _head(key, glances[key], list(runs)) for key in _choose(glances, list(runs))}
    for side, run in runs.items():
        for record in data.records(run):
            sample = chosen.get(record.key)
            if sample is not None and side not in sample["sides"]:
                _describe(sample, record)
                sample["sides"][side] = _side(record, judges)
    return {"sides": list(runs), "total": len(glances), "samples": list(chosen.values())}


def badness(record: Record, judges: dict[str, str]) -> float | None:
    """How far the deciding verdict is from what the role wants, in [0, 1]; None when it says nothing on that."""
    verdict = deciding_verdict(record, judges)
    if verdict is None or verdict.invalid or record.completion.error:
        return None
    is_turned = TURNED.get((record.role, verdict.measure))
    return None if is_turned is None else 1 - verdict.value if is_turned else verdict.value


def deciding_verdict(record: Record, judges: dict[str, str]) -> Verdict | None:
    """The verdict that counts: the deciding judge's, else the first; None without any."""
    return next(iter(_verdicts(record, judges)), None)


def joined(key: str, flip: str, records: dict[str, Record], judges: dict[str, str]) -> dict[str, Any]:
    """One sample as the page's script reads it; `records`: side -> its record."""
    sample: dict[str, Any] = {"key": key, "flip": flip, "sides": {}}
    for side, record in records.items():
        _describe(sample, record)
        sample["sides"][side] = _side(record, judges)
    return sample


def _look(data: ReportData, runs: dict[str, str], judges: dict[str, str]) -> dict[str, Glance]:
    glances: dict[str, Glance] = {}
    for side, run in runs.items():
        for record in data.records(run):
            place = (role_rank(record.role), record.benchmark, record.attack, record.key)
            glance = glances.setdefault(record.key, Glance(place))
            if side not in glance.bad:
                glance.bad[side] = badness(record, judges)
                glance.letters += sum(min(len(text), MOST_TEXT) for text in texts_of(record))
    return glances


def _choose(glances: dict[str, Glance], sides: list[str]) -> list[str]:
    """Keys to show, in their order. Over the limits flips go in first, then a fixed random share of the others."""

    def weight(key: str) -> tuple[bool, str]:
        return glances[key].flip(sides) not in ("worse", "better"), sha256(key.encode()).hexdigest()

    chosen, letters = [], 0
    for key in sorted(glances, key=weight)[:MOST_SAMPLES]:
        letters += glances[key].letters
        if letters > MOST_LETTERS:
            break
        chosen.append(key)
    return sorted(chosen, key=lambda key: (FLIP_ORDER.index(glances[key].flip(sides)), glances[key].place))


def _head(key: str, glance: Glance, sides: list[str]) -> dict[str, Any]:
    return {"key": key, "flip": glance.flip(sides), "sides": {}}


def _describe(sample: dict[str, Any], record: Record) -> None:
    """What both sides share; the first record of a sample says it."""
    if "id" in sample:
        return
    sample |= {
        "id": record.sample.id or record.key,
        "benchmark": record.benchmark,
        "attack": record.attack,
        "role": record.role,
        "repeat": record.prompt.repeat,
        "tags": dict(sorted(record.sample.tags.items())),
        "request": _messages(record.sample.messages),
        "target": _fit(record.sample.target) if record.role != "harm" else "",
    }


def _side(record: Record, judges: dict[str, str]) -> dict[str, Any]:
    completion = record.completion
    sent = _messages(record.prompt.messages)
    return {
        "sent": sent if sent != _messages(record.sample.messages) else [],
        "prefill": _fit(record.prompt.prefill),
        "thinking": _fit(completion.thinking),
        "answer": _fit(completion.answer),
        "think_state": THINK_STATES.get(completion.think_state, ""),
        "finish": completion.finish_reason,
        "tokens": completion.usage.completion_tokens,
        "error": completion.error,
        "verdicts": [_verdict(verdict) for verdict in _verdicts(record, judges)],
    }


def _verdicts(record: Record, judges: dict[str, str]) -> list[Verdict]:
    """The deciding judge's first."""
    decides = judges.get(record.benchmark, "")
    return sorted(record.verdicts, key=lambda verdict: verdict.judge != decides)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    said = {"judge": verdict.judge, "label": verdict.label, "score": verdict.score, "invalid": verdict.invalid}
    return {**said, "rationale": _fit(verdict.rationale)}


def _messages(messages: Any) -> list[dict[str, str]]:
    return [{"role": message.role, "content": _fit(message.content)} for message in messages]


def texts_of(record: Record) -> Iterator[str]:
    """Every text of a record that a search looks at."""
    messages: list[Message] = [*record.sample.messages, *record.prompt.messages]
    yield from (message.content for message in messages)
    yield from (record.completion.thinking, record.completion.answer, record.prompt.prefill)
    yield from (verdict.rationale for verdict in record.verdicts)


def _fit(text: str) -> str:
    if len(text) <= MOST_TEXT:
        return text
    gap = len(text) - MOST_TEXT
    return f"{text[: MOST_TEXT - TAIL]}\n\n[… {gap:,} characters left out here …]\n\n{text[-TAIL:]}"
