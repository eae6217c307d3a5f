"""Inspect AI's log format: one .eval file for each benchmark and attack; `inspect view --log-dir FOLDER` opens them.

An .eval file is a zip of header.json (what was asked, results, usage), summaries.json and one samples/*.json for each
sample and repeat ("epoch"). Each judge is a scorer whose score is the role's metric of that sample, so that their mean
is the cell's value; our intervals stand in the metrics' metadata. A sample without a verdict is unscored (NaN) with its
reason, never 0. Written as plain data after the schema of inspect_ai/log/_log.py, version 2.
"""

import json
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lrm_safety import __version__
from lrm_safety.export import MeasuredRun, digest, landing, shown
from lrm_safety.measured import measure
from lrm_safety.nouns import Cell, Completion, Record, Verdict

VERSION = 2  # of the log's schema
_STOPS = {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter"}
Place = tuple[str, str]  # benchmark, attack


def write(run: MeasuredRun, folder: Path, is_with_text: bool) -> list[Path]:
    with ExitStack() as stack:
        logs = {place: _open(run, place, folder, stack) for place in _places(run.scorecard.cells)}
        for record in run.records():
            logs[record.benchmark, record.attack].add(run, record, is_with_text)
        for place, log in logs.items():
            log.end(run, place, is_with_text)
    return [log.path for log in logs.values()]


@dataclass
class _Log:
    path: Path
    archive: zipfile.ZipFile
    summaries: list[dict[str, Any]] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    completed: int = 0

    def add(self, run: MeasuredRun, record: Record, is_with_text: bool) -> None:
        sample = _sample(run, record, is_with_text)
        self.put(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", sample)
        self.summaries.append(_summary(sample))
        self.input_tokens += record.completion.usage.prompt_tokens
        self.output_tokens += record.completion.usage.completion_tokens
        self.completed += not record.completion.error

    def end(self, run: MeasuredRun, place: Place, is_with_text: bool) -> None:
        header = _header(run, place, self, is_with_text)
        self.put("_journal/start.json", {name: header[name] for name in ("version", "eval", "plan")})
        self.put("summaries.json", self.summaries)
        self.put("header.json", header)

    def put(self, name: str, tree: Any) -> None:
        self.archive.writestr(name, json.dumps(tree, ensure_ascii=True))


def _open(run: MeasuredRun, place: Place, folder: Path, stack: ExitStack) -> _Log:
    when = _when(run.scorecard.created_at).replace(":", "-")
    path = folder / f"{when}_{'-'.join(place).replace('_', '-')}_{_task_id(run, place)}.eval"
    unfinished = stack.enter_context(landing(path))
    return _Log(path, stack.enter_context(zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED)))


def _task_id(run: MeasuredRun, place: Place) -> str:
    """Of one run's task: logs with the same one are taken for retries of each other."""
    return digest("/".join((run.scorecard.run, *place)))[:22]


def _places(cells: Iterable[Cell]) -> list[Place]:
    return list(dict.fromkeys((cell.benchmark, cell.attack) for cell in cells))


def _sample(run: MeasuredRun, record: Record, is_with_text: bool) -> dict[str, Any]:
    completion = record.completion
    asked = [
        {"role": message.role, "content": shown(message.content, is_with_text), "source": "input"}
        for message in record.prompt.messages or record.sample.messages
    ]
    made: dict[str, Any] = {
        "id": record.sample.id,
        "epoch": record.prompt.repeat + 1,
        "input": asked,
        "target": shown(record.sample.target, is_with_text),
        "messages": asked,
        "output": {"model": run.model, "choices": [], "completion": ""},
        "scores": {judge: _score(record, judge, is_with_text) for judge in _judges(run, record.benchmark)},
        "metadata": {"cluster": record.sample.cluster, "role": record.role, **dict(record.sample.tags)},
        "model_usage": {run.model: _usage(completion.usage.prompt_tokens, completion.usage.completion_tokens)},
        "total_time": completion.latency_s,
        "working_time": completion.latency_s,
        "uuid": f"{run.scorecard.run}/{record.key}",
    }
    if completion.error:
        return made | {"error": {"message": completion.error, "traceback": "", "traceback_ansi": ""}}
    answer = _answer(run, completion, is_with_text)
    return made | {"messages": [*asked, answer], "output": _output(run, completion, answer, is_with_text)}


def _answer(run: MeasuredRun, completion: Completion, is_with_text: bool) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if completion.thinking:
        hidden = {} if is_with_text else {"redacted": True, "summary": shown(completion.thinking, False)}
        reasoning = completion.thinking if is_with_text else ""
        content.append({"type": "reasoning", "reasoning": reasoning, **hidden})
    content.append({"type": "text", "text": shown(completion.answer, is_with_text)})
    return {"role": "assistant", "content": content, "source": "generate", "model": run.model}


def _output(run: MeasuredRun, completion: Completion, answer: dict[str, Any], is_with_text: bool) -> dict[str, Any]:
    return {
        "model": run.model,
        "choices": [{"message": answer, "stop_reason": _STOPS.get(completion.finish_reason, "unknown")}],
        "completion": shown(completion.answer, is_with_text),
        "usage": _usage(completion.usage.prompt_tokens, completion.usage.completion_tokens),
        "time": completion.latency_s,
    }


def _score(record: Record, judge: str, is_with_text: bool) -> dict[str, Any]:
    seen = measure(record, judge)
    verdict = next((each for each in record.verdicts if each.judge == judge), Verdict())
    metadata = {
        "label": verdict.label,
        "measure": verdict.measure,
        "verdict_value": verdict.value,
        "verdict_score": verdict.score,
        "judge_digest": verdict.judge_digest,
    }
    if seen.value is None:
        return {"value": float("nan"), "reason": seen.invalid, "metadata": metadata}
    explained = {"explanation": shown(verdict.rationale, is_with_text)} if verdict.rationale else {}
    return {"value": seen.value, "answer": verdict.label, **explained, "metadata": metadata}


def _summary(sample: dict[str, Any]) -> dict[str, Any]:
    names = (
        "id",
        "epoch",
        "input",
        "target",
        "metadata",
        "scores",
        "model_usage",
        "total_time",
        "working_time",
        "uuid",
    )
    made = {name: sample[name] for name in names}
    error = {"error": sample["error"]["message"]} if "error" in sample else {}
    return made | error | {"completed": True, "message_count": len(sample["messages"])}


def _header(run: MeasuredRun, place: Place, log: _Log, is_with_text: bool) -> dict[str, Any]:
    card = run.scorecard
    cells = {judge: cell for (*where, judge), cell in run.cells.items() if tuple(where) == place}
    sampling = card.spec.sampling
    config = {"temperature": sampling.temperature, "top_p": sampling.top_p if sampling.HasField("top_p") else 1.0}
    config["max_tokens"] = run.asked[place[0]].max_tokens or sampling.max_tokens
    samples, repeats = {sample["id"] for sample in log.summaries}, max(run.asked[place[0]].repeats, 1)
    return {
        "version": VERSION,
        "status": "success",
        "eval": {
            "eval_id": "-".join((card.run, *place)),
            "run_id": card.run,
            "created": _when(card.created_at),
            "task": place[0],
            "task_id": _task_id(run, place),
            "task_display_name": place[0] if place[1] == "none" else f"{place[0]} ({place[1]})",
            "task_args": {"attack": place[1]},
            "task_args_passed": {"attack": place[1]},
            "dataset": {"name": place[0], "samples": len(samples)},
            "model": run.model,
            "model_generate_config": config,
            "config": {"epochs": repeats, "log_samples": True},
            "packages": {"lrm_safety": __version__},
            "metadata": _about(run, place, cells, is_with_text),
            "scorers": [{"name": judge, "metrics": [{"name": cell.metric}]} for judge, cell in cells.items()],
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": config},
        "results": {
            "total_samples": len(samples) * repeats,
            "completed_samples": log.completed,
            "scores": [_result(judge, cell) for judge, cell in cells.items()],
        },
        "stats": {
            "started_at": _when(card.created_at - card.seconds),
            "completed_at": _when(card.created_at),
            "model_usage": {run.model: _usage(log.input_tokens, log.output_tokens)},
        },
    }


def _about(run: MeasuredRun, place: Place, cells: dict[str, Cell], is_with_text: bool) -> dict[str, Any]:
    first = next(iter(cells.values()))
    return {
        "made_by": "lrm-safety",
        "attack": place[1],
        "role": first.role,
        "lower_is_better": first.lower_is_better,
        "endpoint": run.scorecard.endpoint,
        "checkpoint": run.scorecard.checkpoint,
        "weights_digest": run.scorecard.weights_digest,
        "seed": run.scorecard.spec.seed,
        "is_with_text": is_with_text,
    }


def _result(judge: str, cell: Cell) -> dict[str, Any]:
    """The metric with its interval; NaN, not 0, where no sample has a verdict."""
    value = cell.value if cell.HasField("value") else float("nan")
    ends = cell.interval
    about: dict[str, Any] = {"n": cell.n, "invalid": cell.invalid, "truncated": cell.truncated}
    about |= {"invalid_reasons": dict(cell.invalid_reasons), "lower_is_better": cell.lower_is_better}
    about |= {"judge_digest": cell.judge_digest, "mean_tokens": cell.mean_tokens}
    if cell.HasField("value"):
        about |= {"low": ends.low, "high": ends.high, "level": ends.level, "method": ends.method}
    return {
        "name": judge,
        "scorer": judge,
        "scored_samples": cell.n,
        "unscored_samples": cell.invalid,
        "metrics": {cell.metric: {"name": cell.metric, "value": value, "metadata": about}},
    }


def _judges(run: MeasuredRun, benchmark: str) -> list[str]:
    return [each.judge for each in run.asked[benchmark].judges]


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
