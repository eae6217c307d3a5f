"""Judges a file: `python -m services.judge.score --judge refusal --in answers.jsonl --out verdicts.jsonl`.

No run and no services are needed; a judge that asks a model gets its URL. `lrm score` runs this.
"""

import argparse
import asyncio
import hashlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lrm_safety import observe, thinking
from lrm_safety.chat_client import ChatClient, ChatRequest, Reply, complete_all
from lrm_safety.errors import Exhausted, InvalidInput, LrmError, Unavailable
from lrm_safety.nouns import Completion, Prompt, Sampling, Verdict
from lrm_safety.settings import Settings
from services.judge import rows
from services.judge.judge import Judge, ModelJudge, find
from services.judge.scoring import Ask, score

HELP = """\
rows: JSON lines. Every judge that reads an answer takes `response` (thinking is split off), `answer` or `pred`;
math_equal also needs `gold` or `target`, xstest3 and policy15 also need `prompt`. `lrm list judges` shows all judges.
Each row comes out as it went in, with "verdict": {"label": ..., "score": ..., "invalid": null or why there is none}.

exit codes: 0 done (rows without a verdict are counted), 1 the output could not be written, 2 wrong input or usage,
4 the engine does not answer. With 1, 2 and 4 no output file is left or changed.

example: python -m services.judge.score --judge math_equal --in answers.jsonl --out verdicts.jsonl --json
"""
_SHOWN_FROM = 200  # rows; shorter files need no progress bar
_GIVE_UP = 32  # replies in a row that never came


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    settings = Settings.from_env()
    observe.configure(settings)
    try:
        summary = _scored(options, settings)
    except LrmError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return _exit_code(error)
    except KeyboardInterrupt:
        print("stopped; no output was written", file=sys.stderr)  # noqa: T201
        return 130
    print(json.dumps(summary) if options.json else _in_words(summary))  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="score",
        description="Judge every row of a file.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--judge", required=True, help="name of a judge, e.g. refusal, math_equal, xstest3, policy15")
    parser.add_argument("--in", dest="source", type=Path, required=True, metavar="FILE", help="JSON lines to judge")
    parser.add_argument("--out", dest="target", type=Path, required=True, metavar="FILE", help="where verdicts go")
    parser.add_argument("--endpoint", default="", metavar="URL", help="OpenAI-compatible base URL, ending in /v1")
    parser.add_argument("--model", default="", metavar="NAME", help="the model's name at that URL")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _scored(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    started = time.monotonic()
    source, target = options.source, options.target
    if source.resolve() == target.resolve():
        raise InvalidInput(f"--out is the same file as --in ({source}); name another")
    if not target.parent.is_dir():
        raise InvalidInput(f"--out lies in {target.parent}, which is no folder; make it first")
    judge = find(options.judge)
    read = rows.read(source, judge)
    ask, weights = None, ""
    if isinstance(judge, ModelJudge):
        ask, weights = _engine(judge, options.endpoint, options.model, settings.key_for(options.endpoint))
    verdicts = _verdicts(judge, read, ask, weights)
    rows.write(target, read, verdicts)
    return _summary(judge, verdicts, weights, time.monotonic() - started)


def _verdicts(judge: Judge, read: Sequence[rows.Row], ask: Ask | None, weights: str) -> list[Verdict]:
    verdicts = [Verdict(invalid=row.absent) for row in read]
    present = [n for n, row in enumerate(read) if not row.absent]
    with _progress() as progress:
        bar = progress.add_task(judge.name, total=len(present), visible=len(present) >= _SHOWN_FROM)
        for index, verdict in score(judge, [read[n].item for n in present], ask, weights):
            verdicts[present[index]] = verdict
            progress.advance(bar)
    return verdicts


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _engine(judge: Judge, url: str, model: str, api_key: str) -> tuple[Ask, str]:
    """How to ask the model, and what stands for its weights (a URL tells nothing about them but its name)."""
    if not url or not model:
        raise InvalidInput(f"judge {judge.name} asks a model; give --endpoint URL and --model NAME")
    if asyncio.run(_status(url, api_key)) == 0:
        raise Unavailable(f"no engine answers at {url}; start it, or mend --endpoint")

    def ask(prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion]:
        requests = [ChatRequest(model=model, messages=prompt.messages, sampling=sampling) for prompt in prompts]
        return _completions(prompts, complete_all(url, requests, api_key=api_key))

    return ask, hashlib.sha256(f"{url}{model}".encode()).hexdigest()


async def _status(url: str, api_key: str) -> int:
    async with ChatClient(url, api_key=api_key) as client:
        return (await client.get(f"{client.url}/models", timeout_s=10))[0]


def _completions(prompts: Sequence[Prompt], replies: Iterator[tuple[int, Reply | LrmError]]) -> Iterator[Completion]:
    """Replies as Completions. Raises Unavailable when nothing came of a whole batch, or of many in a row."""
    answered, missed = 0, 0
    error: LrmError | None = None
    for index, reply in replies:
        if isinstance(reply, Reply):
            answered, missed = answered + 1, 0
            parts = thinking.split(reply.text)
            yield Completion(
                id=prompts[index].id,
                thinking=parts.thinking,
                answer=parts.answer,
                finish_reason=reply.finish_reason,
            )
            continue
        error = reply
        missed += isinstance(reply, Unavailable)
        if missed >= _GIVE_UP:
            break
        yield Completion(id=prompts[index].id, error=str(reply))
    if error is not None and (not answered or missed >= _GIVE_UP):
        raise Unavailable(f"the engine judges nothing: {error}")


def _summary(judge: Judge, verdicts: Sequence[Verdict], weights: str, seconds: float) -> dict[str, Any]:
    labels = Counter(verdict.label for verdict in verdicts if not verdict.invalid)
    return {
        "judge": judge.name,
        "judge_digest": judge.digest(weights),
        "n": len(verdicts),
        "invalid": len(verdicts) - labels.total(),
        "labels": {label: labels[label] for label in judge.labels},
        "invalid_reasons": dict(Counter(verdict.invalid for verdict in verdicts if verdict.invalid).most_common()),
        "seconds": round(seconds, 3),
    }


def _in_words(summary: dict[str, Any]) -> str:
    lines = [f"{summary['judge']}: {summary['n']} rows, {summary['invalid']} invalid, {summary['seconds']} s"]
    lines += [f"  {label}: {count}" for label, count in summary["labels"].items()]
    lines += [f"  invalid, {reason}: {count}" for reason, count in summary["invalid_reasons"].items()]
    return "\n".join(lines)


def _exit_code(error: LrmError) -> int:
    if isinstance(error, Unavailable):
        return 4
    return 1 if isinstance(error, Exhausted) else 2


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
