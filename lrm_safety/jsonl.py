"""Messages <-> JSON lines: the one place that knows the stored form (proto field names, zero values left out)."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import zstandard
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from lrm_safety.errors import Corrupt

M = TypeVar("M", bound=Message)


def to_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def dumps(message: Message) -> str:
    return json.dumps(to_dict(message), ensure_ascii=False)


def loads(kind: type[M], text: str | bytes) -> M:
    """A message from its JSON. Raises Corrupt without quoting the text."""
    try:
        return kind(**json.loads(text))
    except (ValueError, TypeError) as error:
        what = f"stored {kind.__name__} cannot be read ({type(error).__name__})"
        raise Corrupt(f"{what}; remove it and run again") from None


def canonical(message: Message) -> bytes:
    """Bytes to hash: the same for equal messages, whatever order their maps were filled in."""
    return json.dumps(to_dict(message), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def pack(messages: Iterable[Message]) -> bytes:
    """Messages as zstd-compressed JSON lines."""
    text = "".join(dumps(message) + "\n" for message in messages)
    return zstandard.ZstdCompressor(level=3).compress(text.encode())


def unpack(kind: type[M], data: bytes) -> Iterator[M]:
    """The inverse of `pack`."""
    for line in lines(data):
        yield loads(kind, line)


def lines(data: bytes) -> list[bytes]:
    """The lines of what `pack` made, not yet read. Raises Corrupt."""
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data).splitlines()
    except zstandard.ZstdError as error:
        raise Corrupt(f"stored lines cannot be unpacked ({error}); remove them and run again") from None


def escaped(text: str) -> str:
    """How a piece of text stands inside a stored line."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
