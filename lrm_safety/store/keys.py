"""What a key may be: the rules of a folder and of any S3 together, so that no adapter takes what another refuses."""

from lrm_safety.errors import InvalidInput

SCRATCH = ".tmp"  # where the folder adapter keeps unfinished files; no key may start there
MAX_KEY_BYTES = 1024  # S3's limit
MAX_PART_BYTES = 255  # a file system's limit for one name


def check_key(key: str) -> str:
    """The key itself. Raises InvalidInput saying what is wrong with it."""
    parts = key.split("/")
    if wrong := _wrong_characters(key) or _wrong_parts(parts):
        raise InvalidInput(f"store key {key!r} {wrong}; expected relative parts joined by '/': runs/x/result.json")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself: the start of a key, or empty for all of them. Raises InvalidInput."""
    if prefix:
        check_key(prefix + "_")  # a prefix may stop anywhere, also right after a slash
    return prefix


def _wrong_characters(key: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 or character == "\\" for character in key):
        return "holds a control character or a backslash"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return f"is {size} bytes long (at most {MAX_KEY_BYTES})" if size > MAX_KEY_BYTES else ""


def _wrong_parts(parts: list[str]) -> str:
    if "" in parts:
        return "has an empty part"
    if "." in parts or ".." in parts:
        return "has a part '.' or '..'"
    if parts[0] == SCRATCH:
        return f"starts with {SCRATCH}, which is kept for unfinished files"
    longest = max(len(part.encode()) for part in parts)
    return f"has a part of {longest} bytes (at most {MAX_PART_BYTES})" if longest > MAX_PART_BYTES else ""
