"""Resume points: the state of a training in the store, believed only when its manifest is there.

    runs/<run>/resume/<step>/<attempt>-<rank>-<n>.safetensors    pieces, written by the process that holds them
    runs/<run>/resume/<step>/<attempt>-<rank>.json               sha256 of each of a process's pieces, after them
    runs/<run>/resume/<step>/manifest.json                       all of them; written last, by the first process

`step` counts the optimizer steps that are done. An older point is deleted only after the newer one is complete.
"""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lrm_safety import observe
from lrm_safety.errors import Corrupt, Unavailable
from lrm_safety.store import ObjectStore

log = observe.logger(__name__)
MANIFEST = "manifest.json"
POLL_S = 0.1
AT_ONCE = 4  # pieces fetched


@dataclass(frozen=True)
class ResumePoints:
    """Of one run. `attempt` keeps apart what several attempts wrote for the same step."""

    store: ObjectStore
    run: str
    attempt: int = 0

    def newest(self) -> int:
        """Steps done at the newest complete point; 0 when there is none."""
        return max(self._complete(), default=0)

    def write(self, step: int, rank: int, number: int, piece: bytes) -> tuple[str, str]:
        """(name, sha256) of a piece; the digest is taken from the bytes that are sent, none is read again."""
        name = f"{self.attempt:03d}-{rank:05d}-{number:05d}.safetensors"
        return name, self.store.write(f"{self._at(step)}{name}", piece)

    def write_share(self, step: int, rank: int, digests: dict[str, str]) -> None:
        """Says that a process has written all its pieces."""
        self.store.write(self._share(step, rank), json.dumps(digests).encode())

    def complete(self, step: int, processes: int, keep: int, is_given_up: Callable[[], bool]) -> None:
        """Waits for every process's share, announces the point, then deletes what is older than the newest `keep`.

        A newer one that others are writing already stays. Raises Unavailable when it is given up first.
        """
        digests: dict[str, str] = {}
        for rank in range(processes):
            while not self.store.stat(self._share(step, rank)):
                if is_given_up():
                    raise Unavailable(f"process {rank} did not write its share of the resume point at step {step}")
                time.sleep(POLL_S)
            digests |= json.loads(self.store.read(self._share(step, rank)))
        self.store.write(f"{self._at(step)}{MANIFEST}", json.dumps(digests).encode())
        log.info("resume_point_saved", run=self.run, step=step, pieces=len(digests))
        oldest = sorted(self._complete())[-keep:][0]
        self._delete(lambda step: step < oldest)

    def download(self, step: int, folder: Path) -> list[Path]:
        """The point's pieces under `folder`, every digest verified. Raises Corrupt."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        digests: dict[str, str] = json.loads(self.store.read(f"{self._at(step)}{MANIFEST}"))

        def fetch(name: str) -> Path:
            key = f"{self._at(step)}{name}"
            if self.store.download(key, folder / name) != digests[name]:
                raise Corrupt(f"{key} is not what was saved; delete {self._at(step)} and ask for the run again")
            return folder / name

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(fetch, sorted(digests)))

    def clear(self) -> None:
        """All points: the run is done and will not be resumed."""
        self._delete(lambda step: True)

    def _complete(self) -> list[int]:
        keys = self.store.list(self._root)
        return [int(key.split("/")[-2]) for key in keys if key.endswith(f"/{MANIFEST}")]

    def _delete(self, is_old: Callable[[int], bool]) -> None:
        """Manifests first: a point that is half deleted must not look complete."""
        old = [key for key in self.store.list(self._root) if is_old(int(key.split("/")[3]))]
        for key in sorted(old, key=lambda key: not key.endswith(f"/{MANIFEST}")):
            self.store.delete(key)

    def _share(self, step: int, rank: int) -> str:
        return f"{self._at(step)}{self.attempt:03d}-{rank:05d}.json"

    def _at(self, step: int) -> str:
        return f"{self._root}{step:08d}/"

    @property
    def _root(self) -> str:
        return f"runs/{self.run}/resume/"
