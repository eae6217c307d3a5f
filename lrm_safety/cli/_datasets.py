"""How datasets look on a terminal: numbers and names, and of texts only the one example that was asked for."""

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape

from lrm_safety.cli._output import console, errors, print_table
from lrm_safety.nouns import Change, Dataset, Example, InspectExampleResponse, Token, reference
from lrm_safety.report import datasets
from lrm_safety.report.wording import UNSEEN, percent, short

MOST_IDS = 20  # of a difference; --json has all


def show(dataset: Dataset) -> None:
    errors.print(reference(dataset.name, dataset.digest), highlight=False, soft_wrap=True)
    _say("examples", datasets.counts(dataset))
    _say("licence", "; ".join(datasets.licences(dataset)))
    counted = f" ({short(dataset.spec.tokenizer)})" if dataset.spec.tokenizer else ""
    _say("response tokens", f"{datasets.tokens(dataset.response_tokens)}{counted}")
    if asked := datasets.asked(dataset):
        _say("asked", asked)
    for part in datasets.funnel(dataset):
        _say(f"\n{part.name}", f"{percent(part.share)} of the dataset, {part.licence or datasets.UNKNOWN}")
        heads = ("step", "left", "dropped", *(["before and after"] if any(each.labels for each in part.stages) else []))
        rows = [(each.name, f"{each.left:,}", each.why, each.labels)[: len(heads)] for each in part.stages]
        _table(heads, rows)
    for tag, values in datasets.shares(dataset).items():
        console.print()
        _table((tag, "examples", "share"), [(each.value, f"{each.examples:,}", percent(each.share)) for each in values])
    if dataset.overlaps:
        console.print()
        _table(("benchmark", "overlap"), [(each.benchmark, datasets.overlap(each)) for each in dataset.overlaps])


def show_difference(before: Dataset, after: Dataset, changes: Sequence[Change]) -> None:
    kinds = Counter(each.change for each in changes)
    same = after.examples - kinds["added"] - kinds["changed"]
    _say("examples", f"{before.examples:,} -> {after.examples:,}")
    _say(
        "ids",
        ", ".join([*(f"{kinds[kind]:,} {kind}" for kind in ("added", "removed", "changed")), f"{same:,} the same"]),
    )
    old, new = datasets.shares(before), datasets.shares(after)
    for tag in dict.fromkeys([*old, *new]):
        was, now = ({each.value: each for each in side.get(tag, [])} for side in (old, new))
        rows = [
            (
                value,
                *(
                    f"{side[value].examples:,} ({percent(side[value].share)})" if value in side else "–"
                    for side in (was, now)
                ),
            )
            for value in dict.fromkeys([*now, *was])
        ]
        console.print()
        _table((tag, "before", "after"), rows)
    if changes:
        console.print()
        _table(("id", "change"), [(each.id, each.change) for each in changes[:MOST_IDS]])
    if len(changes) > MOST_IDS:
        errors.print(f"… and {len(changes) - MOST_IDS:,} more; --json lists all")


def show_example(seen: InspectExampleResponse) -> None:
    """The text itself, and each token with what a training makes of it."""
    example, where = seen.example, seen.example.provenance
    _say("id", example.id)
    _say(
        "from",
        f"{where.source}, row {where.row}, builder {where.builder}" + (f", {where.writer}" if where.writer else ""),
    )
    for verdict in where.verdicts:
        _say("verdict", f"{verdict.judge}: {verdict.label or verdict.invalid}")
    for name, value in sorted(example.tags.items()):
        _say(name, value)
    for span in example.spans:
        _say("span", f"{span.name}: characters {span.start} to {span.end}")
    if seen.tokens:
        _table(("", "trained", "id", "token"), [_token(place, token) for place, token in enumerate(seen.tokens)])
        trained = sum(token.is_trained for token in seen.tokens)
        errors.print(f"{len(seen.tokens):,} tokens, {trained:,} trained", highlight=False)
    else:
        _show_texts(example)


def _show_texts(example: Example) -> None:
    for name in ("instruction", "prompt", "thinking", "answer"):
        if text := getattr(example, name):
            console.print(f"\n[bold]{name}[/]\n{escape(UNSEEN.sub('�', text))}", highlight=False, soft_wrap=True)


def _token(place: int, token: Token) -> tuple[str, str, str, str]:
    return str(place), "yes" if token.is_trained else "", str(token.id), repr(token.text)


def _say(name: str, text: str) -> None:
    console.print(f"[bold]{escape(name)}[/] {escape(UNSEEN.sub('', text))}", highlight=False, soft_wrap=True)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print_table(columns, [[escape(UNSEEN.sub("", cell)) for cell in row] for row in rows], "nothing to show")
