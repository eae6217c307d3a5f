"""`lrm …`: one file a command. Results go to stdout, progress to stderr.

Exit codes, the same for every command: 0 done (or PASS), 1 BLOCK, 2 INCONCLUSIVE, 3 error, 130 interrupted.
"""

import importlib
import json
import sys
from pathlib import Path

import typer
from rich.text import Text
from typer.exceptions import TyperException

from lrm_safety import observe
from lrm_safety.cli._output import errors
from lrm_safety.errors import LrmError
from lrm_safety.settings import Settings

EXIT_ERROR = 3
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="lrm",
    help="Make reasoning models safe without making them stupid, and prove it on every checkpoint.",
    epilog="Exit codes: 0 done or PASS, 1 BLOCK, 2 INCONCLUSIVE, 3 error. Start with: lrm doctor",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for _file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    importlib.import_module(f"lrm_safety.cli.{_file.stem}").add_to(app)


def main() -> None:
    """The console script: every error becomes one clear line and exit code 3."""
    try:
        observe.configure(Settings.from_env())
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except TyperException as error:
        if error.format_message():  # else help was shown, because nothing was asked
            _say(type(error).__name__, f"{error.format_message()} See: lrm --help")
        code = EXIT_ERROR
    except LrmError as error:
        _say(type(error).__name__, str(error))
        code = EXIT_ERROR
    sys.exit(code or 0)


def _say(kind: str, message: str) -> None:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": kind, "message": message}) + "\n")
    errors.print(Text.assemble(("error", "bold red"), ": ", message), soft_wrap=True)
