"""Steps, micro-batches and learning rates: every example once an epoch, the same however it is cut."""

import itertools

import pytest

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingSpec, Turn
from services.trainer.plan import Plan

LENGTHS = [5, 9, 2, 7, 7, 3, 8, 1, 6, 4]


def plan(parts=(), **changes):
    spec = TrainingSpec(epochs=2, batch_size=4, micro_batch_size=2, processes=1, seed=3, learning_rate=1.0)
    spec.MergeFrom(TrainingSpec(**changes))
    return Plan(LENGTHS, spec, parts)


def test_each_epoch_sees_every_example_once():
    seen = [index for step in range(5) for index in plan().examples(step)]
    assert plan().steps == 5
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]
    assert seen != [index for step in range(5) for index in plan(seed=4).examples(step)]


def test_last_step_is_full():
    assert plan(epochs=1).steps == 3
    assert len(plan(epochs=1).examples(2)) == 4
    assert plan(epochs=0.1).steps == 1


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_share_a_step_without_overlap(processes, is_packed):
    one = plan(processes=processes)
    for step in range(one.steps):
        micros = [one.micros(step, rank, is_packed) for rank in range(processes)]
        assert [len(each) for each in micros] == [2 // processes] * processes
        assert sorted(index for each in micros for micro in each for index in micro) == sorted(one.examples(step))
        assert all(micro for each in micros for micro in each)


def test_packed_micro_batches_are_of_a_size():
    one = plan(batch_size=10, micro_batch_size=5)
    loads = [sum(LENGTHS[index] for index in micro) for micro in one.micros(0, 0, is_packed=True)]
    assert loads == [26, 26]
    long = Plan([1000, 3, 2, 1], TrainingSpec(epochs=1, batch_size=4, micro_batch_size=2, processes=1))
    assert long.micros(0, 0, is_packed=True) == [[0], [1, 2, 3]]


def test_turns_alternate_and_each_part_has_its_own_shuffle():
    parts = ["safety"] * 4 + ["maths"] * 6
    turns = [Turn(part="safety", steps=1), Turn(part="maths", steps=2)]
    one = plan(parts, batch_size=2, epochs=4, turns=turns)
    seen = [one.examples(step) for step in range(one.steps)]
    assert [{parts[index] for index in each} for each in seen[:6]] == [{"safety"}, {"maths"}, {"maths"}] * 2
    assert sorted(seen[0] + seen[3]) == [0, 1, 2, 3]
    assert sorted(seen[1] + seen[2] + seen[4]) == [4, 5, 6, 7, 8, 9]
    with pytest.raises(InvalidInput, match=r"names the part 'code', .* it has: maths, safety"):
        plan(parts, turns=[Turn(part="code", steps=1)])


def test_padded_micro_batches_pad_little():
    for micro in plan(batch_size=10, micro_batch_size=5).micros(0, 0, is_packed=False):
        lengths = [LENGTHS[index] for index in micro]
        assert lengths in ([9, 8, 7, 7, 6], [5, 4, 3, 2, 1])


def test_every_process_and_step_draws_numbers_of_its_own_with_the_largest_seed_too():
    one = plan(seed=2**31 - 1, processes=8)
    seeds = {one.seed(step, rank) for step in range(100) for rank in range(8)}
    assert len(seeds) == 800 and max(seeds) < 2**63
    assert plan(seed=5).seed(7, 0) == (5 << 32) + 7


def test_resume_points():
    assert [step for step in range(5) if plan().saves_after(step)] == [2]  # epoch 1 ends inside step 2
    assert [step for step in range(5) if plan(save_every_steps=2).saves_after(step)] == [1, 3]
    assert not plan(save_every_steps=5).saves_after(4)


def test_learning_rate_warms_up_then_falls():
    rates = [plan(epochs=4, warmup_ratio=0.2).learning_rate(step) for step in range(10)]
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[2:]))
    assert rates[6] == pytest.approx(0.5)
    assert plan().learning_rate(0) == 1.0
