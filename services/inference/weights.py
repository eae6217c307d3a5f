"""What an engine's pod runs first: `python -m services.inference.weights <name@digest> <folder>`.

Puts a checkpoint into <folder>/<digest>, every sha256 verified. Pods may share the folder: each fetches beside the
others, and the first to be done wins. Exit codes: 0 it is there, 1 it may work when tried again (store away, disk
full), 2 it will not (no such checkpoint, wrong bytes, files that could run code).
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lrm_safety import artefacts, observe
from lrm_safety.errors import Corrupt, InvalidInput, LrmError, NotFound
from lrm_safety.nouns import Checkpoint, FileEntry
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store

WEIGHTS = ".safetensors"
ALLOWED = (WEIGHTS, ".json", ".jinja", ".txt", ".model", ".tiktoken", ".md")
HOPELESS = (InvalidInput, NotFound, Corrupt)
log = observe.logger(__name__)


def main(arguments: Sequence[str]) -> int:
    settings = Settings.from_env()
    observe.configure(settings)
    try:
        if len(arguments) != 2:
            raise InvalidInput("usage: python -m services.inference.weights <name@digest> <folder>")
        put(open_store(settings), arguments[0], Path(arguments[1]))
        return 0
    except LrmError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, HOPELESS) else 1
    except OSError as error:
        sys.stderr.write(f"error: {arguments[1]}: {error.strerror}; make room or give this user access\n")
        return 1


def put(store: ObjectStore, reference: str, folder: Path) -> Path:
    """The folder of the checkpoint, verified whether fetched now or by somebody before; a spoilt one is replaced.

    Raises NotFound, InvalidInput (a file that could run code), Corrupt (the store's bytes are not the manifest's).
    """
    manifest = artefacts.find(store, "checkpoints", Checkpoint, reference)
    check_files(manifest)
    target = folder / manifest.digest
    if target.exists():
        spoilt = artefacts.verify(manifest, target)
        if not spoilt:
            log.info("weights_there", checkpoint=reference, bytes=int(total(manifest)))
            return target
        log.warning("weights_spoilt", checkpoint=reference, file=spoilt)
        _set_aside(target)
    done = 0.0

    def show(entry: FileEntry) -> None:
        nonlocal done
        done += entry.size
        log.info("weights_fetched", checkpoint=reference, file=entry.path, bytes=int(done), of=int(total(manifest)))

    return artefacts.fetch(store, "checkpoints", manifest, folder, on_file=show)


def check_files(manifest: Checkpoint) -> None:
    """Raises InvalidInput for a checkpoint with anything but safetensors, JSON, templates and tokenizer files."""
    for entry in manifest.files:
        path = PurePosixPath(entry.path)
        if path.suffix not in ALLOWED or ".." in path.parts or path.is_absolute():
            raise InvalidInput(
                f"{entry.path} of checkpoint {manifest.name} is no file that a model is served from "
                f"({', '.join(ALLOWED)}): pickles and code are never loaded; convert and import the checkpoint again"
            )


def total(manifest: Checkpoint, suffix: str = "") -> float:
    """Bytes of the files whose names end so."""
    return sum(entry.size for entry in manifest.files if entry.path.endswith(suffix))


def _set_aside(target: Path) -> None:
    """Engines that read it keep what they have open."""
    aside = Path(tempfile.mkdtemp(prefix=".spoilt-", dir=target.parent))
    target.rename(aside / target.name)
    shutil.rmtree(aside)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
