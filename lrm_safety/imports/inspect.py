"""Inspect AI: .eval and .json logs, one or a folder of them."""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import zstandard

from lrm_safety.errors import InvalidInput
from lrm_safety.importing import MADE_BY, Foreign, Meaning, asked_of, digest, meaning_of, verdict
from lrm_safety.nouns import (
    BenchSpec,
    Completion,
    Imported,
    Message,
    Prompt,
    Record,
    Sample,
    Sampling,
    Scorecard,
    ThinkState,
    Usage,
    Verdict,
)

VERSION = 2
_ZSTANDARD = 93  # zip's number of the compression that Inspect uses and Python 3.11 does not know
_STOPS = {"max_tokens": "length", "model_length": "length", "content_filter": "content_filter"}
Tree = dict[str, Any]


@dataclass(frozen=True)
class _Log:
    path: Path
    header: Tree
    samples: Iterator[Tree]

    @property
    def about(self) -> Tree:
        """What `lrm export` noted; empty in logs that Inspect made."""
        noted = self.header["eval"].get("metadata") or {}
        return noted if noted.get("made_by") == MADE_BY else {}

    @property
    def place(self) -> tuple[str, str]:
        """Benchmark and attack."""
        return self.header["eval"]["task"].rsplit("/", 1)[-1], self.about.get("attack", "none")


def matches(path: Path) -> bool:
    return bool(_files(path))


def read(path: Path, roles: Mapping[str, Meaning]) -> Foreign:
    files = _files(path)
    logs = [_open(file) for file in files]
    _check_one_model(logs)
    records: list[Record] = []
    asked: dict[str, dict[str, list[str]]] = {}
    repeats: dict[str, int] = {}
    for log in logs:
        name, attack = log.place
        meaning = meaning_of(name, roles, log.about.get("role", ""))
        judges = asked.setdefault(name, {}).setdefault(attack, [])
        for record in _records(log, meaning):
            records.append(record)
            judges.extend(each.judge for each in record.verdicts if each.judge not in judges)
            repeats[name] = max(repeats.get(name, 1), record.prompt.repeat + 1)
        if not judges:
            raise InvalidInput(f"{log.path}: no sample has a score; score the log with Inspect first")
    first = logs[0].header["eval"]
    config = first.get("model_generate_config") or {}
    spec = BenchSpec(benchmarks=asked_of(asked, repeats), sampling=_sampling(config), seed=config.get("seed") or 0)
    return Foreign(
        Scorecard(
            endpoint=first["model"],
            checkpoint=logs[0].about.get("checkpoint", ""),
            weights_digest=logs[0].about.get("weights_digest", ""),
            spec=spec,
            created_at=datetime.fromisoformat(first["created"]).timestamp(),
            imported=Imported(format="inspect", file=path.name, digest=digest(files)),
        ),
        records,
    )


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.is_file() and matches(each))
    if path.suffix == ".eval":
        return [path]
    if path.suffix != ".json":
        return []
    with path.open("rb") as file:
        start = file.read(4096)
    return [path] if b'"version"' in start and b'"eval"' in start and b'"task"' in start else []


def _open(path: Path) -> _Log:
    """Raises InvalidInput for a broken log, one of another version, and one that is not finished."""
    try:
        header, samples = _parse_zip(path) if path.suffix == ".eval" else _parse_json(path)
        version, status, model = header["version"], header["status"], header["eval"]["model"]
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path}: not a finished Inspect log ({type(error).__name__})") from None
    if version != VERSION:
        raise InvalidInput(f"{path}: the log's version is {version}; expected {VERSION}")
    if status != "success":
        raise InvalidInput(f"{path}: the log of {model} has the status {status}; only finished ones can be a baseline")
    return _Log(path, header, samples)


def _parse_json(path: Path) -> tuple[Tree, Iterator[Tree]]:
    tree = json.loads(path.read_text(encoding="utf-8"))
    return tree, iter(tree.get("samples") or [])


def _parse_zip(path: Path) -> tuple[Tree, Iterator[Tree]]:
    with zipfile.ZipFile(path) as archive:
        names = [each for each in archive.namelist() if each.startswith("samples/") and each.endswith(".json")]
        header = json.loads(_member(archive, "header.json"))

    def samples() -> Iterator[Tree]:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                yield json.loads(_member(archive, name))

    return header, samples()


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file's bytes, also where they are compressed with Zstandard. Raises BadZipFile when they are damaged."""
    info = archive.getinfo(name)
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    assert archive.fp is not None
    archive.fp.seek(info.header_offset)
    name_length, extra_length = struct.unpack("<26x2H", archive.fp.read(30))
    archive.fp.seek(name_length + extra_length, 1)
    packed = archive.fp.read(info.compress_size)
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            data: bytes = reader.read(info.file_size)
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(str(error)) from None
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"{name} is damaged")
    return data


