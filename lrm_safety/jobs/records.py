"""What the store remembers of a cluster's jobs, for ever: their objects go, and with them the pods' logs.

jobs/<id>/submitted     it was made once; when its objects are gone before it ended, somebody deleted them
jobs/<id>/cancel        somebody wants its end
jobs/<id>/log           the end of its output, once it has ended
jobs/<id>/ended.json    how it ended; written last
"""

import json
from dataclasses import asdict, dataclass

from lrm_safety.errors import NotFound
from lrm_safety.jobs import JobState
from lrm_safety.jobs.folder import Ended, log_key
from lrm_safety.store import ObjectStore


@dataclass(frozen=True)
class Ending(Ended):
    started_at: float = 0.0
    ended_at: float = 0.0


class JobRecords:
    """The first to write a record wins; endings are kept in memory, for they never change."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._endings: dict[str, Ending] = {}

    def note_submitted(self, job_id: str) -> None:
        self._store.create(f"jobs/{job_id}/submitted", b"")

    def was_submitted(self, job_id: str) -> bool:
        return self._store.stat(f"jobs/{job_id}/submitted") is not None

    def ask_for_end(self, job_id: str) -> None:
        self._store.create(f"jobs/{job_id}/cancel", b"")

    def is_to_end(self, job_id: str) -> bool:
        return self._store.stat(f"jobs/{job_id}/cancel") is not None

    def end(self, job_id: str, ending: Ending, log: bytes | None) -> Ending:
        """How it ended by the first account; None for a log that nobody could read any more."""
        if log is not None:
            self._store.create(log_key(job_id), log)
        self._store.create(_ended_key(job_id), json.dumps(asdict(ending)).encode())
        return self.ending(job_id) or ending

    def ending(self, job_id: str) -> Ending | None:
        if job_id not in self._endings:
            try:
                record = json.loads(self._store.read(_ended_key(job_id)))
            except NotFound:
                return None
            self._endings[job_id] = Ending(**{**record, "state": JobState(record["state"])})
        return self._endings[job_id]

    def known_ending(self, job_id: str) -> Ending | None:
        """As `ending`, without asking the store."""
        return self._endings.get(job_id)

    def log(self, job_id: str) -> bytes:
        """Empty when none could be kept."""
        try:
            return self._store.read(log_key(job_id))
        except NotFound:
            return b""


def _ended_key(job_id: str) -> str:
    return f"jobs/{job_id}/ended.json"
