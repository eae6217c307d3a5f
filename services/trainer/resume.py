"""Resume points: the training engine's state in the store, believed only when its manifest is there.

    runs/<run>/resume/<step>/<files…>
    runs/<run>/resume/<step>/manifest.json    sha256 of every file; written last

`step` counts the optimizer steps that are done. An older point is deleted only after the newer one is complete.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from lrm_safety import observe
from lrm_safety.errors import Corrupt
from lrm_safety.store import ObjectStore

log = observe.logger(__name__)
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ResumePoints:
    store: ObjectStore
    run: str

    def newest(self) -> int:
        """Steps done at the newest complete point; 0 when there is none."""
        keys = self.store.list(self._root)
        return max((int(key.split("/")[-2]) for key in keys if key.endswith(f"/{MANIFEST}")), default=0)

    def upload(self, step: int, folder: Path) -> None:
        """Makes a folder the newest point, then deletes what is older."""
        digests = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            digests[name] = self.store.upload(path, f"{self._root}{step:08d}/{name}")
        self.store.write(f"{self._root}{step:08d}/{MANIFEST}", json.dumps(digests).encode())
        log.info("resume_point_saved", run=self.run, step=step)
        self._delete(keep=step)

    def download(self, step: int, folder: Path) -> Path:
        """The point's files under folder/<tag>, every digest verified. Raises Corrupt."""
        target = folder / tag(step)
        shutil.rmtree(target, ignore_errors=True)
        digests = json.loads(self.store.read(f"{self._root}{step:08d}/{MANIFEST}"))
        for name, digest in digests.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            key = f"{self._root}{step:08d}/{name}"
            if self.store.download(key, path) != digest:
                raise Corrupt(f"{key} is not what was saved; delete {self._root}{step:08d} and ask for the run again")
        return target

    def clear(self) -> None:
        """All points: the run is done and will not be resumed."""
        self._delete(keep=-1)

    def _delete(self, keep: int) -> None:
        """Manifests first: a point that is half deleted must not look complete."""
        old = [key for key in self.store.list(self._root) if int(key.split("/")[3]) != keep]
        for key in sorted(old, key=lambda key: not key.endswith(f"/{MANIFEST}")):
            self.store.delete(key)

    @property
    def _root(self) -> str:
        return f"runs/{self.run}/resume/"


def tag(step: int) -> str:
    """The engine's name for a point."""
    return f"step-{step}"
