"""The one import line for messages: `from lrm_safety.nouns import Sample, Run`. Plus tiny constructors."""

from lrm_safety.v1.bench_pb2 import *  # noqa: F403
from lrm_safety.v1.data_pb2 import *  # noqa: F403
from lrm_safety.v1.inference_pb2 import *  # noqa: F403
from lrm_safety.v1.judge_pb2 import *  # noqa: F403
from lrm_safety.v1.nouns_pb2 import *  # noqa: F403
from lrm_safety.v1.nouns_pb2 import Message, Run, RunState, Sample
from lrm_safety.v1.runs_pb2 import *  # noqa: F403
from lrm_safety.v1.trainer_pb2 import *  # noqa: F403

ROLES = ("harm", "over_refusal", "reasoning", "utility")
ENDED = (RunState.RUN_STATE_DONE, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def question(sample: Sample) -> str:
    """The request itself: the last user turn."""
    return next((m.content for m in reversed(sample.messages) if m.role == "user"), "")


def has_ended(run: Run) -> bool:
    return run.state in ENDED


def reference(name: str, digest: str) -> str:
    """`name@digest`, the form in which artefacts name each other."""
    return f"{name}@{digest}"
