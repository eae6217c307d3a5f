"""lrm up, lrm down: the five services on this machine."""

import typer

from lrm_safety.cli._output import AsJson, errors, print_json, print_table
from lrm_safety.cli._services import ensure_up, log_file, running_pid, stop
from lrm_safety.settings import SERVICES, Settings


def add_to(app: typer.Typer) -> None:
    app.command("up", epilog="Example: lrm up && lrm runs list")(up)
    app.command("down", epilog="Example: lrm down")(down)


def up(json: AsJson = False) -> None:
    """Start the five services in the background. In the foreground: python -m services."""
    settings = Settings.from_env()
    started = ensure_up(settings)
    rows = [(name, settings.addresses[name], _metrics(settings, name)) for name in SERVICES]
    if json:
        pid = running_pid(settings)
        print_json({"started": started, "pid": pid, "services": {name: address for name, address, _ in rows}})
        return
    print_table(("service", "address", "metrics"), rows, "")
    errors.print(f"{'started' if started else 'were up already'}; log: {log_file(settings)}; end: lrm down")


def down(json: AsJson = False) -> None:
    """Stop the services that `lrm up` or `lrm run` started here. Jobs that are running go on."""
    stopped = stop(Settings.from_env())
    if json:
        print_json({"stopped": stopped})
    else:
        errors.print("stopped" if stopped else "nothing to stop: no services of ours run here")


def _metrics(settings: Settings, name: str) -> str:
    port = settings.metrics_ports[name]
    return f"http://{settings.host}:{port}/metrics" if port else "off"
