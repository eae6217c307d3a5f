"""lrm run: carry a recipe out, from data to verdict."""

from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import recipe as recipes
from lrm_safety import tenancy
from lrm_safety.cli._live import LiveStages
from lrm_safety.cli._output import AsJson, console, errors, print_json
from lrm_safety.cli._services import connected
from lrm_safety.cli.report import EXIT_CODES, gather, write
from lrm_safety.pipeline import Pipeline, patiently
from lrm_safety.report import ReportData, as_json, terminal
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    app.command("run", epilog="Example: lrm run recipes/demo.yaml")(run)


def run(  # noqa: PLR0913, PLR0917  (a parameter is a flag)
    recipe: Annotated[Path, typer.Argument(help="A recipe, see recipes/.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default reports/<recipe name>.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Another value than the file's: training.epochs=3.")
    ] = None,
    team: Annotated[str, typer.Option(help="Who pays; default LRM_TEAM.")] = "",
    priority: Annotated[str, typer.Option(help="urgent, normal or filler; default LRM_PRIORITY.")] = "",
    cost_centre: Annotated[str, typer.Option(help="Where it is booked; default LRM_COST_CENTRE.")] = "",
    json: AsJson = False,
) -> None:
    """Build the data, train, serve, attack, judge, compare and decide. Asked again, it goes on where it stopped.

    Exit code: 0 PASS (or no gate in the recipe), 1 BLOCK, 2 INCONCLUSIVE, 3 error.
    """
    wanted = recipes.load(recipe, change or ())
    with connected(tenancy.stated(Settings.from_env(), team, priority, cost_centre)) as clients:
        try:
            with LiveStages() as stages:
                outcome = Pipeline(clients, wanted, stages).run()
        except KeyboardInterrupt:
            errors.print(
                f"\nThe stage goes on in the background. `lrm run {recipe}` follows it again; `lrm down` ends it."
            )
            raise

        def written() -> tuple[ReportData, Path]:
            found = gather(clients, outcome.run)
            return found, write(found, out or Path("reports") / wanted.name)

        data, folder = patiently(clients, "bench", written, lambda why: errors.print(why, markup=False))
    if json:
        print_json(as_json(data))
    else:
        terminal(data, console)
        errors.print(
            f"report: {folder / 'report.html'}   again: lrm report {outcome.run}", highlight=False, soft_wrap=True
        )
    raise typer.Exit(EXIT_CODES[outcome.decision.outcome])
