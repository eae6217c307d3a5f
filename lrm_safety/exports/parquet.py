"""Parquet for DuckDB and pandas: records.parquet, a row for each record and judge; cells.parquet, the scorecard.

    SELECT benchmark, attack, avg(value), count(value) FROM 'records.parquet' GROUP BY ALL
    SELECT benchmark, value, low, high, n, invalid FROM 'cells.parquet'

`value` is the role's metric of one record, in [0, 1]; null where there is no verdict, `invalid` then says why.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from lrm_safety.export import MeasuredRun, digest, landing
from lrm_safety.measured import measure
from lrm_safety.nouns import Cell, Record, ThinkState, Verdict, question

ROWS_AT_ONCE = 2000
_TEXTS = ("prompt", "target", "thinking", "answer", "rationale")
_NUMBERS = {"value": pa.float64(), "score": pa.float64(), "latency_s": pa.float64()}
_COUNTS = ("repeat", "prompt_tokens", "completion_tokens", "seed", "prompt_chars", "thinking_chars", "answer_chars")
_WORDS = (
    *("run", "model", "weights_digest", "key", "benchmark", "attack", "role", "sample_id", "cluster", "tags"),
    *("judge", "judge_digest", "label", "measure", "invalid", "think_state", "finish_reason", "error"),
    *("prompt_sha256", "thinking_sha256", "answer_sha256"),
)
_CELL_WORDS = (
    *("run", "model", "weights_digest", "benchmark", "attack", "judge", "judge_digest", "role", "metric"),
    "interval_method",
)
_CELL_NUMBERS = ("value", "low", "high", "level", "mean_tokens")
_CELL_COUNTS = ("n", "invalid", "truncated")


def write(run: MeasuredRun, folder: Path, is_with_text: bool) -> list[Path]:
    records, cells = folder / "records.parquet", folder / "cells.parquet"
    schema = _schema(is_with_text)
    with landing(records) as path, parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = _rows(run, is_with_text)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))
    with landing(cells) as path:
        rows_of_cells = [_cell(run, cell) for cell in run.scorecard.cells]
        parquet.write_table(pa.Table.from_pylist(rows_of_cells, _cell_schema()), path)
    return [records, cells]


def _rows(run: MeasuredRun, is_with_text: bool) -> Iterator[dict[str, Any]]:
    judges = {name: [each.judge for each in spec.judges] for name, spec in run.asked.items()}
    for record in run.records():
        shared = _record(run, record)
        for judge in judges[record.benchmark]:
            verdict = next((each for each in record.verdicts if each.judge == judge), Verdict())
            row = shared | _judged(record, judge, verdict)
            yield row | _texts(record, verdict) if is_with_text else row


def _record(run: MeasuredRun, record: Record) -> dict[str, Any]:
    completion, prompt = record.completion, question(record.sample)
    return {
        "run": run.scorecard.run,
        "model": run.model,
        "weights_digest": run.scorecard.weights_digest,
        "key": record.key,
        "benchmark": record.benchmark,
        "attack": record.attack,
        "role": record.role,
        "sample_id": record.sample.id,
        "cluster": record.sample.cluster,
        "tags": json.dumps(dict(sorted(record.sample.tags.items())), ensure_ascii=False),
        "repeat": record.prompt.repeat,
        "think_state": ThinkState.Name(completion.think_state).removeprefix("THINK_STATE_").lower(),
        "finish_reason": completion.finish_reason,
        "error": completion.error,
        "prompt_tokens": completion.usage.prompt_tokens,
        "completion_tokens": completion.usage.completion_tokens,
        "seed": completion.seed,
        "latency_s": completion.latency_s,
        "cached": completion.cached,
        **{f"{name}_chars": len(text) for name, text in _lengths(prompt, record)},
        **{f"{name}_sha256": digest(text) for name, text in _lengths(prompt, record)},
    }


def _lengths(prompt: str, record: Record) -> list[tuple[str, str]]:
    return [("prompt", prompt), ("thinking", record.completion.thinking), ("answer", record.completion.answer)]


def _judged(record: Record, judge: str, verdict: Verdict) -> dict[str, Any]:
    seen = measure(record, judge)
    is_valid = seen.value is not None
    return {
        "judge": judge,
        "judge_digest": verdict.judge_digest,
        "label": verdict.label,
        "measure": verdict.measure,
        "value": seen.value,
        "score": verdict.score if is_valid else None,
        "invalid": seen.invalid,
    }


def _texts(record: Record, verdict: Verdict) -> dict[str, str]:
    texts = question(record.sample), record.sample.target, record.completion.thinking, record.completion.answer
    return dict(zip(_TEXTS, (*texts, verdict.rationale), strict=True))


def _cell(run: MeasuredRun, cell: Cell) -> dict[str, Any]:
    has_value = cell.HasField("value")
    ends = {"low": cell.interval.low, "high": cell.interval.high, "level": cell.interval.level}
    return {
        "run": run.scorecard.run,
        "model": run.model,
        "weights_digest": run.scorecard.weights_digest,
        "interval_method": cell.interval.method,
        "lower_is_better": cell.lower_is_better,
        "mean_tokens": cell.mean_tokens,
        "value": cell.value if has_value else None,
        **{name: number if has_value else None for name, number in ends.items()},
        **{name: getattr(cell, name) for name in ("benchmark", "attack", "judge", "judge_digest", "role", "metric")},
        **{name: getattr(cell, name) for name in _CELL_COUNTS},
    }


def _schema(is_with_text: bool) -> pa.Schema:
    fields = [(name, pa.string()) for name in _WORDS]
    fields += [(name, pa.int32()) for name in _COUNTS]
    fields += [*_NUMBERS.items(), ("cached", pa.bool_())]
    return pa.schema(fields + [(name, pa.string()) for name in _TEXTS if is_with_text])


def _cell_schema() -> pa.Schema:
    fields = [(name, pa.string()) for name in _CELL_WORDS] + [("lower_is_better", pa.bool_())]
    fields += [(name, pa.float64()) for name in _CELL_NUMBERS]
    return pa.schema(fields + [(name, pa.int32()) for name in _CELL_COUNTS])
