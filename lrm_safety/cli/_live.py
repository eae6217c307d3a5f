"""Live progress of a recipe: one row a stage on a terminal, a line now and then elsewhere. All on stderr."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from lrm_safety.cli._output import errors
from lrm_safety.clients import Clients
from lrm_safety.nouns import Endpoint, EndpointState, Run, RunState, has_ended
from lrm_safety.pipeline import follow

_LINE_EVERY_S = 10.0
_MARKS = {
    RunState.RUN_STATE_DONE: "[green]✓[/]",
    RunState.RUN_STATE_FAILED: "[red]✗[/]",
    RunState.RUN_STATE_CANCELLED: "[yellow]■[/]",
}


class LiveStages:
    """A pipeline.Watcher. Use as a context manager."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, ProgressBar | None, str]] = {}
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._live = Live(console=errors, refresh_per_second=4) if errors.is_terminal else None

    def __enter__(self) -> "LiveStages":
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, trace)

    def stage(self, name: str, run: Run) -> None:
        done, total = run.progress.done, run.progress.total
        bar = ProgressBar(total=total, completed=done, width=20) if total and not has_ended(run) else None
        self._put(name, _MARKS.get(run.state, "[cyan]…[/]"), bar, self._describe(name, run))

    def engine(self, name: str, endpoint: Endpoint) -> None:
        words = {
            EndpointState.ENDPOINT_STATE_STARTING: f"starting {endpoint.engine}",
            EndpointState.ENDPOINT_STATE_FAILED: "the engine failed",
        }
        text = words.get(endpoint.state, "engine ready")
        waiting = f" ({endpoint.error})" if endpoint.error else ""
        self._put(name, "[cyan]…[/]", None, f"{text}{waiting} {self._elapsed(name)}")

    def _describe(self, name: str, run: Run) -> str:
        if has_ended(run):
            return f"{run.result or run.id} {self._elapsed(name)}"
        if run.waiting:
            return f"waiting: {run.waiting}"
        progress = run.progress
        words = [progress.stage, f"{progress.done:.0f}/{progress.total:.0f} {progress.unit}" if progress.total else ""]
        if progress.rate:
            words.append(f"{progress.rate:.2g} {progress.unit}/s")
        if progress.HasField("eta_s"):
            words.append(f"ETA {clock(progress.eta_s)}")
        words += [f"{key} {value:.3g}" for key, value in sorted(progress.metrics.items())]
        return "  ".join(word for word in words if word)

    def _elapsed(self, name: str) -> str:
        return f"[dim]{clock(time.monotonic() - self._began.get(name, time.monotonic()))}[/]"

    def _put(self, name: str, mark: str, bar: ProgressBar | None, text: str) -> None:
        now = time.monotonic()
        self._began.setdefault(name, now)
        before = self._rows.get(name)
        if not text:
            return
        self._rows[name] = (mark, bar, text)
        if self._live:
            self._live.update(self._table())
        elif (before is None or before[0] != mark) or now - self._said.get(name, 0.0) > _LINE_EVERY_S:
            self._said[name] = now
            errors.print(f"{mark} {name}: {text}", highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for name, (mark, bar, text) in self._rows.items():
            table.add_row(mark, name, bar or "", text)
        return table


def followed(clients: Clients, service: str, name: str, ask: Callable[[], Run]) -> Run:
    """A run from its question to its end, shown by this name meanwhile. Raises what pipeline.follow raises."""
    with LiveStages() as stages:
        return follow(clients, service, ask, lambda run: stages.stage(name, run))


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
