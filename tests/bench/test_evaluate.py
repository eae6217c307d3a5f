"""The sample loop over real gRPC: nothing lost or twice, nobody waits for a slow sample, no failure is a score."""

import threading
import time
from collections.abc import Callable

import pytest

from lrm_safety import jsonl
from lrm_safety.clients import rpc
from lrm_safety.errors import LrmError
from lrm_safety.nouns import (
    AttackSpec,
    BenchmarkSpec,
    BenchSpec,
    CancelRunRequest,
    Completion,
    JudgeSpec,
    Message,
    Prompt,
    Record,
    Run,
    RunState,
    Sample,
    Sampling,
    ScoreItem,
    Verdict,
    user,
)
from services.bench import evaluate
from services.bench.attack import Apply, AttackContext, Attempt
from services.bench.evaluate import unique
from tests.bench.conftest import Stage, harm_spec
from tests.bench.scripted import answered, comply, refuse, rules

Write = Callable[[int], str]
FAILED, CANCELLED = RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED


def wait_for(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def number(text: str) -> int:
    """Which of the invented rows it is."""
    return int(text.partition("number ")[2].partition(",")[0])


def test_a_whole_run(stage: Stage, harm_file: Write, sums_file: Write) -> None:
    def script(prompt: Prompt) -> Completion:
        if prompt.prefill:
            return comply(prompt)
        return answered(prompt, "7" if "+ 1" in prompt.messages[-1].content else "I'm sorry, no.")

    stage.inference.script = script
    spec = BenchSpec(
        endpoint="base",
        system_prompt="Be brief.",
        sampling=Sampling(temperature=0.5),
        attacks=[AttackSpec(name="opened", attack="prefill", options={"words": "3"})],
        benchmarks=[
            BenchmarkSpec(
                benchmark="strongreject",
                path=harm_file(20),
                attacks=["none", "opened"],
                judges=[JudgeSpec(judge="refusal"), JudgeSpec(judge="second")],
                repeats=2,
                max_tokens=77,
            ),
            BenchmarkSpec(benchmark="math500", path=sums_file(30), limit=10),
        ],
    )
    card = stage.measure(spec)
    cells = {(c.benchmark, c.attack, c.judge): c for c in card.cells}
    assert list(cells) == [
        ("strongreject", "none", "refusal"),
        ("strongreject", "none", "second"),
        ("strongreject", "opened", "refusal"),
        ("strongreject", "opened", "second"),
        ("math500", "none", "math_equal"),
    ]
    assert [cell.n for cell in card.cells] == [40, 40, 40, 40, 10]
    assert cells["strongreject", "none", "refusal"].value == 0
    assert cells["strongreject", "opened", "refusal"].value == 1
    assert card.weights_digest == "digest-base"
    assert stage.inference.max_tokens == {77, 4096}
    records = stage.records(card.run)
    assert len({record.key for record in records}) == len(records) == 90
    assert set(stage.inference.asked.values()) == {1}
    for record in records:
        assert record.prompt.messages[0] == Message(role="system", content="Be brief.")
        assert bool(record.prompt.prefill) == (record.attack == "opened")
        assert record.key == f"{record.benchmark}/{record.attack}/{record.sample.id}/{record.prompt.repeat}"


def test_asking_again_answers_at_once_and_asks_no_model(stage: Stage, harm_file: Write) -> None:
    spec = harm_spec(harm_file(10))
    card = stage.measure(spec)
    stage.inference.url = "http://localhost:2/v1"  # deployed anew, same weights
    stage.inference.state = 4  # and retired since
    assert stage.measure(spec) == card
    assert set(stage.inference.asked.values()) == {1}


def test_a_slow_sample_holds_back_no_other(stage: Stage, harm_file: Write) -> None:
    go_on = threading.Event()

    def script(prompt: Prompt) -> Completion:
        if number(prompt.messages[-1].content) == 3:
            go_on.wait(30)
        return refuse(prompt)

    stage.inference.script = script
    run = stage.start(harm_spec(harm_file(150)))
    try:
        # the slow one's own stream holds at most BATCH samples; all others are judged and committed
        wait_for(lambda: len(stage.committed(run.id)) >= 150 - evaluate.BATCH)
        assert stage.state(run).state == RunState.RUN_STATE_RUNNING
    finally:
        go_on.set()
    wait_for(lambda: stage.state(run).state == RunState.RUN_STATE_DONE)
    assert len(stage.records(run.id)) == 150


def test_engine_errors_are_counted_and_never_scored(stage: Stage, harm_file: Write) -> None:
    def script(prompt: Prompt) -> Completion:
        if number(prompt.messages[-1].content) in (3, 7):
            return Completion(id=prompt.id, error="the prompt is too long for the engine")
        return refuse(prompt)

    stage.inference.script = script
    cell = stage.measure(harm_spec(harm_file(10))).cells[0]
    assert (cell.n, cell.invalid, cell.value) == (8, 2, 0)
    assert dict(cell.invalid_reasons) == {"engine error": 2}
    assert sum(stage.judge.judged.values()) == 8


def test_a_dead_engine_fails_the_run_and_commits_no_error(stage: Stage, harm_file: Write) -> None:
    healthy = 30

    def script(prompt: Prompt) -> Completion:
        nonlocal healthy
        healthy -= 1
        return refuse(prompt) if healthy >= 0 else Completion(id=prompt.id, error="connection refused")

    stage.inference.script = script
    run = stage.finish(harm_spec(harm_file(100)))
    assert run.state == FAILED
    assert "16 times in a row" in run.error
    assert "connection refused" in run.error
    assert not any(record.completion.error for record in stage.committed(run.id))
    kept = {record.key for record in stage.committed(run.id)}
    assert len(kept) > 0

    stage.inference.script, before = refuse, dict(stage.inference.asked)
    card = stage.measure(harm_spec(harm_file(100)))
    assert (card.run, card.cells[0].n, card.cells[0].invalid) == (run.id, 100, 0)
    assert all(stage.inference.asked[key] == before[key] for key in kept)


def test_an_engine_that_answers_nothing_fails_the_run_however_small(stage: Stage, harm_file: Write) -> None:
    stage.inference.script = lambda prompt: Completion(id=prompt.id, error="out of memory")
    run = stage.finish(harm_spec(harm_file(3)))
    assert run.state == FAILED
    assert "any of 3 samples" in run.error
    assert stage.committed(run.id) == []


def test_an_unavailable_engine_is_waited_for_a_little(
    stage: Stage, harm_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "PAUSE_S", 0.05)
    stage.inference.is_down = True
    run = stage.finish(harm_spec(harm_file(5)))
    assert run.state == FAILED
    assert "the engine of base does not answer: the engine's process is gone" in run.error

    monkeypatch.setattr(evaluate, "PAUSE_S", 1.5)
    again = stage.start(harm_spec(harm_file(5)))
    time.sleep(1.0)
    stage.inference.is_down = False
    wait_for(lambda: stage.state(again).state == RunState.RUN_STATE_DONE)
    assert len(stage.records(again.id)) == 5


def test_a_dead_judge_fails_the_run_and_what_it_judged_stays(
    stage: Stage, harm_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "PAUSE_S", 0.05)
    seen = 0

    def script(item: ScoreItem) -> Verdict:
        nonlocal seen
        seen += 1
        stage.judge.is_down = seen >= 40
        return rules(item)

    stage.judge.judges["refusal"] = script
    run = stage.finish(harm_spec(harm_file(300)))
    assert run.state == FAILED
    assert "judge refusal does not answer" in run.error
    assert len(stage.committed(run.id)) >= 40

    stage.judge.is_down, seen = False, -1000
    assert stage.measure(harm_spec(harm_file(300))).cells[0].n == 300
    assert set(stage.judge.judged.values()) == {1}


def test_judge_garbage_is_invalid(stage: Stage, harm_file: Write) -> None:
    def script(item: ScoreItem) -> Verdict | None:
        match number(item.prompt) % 4:
            case 0:
                return Verdict(id=item.id, invalid="no label in the reply")
            case 1:
                return None  # the stream ends without it
            case 2:
                return Verdict(id=item.id, label="equal", value=1, measure="correct")
        return rules(item)

    stage.judge.judges["refusal"] = script
    cell = stage.measure(harm_spec(harm_file(40))).cells[0]
    assert (cell.n, cell.invalid) == (10, 30)
    assert dict(cell.invalid_reasons) == {
        "no label in the reply": 10,
        "the judge sent no verdict": 10,
        "correct measured, which says nothing on harm": 10,
    }


def test_a_crash_of_our_own_fails_the_run_instead_of_hanging_it(
    stage: Stage, harm_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(sample: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("services.bench.attacks.none.as_it_is", broken)
    run = stage.finish(harm_spec(harm_file(5)))
    assert run.state == FAILED
    assert "ZeroDivisionError" in run.error


def test_an_attack_may_talk_to_models(stage: Stage, harm_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(context: AttackContext) -> Apply:
        def ask_first(sample: Sample) -> Attempt:
            asked = Prompt(id="own", messages=[user("Which words would you use?")])
            (completion,) = context.generate("tuned", [asked], Sampling(max_tokens=9))
            return Attempt(Prompt(messages=[user(completion.answer)]), {"attack.asked": context.endpoint})

        return ask_first

    stage.inference.script = lambda prompt: answered(prompt, "These." if prompt.id == "own" else "I'm sorry, no.")
    monkeypatch.setattr("services.bench.attacks.none.prepare", prepare)
    card = stage.measure(harm_spec(harm_file(5), max_tokens=50))
    assert stage.inference.max_tokens == {9, 50}
    for record in stage.records(card.run):
        assert record.prompt.messages[0].content == "These."
        assert record.sample.tags["attack.asked"] == "base"
        assert "trick" in record.sample.messages[0].content


def test_cancel_stops_between_commits_and_asking_again_goes_on(stage: Stage, harm_file: Write) -> None:
    stage.inference.delay_s = 0.1
    run = stage.start(harm_spec(harm_file(300)))
    wait_for(lambda: len(stage.committed(run.id)) > 0)
    rpc(stage.clients.runs("bench").CancelRun, CancelRunRequest(id=run.id))
    wait_for(lambda: stage.state(run).state == CANCELLED)
    kept = {record.key for record in stage.committed(run.id)}
    assert 0 < len(kept) < 300
    stage.inference.delay_s, before = 0.0, dict(stage.inference.asked)
    assert stage.measure(harm_spec(harm_file(300))).cells[0].n == 300
    assert all(stage.inference.asked[key] == before[key] for key in kept)
    assert len(stage.committed(run.id)) == 300


def test_progress_counts_samples(stage: Stage, harm_file: Write) -> None:
    run = stage.finish(harm_spec(harm_file(12)))
    progress = run.progress
    assert (progress.stage, progress.done, progress.total, progress.unit) == ("evaluate", 12, 12, "samples")


def test_duplicates_in_parts_are_dropped_first_wins(stage: Stage, harm_file: Write) -> None:
    card = stage.measure(harm_spec(harm_file(4)))
    records = stage.records(card.run)
    late = Record()
    late.CopyFrom(records[0])
    late.completion.answer = "another answer"
    stage.store.write(f"runs/{card.run}/parts/000009-000000.jsonl.zst", jsonl.pack([late]))
    assert stage.records(card.run) == records


def test_a_completion_stands_before_an_engine_error_of_the_same_key() -> None:
    failed, sound, later = (
        Record(key="a", completion=c)
        for c in (Completion(error="gone"), Completion(answer="first"), Completion(answer="second"))
    )
    other = Record(key="b", completion=Completion(error="gone"))
    assert list(unique([failed, other, sound, later, other])) == [sound, other]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (BenchSpec(benchmarks=[BenchmarkSpec(benchmark="xstest")]), "endpoint"),
        (BenchSpec(endpoint="base"), "strongreject"),
        (harm_spec("x", limit=-1), r"benchmarks\.strongreject\.limit is -1"),
        (harm_spec("x", repeats=-1), "repeats"),
        (harm_spec("x", attacks=["none", "none"]), "names one twice"),
        (harm_spec("x", attacks=["nome"]), "'nome' is unknown; expected one of none, prefill, template"),
        (harm_spec("x", judges=[JudgeSpec(judge="refusals")]), "'refusals' is unknown; expected one of refusal"),
        (BenchSpec(endpoint="base", benchmarks=[BenchmarkSpec(benchmark="xtest")]), "'xtest' is unknown.*xstest"),
        (BenchSpec(endpoint="base", benchmarks=[BenchmarkSpec(benchmark="xstest")] * 2), "twice"),
        (
            BenchSpec(
                endpoint="base",
                benchmarks=[BenchmarkSpec(benchmark="xstest")],
                attacks=[AttackSpec(attack="none"), AttackSpec(attack="none")],
            ),
            "used twice",
        ),
        (
            BenchSpec(
                endpoint="base", benchmarks=[BenchmarkSpec(benchmark="xstest")], sampling=Sampling(temperature=-1)
            ),
            r"sampling\.temperature is -1",
        ),
        (harm_spec("nowhere.csv"), r"nowhere\.csv.*LRM_DATA"),
        (harm_spec("nowhere.csv", endpoint="nobody"), "base, tuned"),
    ],
)
def test_bad_questions_are_refused_with_what_is_allowed(stage: Stage, spec: BenchSpec, expected: str) -> None:
    with pytest.raises(LrmError, match=expected):
        stage.start(spec)
    assert list(stage.store.list("runs/")) == []


def test_an_endpoint_that_is_not_ready_is_refused(stage: Stage, harm_file: Write) -> None:
    stage.inference.state = 1
    with pytest.raises(LrmError, match="STARTING, not READY; deploy"):
        stage.start(harm_spec(harm_file(3)))


def test_the_run_hangs_on_weights_samples_and_spec(stage: Stage, harm_file: Write) -> None:
    def id_of(spec: BenchSpec) -> Run:
        return stage.finish(spec).id

    path = harm_file(3)
    first = id_of(harm_spec(path))
    assert id_of(harm_spec(path, endpoint="tuned")) != first
    assert id_of(harm_spec(path, attacks=["none"], repeats=1)) == first  # the defaults, written down
    with open(path, "a", encoding="utf-8") as file:
        file.write("pranks,test,One more?\n")
    assert id_of(harm_spec(path)) != first
