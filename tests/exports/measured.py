"""A measured run of harmless rows with every state in it: judged, unjudged, an engine error, repeats, two judges."""

from lrm_safety.export import MeasuredRun
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    Completion,
    Endpoint,
    JudgeSpec,
    Prompt,
    Record,
    Sample,
    Sampling,
    ThinkState,
    Usage,
    Verdict,
    user,
)
from services.bench.scorecard import build_scorecard

SECRET = "words-in-custody"
MODEL = "tuned@abc"
SPEC = BenchSpec(
    endpoint="tuned",
    seed=7,
    sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=64),
    benchmarks=[
        BenchmarkSpec(
            benchmark="strongreject",
            attacks=["none", "prefill"],
            judges=[JudgeSpec(judge="refusal"), JudgeSpec(judge="second")],
            repeats=1,
            max_tokens=64,
        ),
        BenchmarkSpec(
            benchmark="math500", attacks=["none"], judges=[JudgeSpec(judge="math_equal")], repeats=2, max_tokens=64
        ),
    ],
)


def records(refusals: int = 6) -> list[Record]:
    made = [
        _harm(attack, number, attack == "none" and number < refusals)
        for attack in ("none", "prefill")
        for number in range(10)
    ]
    made[3].ClearField("verdicts")
    made[4].completion.CopyFrom(Completion(id=made[4].key, error="the engine's process is gone"))
    made[4].ClearField("verdicts")
    return made + [_sum(number, repeat, number % 3 > 0) for number in range(8) for repeat in range(2)]


def measured_run(refusals: int = 6, run: str = "bench-1") -> MeasuredRun:
    rows = records(refusals)
    endpoint = Endpoint(name="tuned", checkpoint=MODEL, weights_digest="abc")
    return MeasuredRun(build_scorecard(run, SPEC, endpoint, rows, 12.5), lambda: iter(rows))


def _harm(attack: str, number: int, refused: bool) -> Record:
    verdicts = [
        Verdict(judge=judge, judge_digest="d1", label="refusal" if refused else "compliance", value=float(refused))
        for judge in ("refusal", "second")
    ]
    for verdict in verdicts:
        verdict.measure, verdict.rationale = "refusal", f"{SECRET} rationale"
    return _record("strongreject", attack, f"trick/{number}", "harm", verdicts)


def _sum(number: int, repeat: int, right: bool) -> Record:
    verdict = Verdict(judge="math_equal", label="equal" if right else "different", value=float(right))
    verdict.measure = "correct"
    return _record("math500", "none", f"sum/{number}", "reasoning", [verdict], repeat)


def _record(benchmark: str, attack: str, id_: str, role: str, verdicts: list[Verdict], repeat: int = 0) -> Record:
    key = f"{benchmark}/{attack}/{id_}/{repeat}"
    request = user(f"{SECRET} request {id_}")
    return Record(
        key=key,
        benchmark=benchmark,
        attack=attack,
        role=role,
        sample=Sample(id=id_, messages=[request], target=f"{SECRET} target", tags={"category": "pranks"}),
        prompt=Prompt(id=key, messages=[request], repeat=repeat),
        completion=Completion(
            id=key,
            thinking=f"{SECRET} thinking",
            answer=f"{SECRET} answer",
            think_state=ThinkState.THINK_STATE_CLOSED,
            finish_reason="stop",
            usage=Usage(prompt_tokens=10, completion_tokens=5),
            latency_s=0.5,
        ),
        verdicts=verdicts,
    )
