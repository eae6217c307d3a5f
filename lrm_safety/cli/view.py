"""lrm view: everything that was measured, in a browser."""

from typing import Annotated

import typer

from lrm_safety.cli._output import AsJson, console, errors, print_json
from lrm_safety.report.server import ViewServer
from lrm_safety.report.viewer import open_viewer
from lrm_safety.settings import Settings

PORT = 8321


def add_to(app: typer.Typer) -> None:
    app.command("view", epilog="Example: lrm view --port 8321")(view)


def view(
    port: Annotated[int, typer.Option(help="On this machine; 0 takes any free one.", min=0, max=65535)] = PORT,
    json: AsJson = False,
) -> None:
    """Show checkpoints, verdicts, flips and samples on a local web page, until Ctrl-C. Needs no service, reads only."""
    with ViewServer(open_viewer(Settings.from_env()), port) as server:
        if json:
            print_json({"url": server.url})
        else:
            console.print(server.url, highlight=False)
            errors.print("Only this machine can open it; from elsewhere: ssh -L. Ctrl-C ends it.", highlight=False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            errors.print("ended")
