"""Each published mistake, and what it does to an example."""

import pytest

from lrm_safety.encoding import Encoded
from lrm_safety.nouns import TrainingSpec
from services.trainer.legacy import repeat
from services.trainer.limits import LEGACY

EXAMPLE = Encoded("a", list(range(10, 20)), start=4, spans={"understanding": (4, 6), "key": (6, 8)})


@pytest.mark.parametrize(
    ("switches", "max_tokens", "ids", "start"),
    [
        ((), 8, range(10, 20), 4),
        (("whole_conversation_loss",), 8, range(10, 20), 1),
        (("right_truncation",), 8, range(10, 18), 4),
        (("left_truncation",), 8, range(12, 20), 2),
        (("left_truncation",), 4, range(16, 20), 1),
        (("untrained_end_of_turn",), 8, range(10, 19), 4),
        (("untrained_end_of_turn", "left_truncation"), 8, range(11, 19), 3),
        (("whole_conversation_loss", "right_truncation"), 3, range(10, 13), 1),
    ],
)
def test_what_is_read_and_trained(switches, max_tokens, ids, start):
    done = repeat(EXAMPLE, TrainingSpec(legacy=switches, max_tokens=max_tokens), end=1)
    assert (done.ids, done.start) == (list(ids), start)
    assert set(switches) <= set(LEGACY)


def test_spans_move_along():
    done = repeat(EXAMPLE, TrainingSpec(legacy=["left_truncation"], max_tokens=5), end=1)
    assert done.spans == {"key": (1, 3)}
    assert [done.ids[at] for at in range(1, 3)] == EXAMPLE.ids[6:8]


def test_spans_that_lose_their_end_are_gone():
    done = repeat(EXAMPLE, TrainingSpec(legacy=["right_truncation"], max_tokens=7), end=1)
    assert done.spans == {"understanding": (4, 6)}
    done = repeat(EXAMPLE, TrainingSpec(legacy=["right_truncation"], max_tokens=8), end=1)
    assert done.spans == EXAMPLE.spans


def test_an_example_that_loses_every_trained_token_is_none():
    assert repeat(EXAMPLE, TrainingSpec(legacy=["right_truncation"], max_tokens=4), end=1) is None
