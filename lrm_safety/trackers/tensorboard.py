"""TensorBoard: an event file of scalars. Look at it with `tensorboard --logdir FOLDER`."""

from collections.abc import Iterable
from pathlib import Path

from lrm_safety.nouns import TrainingMetrics
from lrm_safety.tracking import scalars


def write(run: str, rows: Iterable[TrainingMetrics], folder: Path) -> str:
    """Replaces what an earlier export of the run left there."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    place = folder / run
    for old in place.glob("events.out.tfevents.*"):
        old.unlink()
    writer = EventFileWriter(str(place))
    for row in rows:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(row)]
        writer.add_event(Event(step=row.step, summary=Summary(value=values)))
    writer.close()
    return str(place)
