"""lm-evaluation-harness: results_*.json, with the samples_*.jsonl beside it where they were logged."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lrm_safety import stats
from lrm_safety.errors import InvalidInput
from lrm_safety.importing import Foreign, Meaning, asked_of, digest, meaning_of, verdict
from lrm_safety.nouns import (
    BenchSpec,
    Cell,
    Completion,
    Imported,
    Interval,
    Message,
    Prompt,
    Record,
    Sample,
    Scorecard,
    Verdict,
)

LEVEL = 0.95
_METRICS = {"harm": "asr", "over_refusal": "over_refusal_rate", "reasoning": "accuracy", "utility": "accuracy"}
Tree = dict[str, Any]


def matches(path: Path) -> bool:
    return bool(_results(path))


def read(path: Path, roles: Mapping[str, Meaning]) -> Foreign:
    """Tasks with samples become records; of the others the cell of each metric is kept, which nothing can pair with."""
    files = _results(path)
    if len(files) > 1:
        raise InvalidInput(f"{path} holds {len(files)} results; name one of the files")
    results, tree = files[0], _load(files[0])
    own = {cell["task"]: cell for cell in (tree.get("lrm_safety") or {}).get("cells", [])}
    records: list[Record] = []
    cells: list[Cell] = []
    used = [results]
    asked: dict[str, dict[str, list[str]]] = {}
    repeats: dict[str, int] = {}
    for task in tree["results"]:
        noted = own.get(task, {})
        meaning = meaning_of(task, roles, noted.get("role", ""))
        name, attack = noted.get("benchmark", task), noted.get("attack", "none")
        metrics = _metrics(tree, task, is_own=bool(noted))
        judges = asked.setdefault(name, {}).setdefault(attack, [])
        judges.extend(metrics)
        samples = _samples_of(results, task)
        if samples:
            used.append(samples)
            made = _records(samples, (name, attack), metrics, meaning)
            records.extend(made)
            repeats[name] = max(repeats.get(name, 1), *(record.prompt.repeat + 1 for record in made))
        else:
            cells.extend(_cell(tree, task, (name, attack, judge), key, meaning) for judge, key in metrics.items())
    card = Scorecard(
        endpoint=str(tree.get("model_name") or tree.get("model_source") or "unknown"),
        weights_digest=str((tree.get("config", {}).get("model_args") or {}).get("weights_digest", "")) if own else "",
        spec=BenchSpec(benchmarks=asked_of(asked, repeats)),
        created_at=float(tree.get("date") or 0.0),
        cells=cells,
        imported=Imported(format="lm_eval", file=results.name, digest=digest(used)),
    )
    return Foreign(card, records)


def _results(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.glob("results_*.json") if matches(each))
    if path.suffix != ".json":
        return []
    with path.open("rb") as file:
        return [path] if b'"results"' in file.read(4096) else []


def _load(path: Path) -> Tree:
    try:
        tree: Tree = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(each, dict) for each in tree["results"].values()) or not tree["results"]:
            raise ValueError
    except (ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not results of lm-eval ({type(error).__name__})") from None
    return tree


def _metrics(tree: Tree, task: str, is_own: bool) -> dict[str, str]:
    """Judge -> the key of its metric (`metric,filter`), of metrics that are shares. Raises InvalidInput without any."""
    made = {}
    for key, value in tree["results"][task].items():
        metric, comma, name = key.partition(",")
        is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if comma and not metric.endswith("_stderr") and (is_share or (is_own and value == "N/A")):
            made[name if is_own else metric if name == "none" else key] = key
    if not made:
        raise InvalidInput(f"{task} has no metric between 0 and 1: it cannot be a share of samples")
    return made


def _samples_of(results: Path, task: str) -> Path | None:
    """The samples that were logged with these results: the same date in the name."""
    when = results.stem.removeprefix("results_")
    path = results.with_name(f"samples_{task}_{when}.jsonl")
    return path if path.is_file() else None


def _records(path: Path, place: tuple[str, str], metrics: Mapping[str, str], meaning: Meaning) -> list[Record]:
    records: dict[str, Record] = {}
    for line in _lines(path):
        doc = line.get("doc")
        doc = doc if isinstance(doc, dict) and set(doc) == {"id", "repeat", "cluster"} else {}
        id_, repeat = (str(doc["id"]), int(doc["repeat"])) if doc else (str(line["doc_id"]), 0)
        key = "/".join((*place, id_, str(repeat)))
        if key not in records:
            records[key] = _record(key, place, line, meaning)
            records[key].sample.id, records[key].prompt.repeat = id_, repeat
            records[key].sample.cluster = str(doc["cluster"]) if doc else ""
        records[key].verdicts.extend(_verdicts(line, metrics, meaning))
    if not records:
        raise InvalidInput(f"{path}: there are no samples in it; remove it, or log them again")
    return list(records.values())


def _record(key: str, place: tuple[str, str], line: Tree, meaning: Meaning) -> Record:
    messages = _messages(line.get("arguments"))
    answer = line.get("filtered_resps") or [""]
    return Record(
        key=key,
        benchmark=place[0],
        attack=place[1],
        role=meaning.role,
        sample=Sample(messages=messages, target=_kept(str(line.get("target", "")))),
        prompt=Prompt(id=key, messages=messages),
        completion=Completion(id=key, answer=_kept(answer[0]) if isinstance(answer[0], str) else ""),
    )


def _verdicts(line: Tree, metrics: Mapping[str, str], meaning: Meaning) -> Iterator[Verdict]:
    for judge, key in metrics.items():
        metric, _, name = key.partition(",")
        if line.get("filter", name) != name:
            continue
        made = verdict(judge, line.get(metric), meaning, str(line.get("invalid", "")))
        made.label = str(line.get("label", made.label))
        yield made


def _cell(tree: Tree, task: str, place: tuple[str, str, str], key: str, meaning: Meaning) -> Cell:
    """A share with Wilson's interval over the samples it was computed from, the widest for graded scores as well."""
    n = int((tree.get("n-samples", {}).get(task) or {}).get("effective") or 0)
    value = tree["results"][task][key]
    if not n:
        raise InvalidInput(
            f"{task}: the results do not say of how many samples (`n-samples`); log them with lm-eval 0.4.3+"
        )
    if meaning.role == "harm" and meaning.measure == "refusal":
        value = 1 - value
    low, high = stats.wilson(value * n, n, LEVEL) or (0.0, 1.0)
    return Cell(
        benchmark=place[0],
        attack=place[1],
        judge=place[2],
        role=meaning.role,
        metric=_METRICS[meaning.role],
        lower_is_better=meaning.role in ("harm", "over_refusal"),
        value=value,
        interval=Interval(low=low, high=high, level=LEVEL, method="wilson"),
        n=n,
    )


def _lines(path: Path) -> Iterator[Tree]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            tree = json.loads(line)
            if not isinstance(tree, dict) or "doc_id" not in tree:
                raise ValueError
        except ValueError:
            raise InvalidInput(f"{path}, line {number}: not a sample of lm-eval") from None
        yield tree


def _messages(arguments: Any) -> list[Message]:
    """The prompt of the first request: text, or a chat in a list or in JSON. None where it was withheld."""
    first = arguments.get("gen_args_0", {}).get("arg_0") if isinstance(arguments, dict) else None
    if isinstance(arguments, list) and arguments:
        first = arguments[0][0] if isinstance(arguments[0], list) else arguments[0]
    chat = first if isinstance(first, list) else [{"role": "user", "content": first or ""}]
    made = [Message(role=each["role"], content=_kept(str(each["content"]))) for each in chat if isinstance(each, dict)]
    return made if all(each.content for each in made) else []


def _kept(text: str) -> str:
    """Nothing, where `lrm export` left a text out."""
    return "" if text.startswith("[withheld: ") else text
