"""The output of a job's pods: read while they run, followed while they go, collected once the job has ended."""

import threading
from collections import deque
from collections.abc import Iterable, Sequence

from lrm_safety import observe
from lrm_safety.errors import LrmError
from lrm_safety.jobs.folder import KEPT_LOG_BYTES
from lrm_safety.jobs.kube import Kube, Object
from lrm_safety.jobs.pod_template import CONTAINER
from lrm_safety.jobs.pods import containers, is_ending, job_of, last_end, name_of, state

log = observe.logger(__name__)
KEPT_OF_GONE_BYTES = 1 << 20  # of each pod that went before its job ended
OPENING_S = 5.0
LAST_WORDS_S = 15.0  # from the end of a container to the end of its log's stream


def shown(kube: Kube, pods: Sequence[Object], tail: int) -> str:
    """The last lines of each pod."""
    return _joined([_Followed(kube, pod, tailLines=str(tail)).read() for pod in _started(pods)]).decode(
        errors="replace"
    )


class PodLogs:
    """All that the pods of Jobs said, also of those that go before their job has ended: a deadline deletes them, a
    disruption, the failure of another node. Only for jobs that somebody looks at here.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._going: dict[str, dict[str, _Followed]] = {}  # job -> pod -> its output
        self._lock = threading.Lock()

    def care_for(self, job_id: str) -> None:
        with self._lock:
            self._going.setdefault(job_id, {})

    def forget(self, job_id: str) -> None:
        with self._lock:
            self._going.pop(job_id, None)

    def notice(self, pod: Object) -> None:
        """Follows one that is going, to its end."""
        with self._lock:
            mine = self._going.get(job_of(pod))
            if mine is None or name_of(pod) in mine or not is_ending(pod) or not _started([pod]):
                return
            mine[name_of(pod)] = _Followed(self._kube, pod, limit=KEPT_OF_GONE_BYTES, follow="true")
            mine[name_of(pod)].start()

    def collected(self, job_id: str, pods: Sequence[Object]) -> bytes | None:
        """The oldest first, at most KEPT_LOG_BYTES; None when no pod is there, nor was one noticed."""
        there = {name_of(pod) for pod in pods}
        with self._lock:
            gone = [each for name, each in self._going.pop(job_id, {}).items() if name not in there]
        for each in gone:
            each.join(LAST_WORDS_S)
        started = _started(pods)
        limit = KEPT_LOG_BYTES // max(len(started), 1)
        read = [_Followed(self._kube, pod, limit=limit).read() for pod in started]
        return _joined([*gone, *read])[-KEPT_LOG_BYTES:] if pods or gone else None


class LastWords:
    """Follows the pods that are about to be stopped, until their containers have ended.

    with LastWords(kube, pods) as words: ...   # stop them, wait until they are gone
    words.text()
    """

    def __init__(self, kube: Kube, pods: Sequence[Object]) -> None:
        started = _started(pods)
        limit = KEPT_LOG_BYTES // max(len(started), 1)
        self._followed = [_Followed(kube, pod, limit=limit, follow="true") for pod in started]

    def __enter__(self) -> "LastWords":
        for each in self._followed:
            each.start()
        for each in self._followed:
            each.is_open.wait(OPENING_S)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._followed:
            each.join(LAST_WORDS_S)

    def text(self) -> bytes:
        return _joined(self._followed)


class _Followed(threading.Thread):
    """One pod's output, by its end. Its own thread only when it is followed."""

    def __init__(self, kube: Kube, pod: Object, limit: int = KEPT_LOG_BYTES, **query: str) -> None:
        super().__init__(name=f"log-{name_of(pod)}", daemon=True)
        self.pod = pod
        self.is_open = threading.Event()  # what is said from now on is heard
        self._kube, self._query, self._limit = kube, query, limit
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def read(self) -> "_Followed":
        self.run()
        return self

    def run(self) -> None:
        for container in [each for each in containers(self.pod) if _has_output(each)]:
            # what a server said before it was started anew says more than what it says now
            if container.get("restartCount") and not state(container, "running"):
                self._add(container["name"], {**self._query, "previous": "true"})
            else:
                self._add(container["name"], self._query)

    def _add(self, container: str, query: dict[str, str]) -> None:
        try:
            pieces = self._kube.log(name_of(self.pod), container, **query)
            self.is_open.set()
            for piece in pieces:
                self._pieces.append(piece)
                self._size += len(piece)
                while self._size - len(self._pieces[0]) >= self._limit:
                    self._size -= len(self._pieces.popleft())
        except LrmError as error:  # its node is gone, say: an end without a log is an end
            log.warning("log_not_read", pod=name_of(self.pod), container=container, error=str(error))

    def text(self) -> bytes:
        """At most `limit` bytes, whole lines."""
        data = b"".join(self._pieces)
        if len(data) <= self._limit:
            return data
        data = data[-self._limit :]
        return data[data.find(b"\n") + 1 :]


def _has_output(container: Object) -> bool:
    """One that succeeded before the job's own began has nothing to say."""
    end = last_end(container)
    if container["name"] != CONTAINER and end.get("exitCode") == 0:
        return False
    return bool(end or state(container, "running"))


def _started(pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if any(_has_output(each) for each in containers(pod))]


def _joined(followed: Sequence[_Followed]) -> bytes:
    """A single pod's output as it is; of several, each under its name."""
    if len(followed) == 1:
        return followed[0].text()
    return b"".join(f"==> {name_of(each.pod)}\n".encode() + each.text() for each in followed)
