"""A dataset as files for other trainers: `messages` as JSON lines, Parquet, or a folder that `load_dataset` reads.

The assistant's message is what a training here would train: think block and answer, as `thinking` says.
"""

import errno
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pyarrow import parquet

from lrm_safety import jsonl
from lrm_safety.chat import target_text
from lrm_safety.errors import Conflict, Exhausted, NotFound
from lrm_safety.export import landing
from lrm_safety.nouns import Dataset, Example, reference

ROWS_AT_ONCE = 1000
Rows = Iterable[dict[str, Any]]
_TEXT = pa.string()
_JSON = ("tags", "provenance", "spans")  # as text: which of them there are differs from row to row
_TEXTS = ("id", "prompt", "thinking", "answer", "instruction")
_MESSAGE = pa.struct([("role", _TEXT), ("content", _TEXT)])
_SCHEMA = pa.schema(
    [
        *((name, _TEXT) for name in _TEXTS),
        ("messages", pa.list_(_MESSAGE)),
        *((name, _TEXT) for name in _JSON),
    ]
)
_LICENCE = re.compile(r"[A-Za-z0-9.-]+")  # the form of an SPDX id
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write(dataset: Dataset, examples: Iterable[Example], form: str, folder: Path, thinking: str) -> list[Path]:
    """Returns the files. `form`: one of FORMS; `thinking`: one of chat.THINKING_MODES.

    Raises NotFound for another form, InvalidInput for another `thinking`, Conflict when the folder cannot be written,
    Exhausted when the disk is full. A file is there whole or not at all.
    """
    if form not in FORMS:
        raise NotFound(f"datasets have no form {form!r}; there are: {', '.join(FORMS)}")
    rows = (_row(example, thinking) for example in examples)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FORMS[form](dataset, rows, folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Exhausted(f"no space left for the export in {folder}; free some and ask again") from error
        raise Conflict(f"the export cannot be written to {folder} ({error.strerror}); name another folder") from error


def card(dataset: Dataset) -> str:
    """The dataset card of a Hugging Face folder: what is in it, from where, under which licences."""
    licences = sorted({part.licence or "unknown" for part in dataset.parts})
    head = {
        "license": licences[0].lower() if len(licences) == 1 and _LICENCE.fullmatch(licences[0]) else "other",
        "pretty_name": dataset.name,
        "size_categories": [next((name for most, name in _SIZES if dataset.examples < most), "n>1M")],
        "tags": ["lrm-safety"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    parts = [f"| {part.name} | {part.kept:,} | {part.licence or 'unknown'} |" for part in dataset.parts]
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {dataset.name}",
        f"{dataset.examples:,} examples for safety training; `{reference(dataset.name, dataset.digest)}`.",
        "Many are requests that a model should refuse. They are here to train refusals, and for nothing else.",
        "\n".join(["| part | examples | licence |", "|---|---:|---|", *parts]),
        "`messages` is what is trained; `prompt`, `thinking` and `answer` are its pieces. `instruction` is what the "
        "writer was told, never trained. As JSON: `tags`, such as category and source; `provenance`, which file, row, "
        "builder and model it comes from; `spans`, characters of the response with its thinking.",
    ]
    return "\n\n".join(lines) + "\n"


def _row(example: Example, thinking: str) -> dict[str, Any]:
    messages = [("user", example.prompt), ("assistant", target_text(example, thinking))]
    return {
        **{name: getattr(example, name) for name in _TEXTS},
        "messages": [{"role": role, "content": content} for role, content in messages],
        "tags": dict(sorted(example.tags.items())),
        "provenance": jsonl.to_dict(example.provenance),
        "spans": [{"name": span.name, "start": span.start, "end": span.end} for span in example.spans],
    }


def _write_jsonl(dataset: Dataset, rows: Rows, folder: Path) -> list[Path]:
    target = folder / f"{dataset.name}.jsonl"
    with landing(target) as path, path.open("w", encoding="utf-8") as file:
        for row in rows:
            kept = {name: row[name] for name in ("id", "messages", "instruction", *_JSON)}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
    return [target]


def _write_parquet(dataset: Dataset, rows: Rows, folder: Path) -> list[Path]:
    return [_table(rows, folder / f"{dataset.name}.parquet")]


def _write_huggingface(dataset: Dataset, rows: Rows, folder: Path) -> list[Path]:
    (folder / "data").mkdir(exist_ok=True)
    written = _table(rows, folder / "data" / "train-00000-of-00001.parquet")
    with landing(folder / "README.md") as path:
        path.write_text(card(dataset), encoding="utf-8")
    return [folder / "README.md", written]


def _table(rows: Rows, target: Path) -> Path:
    with landing(target) as path, parquet.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for some in _grouped(rows):
            flat = [{**row, **{name: json.dumps(row[name], ensure_ascii=False) for name in _JSON}} for row in some]
            writer.write_table(pa.Table.from_pylist(flat, _SCHEMA))
    return target


def _grouped(rows: Rows) -> Iterator[list[dict[str, Any]]]:
    left = iter(rows)
    while some := list(islice(left, ROWS_AT_ONCE)):
        yield some


Form = Callable[[Dataset, Rows, Path], list[Path]]
FORMS: dict[str, Form] = {"jsonl": _write_jsonl, "parquet": _write_parquet, "huggingface": _write_huggingface}