def _check_one_model(logs: list[_Log]) -> None:
    models = {log.header["eval"]["model"] for log in logs}
    if len(models) > 1:
        raise InvalidInput(f"the logs are of {len(models)} models ({', '.join(sorted(models))}); import one at a time")
    seen: dict[tuple[str, str], Path] = {}
    for log in logs:
        if log.place in seen:
            raise InvalidInput(f"{log.path} and {seen[log.place]} are of one task; leave one of them out")
        seen[log.place] = log.path


def _records(log: _Log, meaning: Meaning) -> Iterator[Record]:
    try:
        for tree in log.samples:
            yield _record(log, tree, meaning)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{log.path}: a sample cannot be read ({type(error).__name__})") from None


def _record(log: _Log, tree: Tree, meaning: Meaning) -> Record:
    benchmark, attack = log.place
    repeat, texts = int(tree.get("epoch", 1)) - 1, _Texts(tree.get("attachments") or {})
    key = f"{benchmark}/{attack}/{tree['id']}/{repeat}"
    is_without = log.about.get("is_with_text") is False
    messages = [] if is_without else texts.messages(tree.get("input", ""))
    target = tree.get("target", "")
    noted = tree.get("metadata") or {}
    return Record(
        key=key,
        benchmark=benchmark,
        attack=attack,
        role=meaning.role,
        sample=Sample(
            id=str(tree["id"]),
            messages=messages,
            target="" if is_without else target if isinstance(target, str) else "\n".join(target),
            cluster=str(noted.get("cluster", "")) if log.about else "",
        ),
        prompt=Prompt(id=key, messages=messages, repeat=repeat),
        completion=_completion(key, tree, texts, is_without),
        verdicts=[_verdict(judge, score, meaning) for judge, score in (tree.get("scores") or {}).items()],
    )


def _completion(key: str, tree: Tree, texts: "_Texts", is_without: bool) -> Completion:
    if tree.get("error"):
        return Completion(id=key, error="the sample ended with an error in Inspect")
    output = tree.get("output") or {}
    choices = output.get("choices") or [{"message": {"content": ""}, "stop_reason": "unknown"}]
    content = choices[0]["message"]["content"]
    thinking = texts.parts(content, "reasoning")
    has_thinking = isinstance(content, list) and any(part.get("type") == "reasoning" for part in content)
    usage = output.get("usage") or {}
    return Completion(
        id=key,
        thinking="" if is_without else thinking,
        answer="" if is_without else texts.parts(content, "text"),
        think_state=ThinkState.THINK_STATE_CLOSED if has_thinking else ThinkState.THINK_STATE_ABSENT,
        finish_reason=_STOPS.get(choices[0].get("stop_reason", ""), "stop"),
        usage=Usage(prompt_tokens=usage.get("input_tokens", 0), completion_tokens=usage.get("output_tokens", 0)),
        latency_s=tree.get("working_time") or 0.0,
    )


def _verdict(judge: str, score: Tree, meaning: Meaning) -> Verdict:
    """Our own export keeps what the judge measured; another's score means what was said on import."""
    noted = score.get("metadata") or {}
    if "verdict_value" in noted and noted.get("measure"):
        return Verdict(
            judge=judge,
            judge_digest=noted.get("judge_digest", ""),
            label=noted.get("label", ""),
            measure=noted["measure"],
            value=noted["verdict_value"],
            score=noted.get("verdict_score", 0.0),
        )
    return verdict(judge, score.get("value"), meaning, score.get("reason") or "")


@dataclass(frozen=True)
class _Texts:
    """Inspect moves long texts of a sample into its attachments."""

    attachments: Mapping[str, str]

    def messages(self, asked: Any) -> list[Message]:
        if isinstance(asked, str):
            return [Message(role="user", content=self.text(asked))]
        return [Message(role=each["role"], content=self.parts(each["content"], "text")) for each in asked]

    def parts(self, content: Any, kind: str) -> str:
        if isinstance(content, str):
            return self.text(content) if kind == "text" else ""
        return "\n".join(self.text(part.get(kind, "")) for part in content if part.get("type") == kind)

    def text(self, text: str) -> str:
        return self.attachments.get(text.removeprefix("attachment://"), text)


def _sampling(config: Tree) -> Sampling:
    made = Sampling(max_tokens=config.get("max_tokens") or 0)
    for name in ("temperature", "top_p"):
        if config.get(name) is not None:
            setattr(made, name, config[name])
    return made
