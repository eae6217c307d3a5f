"""lm-evaluation-harness results: results_<time>.json, and a samples_<task>_<time>.jsonl for each task.

A task is a benchmark under an attack; a metric's filter names the judge: `asr,refusal` and `asr_stderr,refusal`. The
harness has no place for intervals, invalid counts and roles: they stand under the key `lrm_safety`. Samples carry the
harness's own hashes of document, prompt and target, and one line for each judge.
"""

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from lrm_safety import __version__, stats
from lrm_safety.export import MeasuredRun, digest, landing, shown
from lrm_safety.measured import Measured, measure
from lrm_safety.nouns import Cell, Record, Verdict

Place = tuple[str, str, str]  # benchmark, attack, judge


def write(run: MeasuredRun, folder: Path, is_with_text: bool) -> list[Path]:
    when = datetime.fromtimestamp(run.scorecard.created_at, UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
    tasks = list(dict.fromkeys(_task(cell.benchmark, cell.attack) for cell in run.scorecard.cells))
    samples = {task: folder / f"samples_{task}_{when}.jsonl" for task in tasks}
    results = folder / f"results_{when}.json"
    seen: dict[Place, list[Measured]] = {}
    with ExitStack() as stack:
        opened = {
            task: stack.enter_context(stack.enter_context(landing(path)).open("w", encoding="utf-8"))
            for task, path in samples.items()
        }
        numbers = dict.fromkeys(tasks, 0)
        for record in run.records():
            task = _task(record.benchmark, record.attack)
            _write_record(run, record, numbers[task], opened[task], is_with_text)
            numbers[task] += 1
            for each in run.asked[record.benchmark].judges:
                place = record.benchmark, record.attack, each.judge
                seen.setdefault(place, []).append(measure(record, each.judge))
    with landing(results) as path:
        path.write_text(json.dumps(_results(run, seen), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [results, *samples.values()]


def stderr(seen: Iterable[Measured]) -> float | None:
    """Standard error of the mean of those with a value; None for fewer than two.

    The harness's sample deviation / sqrt(n), times the root of the design effect where samples share a unit
    (stats.design_effect), so that repeats and prompt families do not count as new evidence.
    """
    valid = [each for each in seen if each.value is not None]
    if len(valid) < 2:
        return None
    values = np.asarray([each.value for each in valid], dtype=np.float64)
    labels = {unit: number for number, unit in enumerate(dict.fromkeys(each.unit for each in valid))}
    groups = np.asarray([labels[each.unit] for each in valid], dtype=np.int64)
    return float(values.std(ddof=1)) / math.sqrt(len(valid)) * math.sqrt(stats.design_effect(values, groups))


def _results(run: MeasuredRun, seen: dict[Place, list[Measured]]) -> dict[str, Any]:
    card, tasks = run.scorecard, _by_task(run)
    sampling = card.spec.sampling
    return {
        "results": {
            task: {"alias": task, **_metrics([(cell, seen.get(_place(cell), [])) for cell in cells])}
            for task, cells in tasks.items()
        },
        "group_subtasks": {task: [] for task in tasks},
        "configs": {task: _config(run, cells[0]) for task, cells in tasks.items()},
        "versions": dict.fromkeys(tasks, __version__),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {task: {cell.metric: not cell.lower_is_better for cell in tasks[task]} for task in tasks},
        "n-samples": {
            task: {"original": cells[0].n + cells[0].invalid, "effective": cells[0].n} for task, cells in tasks.items()
        },
        "config": {
            "model": "lrm-safety",
            "model_args": {"pretrained": run.model, "weights_digest": card.weights_digest},
            "limit": None,
            "gen_kwargs": {"temperature": sampling.temperature, "max_gen_toks": sampling.max_tokens},
            "random_seed": card.spec.seed,
        },
        "date": card.created_at,
        "model_source": "lrm-safety",
        "model_name": run.model,
        "model_name_sanitized": run.model.replace("/", "__"),
        "total_evaluation_time_seconds": str(card.seconds),
        "lrm_safety": {"run": card.run, "cells": [_about(cell) for cell in card.cells]},
    }


def _metrics(cells: list[tuple[Cell, list[Measured]]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for cell, seen in cells:
        error = stderr(seen)
        made[f"{cell.metric},{cell.judge}"] = cell.value if cell.HasField("value") else "N/A"
        made[f"{cell.metric}_stderr,{cell.judge}"] = "N/A" if error is None else error
    return made


def _config(run: MeasuredRun, cell: Cell) -> dict[str, Any]:
    asked = run.asked[cell.benchmark]
    return {
        "task": _task(cell.benchmark, cell.attack),
        "dataset_path": asked.path or cell.benchmark,
        "output_type": "generate_until",
        "num_fewshot": 0,
        "repeats": max(asked.repeats, 1),
        "metric_list": [{"metric": cell.metric, "higher_is_better": not cell.lower_is_better}],
        "generation_kwargs": {"max_gen_toks": asked.max_tokens or run.scorecard.spec.sampling.max_tokens},
        "metadata": {"version": __version__, "attack": cell.attack, "role": cell.role},
    }


def _about(cell: Cell) -> dict[str, Any]:
    ends, has_value = cell.interval, cell.HasField("value")
    names = ["benchmark", "attack", "judge", "judge_digest", "role", "metric", "n", "invalid", "truncated"]
    return {
        "task": _task(cell.benchmark, cell.attack),
        **{name: getattr(cell, name) for name in names},
        "value": cell.value if has_value else None,
        "interval": [ends.low, ends.high] if has_value else None,
        "level": ends.level if has_value else None,
        "method": ends.method,
        "invalid_reasons": dict(cell.invalid_reasons),
    }


def _write_record(run: MeasuredRun, record: Record, number: int, file: IO[str], is_with_text: bool) -> None:
    metric = {cell.benchmark: cell.metric for cell in run.scorecard.cells}[record.benchmark]
    messages = [{"role": m.role, "content": shown(m.content, is_with_text)} for m in record.prompt.messages]
    prompt = json.dumps([[m.role, m.content] for m in record.prompt.messages], ensure_ascii=False)
    asked = json.dumps([[m.role, m.content] for m in record.sample.messages], ensure_ascii=False)
    answer = shown(record.completion.answer, is_with_text)
    line: dict[str, Any] = {
        "doc_id": number,
        "doc": {"id": record.sample.id, "repeat": record.prompt.repeat, "cluster": record.sample.cluster},
        "target": shown(record.sample.target, is_with_text),
        "arguments": {"gen_args_0": {"arg_0": messages}},
        "resps": [[answer]],
        "filtered_resps": [answer],
        "doc_hash": digest(record.sample.id + asked),
        "prompt_hash": digest(prompt),
        "target_hash": digest(record.sample.target),
    }
    for each in run.asked[record.benchmark].judges:
        seen = measure(record, each.judge)
        label = next((verdict.label for verdict in record.verdicts if verdict.judge == each.judge), Verdict().label)
        made = line | {"filter": each.judge, "metrics": [metric], "label": label}
        made |= {metric: seen.value} if seen.value is not None else {"metrics": [], "invalid": seen.invalid}
        file.write(json.dumps(made, ensure_ascii=False) + "\n")


def _by_task(run: MeasuredRun) -> dict[str, list[Cell]]:
    tasks: dict[str, list[Cell]] = {}
    for cell in run.scorecard.cells:
        tasks.setdefault(_task(cell.benchmark, cell.attack), []).append(cell)
    return tasks


def _place(cell: Cell) -> Place:
    return cell.benchmark, cell.attack, cell.judge


def _task(benchmark: str, attack: str) -> str:
    return benchmark if attack == "none" else f"{benchmark}_{attack}"
