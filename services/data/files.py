"""Finds and opens data files: a path in two places, plain or compressed, with errors that name file and reason."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import zstandard

from lrm_safety.errors import InvalidInput, NotFound

COMPRESSED = (".gz", ".zst")
LINE_CHARACTERS = 8 * 1024 * 1024
_CHUNK = 16 * 1024


def locate(path: str, data_dir: Path) -> Path:
    """A relative path in the working folder, then under LRM_DATA. Raises NotFound naming both places."""
    for place in _places(path, data_dir):
        if place.is_file():
            return place
    looked = " nor ".join(map(str, _places(path, data_dir)))
    raise NotFound(f"there is no file {looked}; mend the path, or set LRM_DATA to the folder of data files")


def locate_files(path: str, data_dir: Path, endings: Collection[str]) -> list[Path]:
    """As `locate`; of a folder, every file in and under it that ends so (or so and .gz or .zst), by name."""
    for place in _places(path, data_dir):
        if place.is_dir():
            found = sorted(each for each in place.rglob("*") if each.is_file() and ending(each.name) in endings)
            if not found:
                raise NotFound(f"the folder {place} has no file that ends in .{', .'.join(endings)}; fetch it again")
            return found
    return [locate(path, data_dir)]


def ending(name: str) -> str:
    """Of a file's name, without the dot; a .gz or .zst behind it does not count."""
    path = Path(name)
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix.removeprefix(".")


def _places(path: str, data_dir: Path) -> list[Path]:
    if not path:
        raise InvalidInput("a source needs a `path`; expected a file in the working folder or under LRM_DATA")
    here = Path(path).absolute()
    return [here] if Path(path).is_absolute() else [here, data_dir / path]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_text(path: Path, newline: str = "", errors: str = "strict") -> Iterator[TextIO]:
    """UTF-8 text of a plain, .gz or .zst file. What breaks while it is read inside the block is InvalidInput too."""
    try:
        with path.open("rb") as file:
            yield io.TextIOWrapper(_decompressed(path, file), encoding="utf-8-sig", errors=errors, newline=newline)
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: it is not UTF-8 text; convert it, for example with iconv") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InvalidInput(f"{path}: it cannot be decompressed ({error}); fetch or compress it again") from None


def read_lines(path: Path, newline: str) -> Iterator[tuple[int, str, str]]:
    """(number, text, "") of each line; (number, "", reason) of one that is no text. Holds no line of unlimited size."""
    number = 0
    with open_text(path, newline, errors="surrogateescape") as file:
        while line := file.readline(LINE_CHARACTERS + 1):
            number += 1
            reason = _flaw(line)
            yield number, "" if reason else line, reason
            while len(line) > LINE_CHARACTERS and line[-1] not in "\r\n":
                line = file.readline(LINE_CHARACTERS + 1)


def _flaw(line: str) -> str:
    if len(line) > LINE_CHARACTERS:
        return "too long"
    if "\0" in line:
        return "NUL character"
    if line.isascii():
        return ""
    try:
        line.encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return ""


def _decompressed(path: Path, file: BinaryIO) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if path.suffix == ".zst":
        return cast(BinaryIO, io.BufferedReader(_ZstdReader(file)))
    return file


class _ZstdReader(io.RawIOBase):
    """One zstd frame after the other. The library's own reader takes a file that was cut short for a whole one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._packed, self._ready, self._inside = b"", b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._file.read(_CHUNK)
            if not self._packed:
                if self._inside:
                    raise EOFError("it ends inside a zstd frame")
                return 0
            self._decompress()
        room = memoryview(buffer)
        count = min(len(room), len(self._ready))
        room[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _decompress(self) -> None:
        if not self._inside:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = self._frame.decompress(self._packed)
        self._inside = not self._frame.eof
        self._packed = b"" if self._inside else self._frame.unused_data
