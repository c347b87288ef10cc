"""`prefdata check`: quality gates for a dataset, whoever made it."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, reported
from prefdata.finding import FailOn


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=VERSIONS)(check)


def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH|ORG/NAME",
            help="A version, a file or folder in TRL's formats, or a dataset of the Hub.",
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A benchmark that must not be in it; may be repeated."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Compare meanings with the benchmark by this model."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The model to be trained, to check its template."),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The most tokens its trainer takes.")
    ] = None,
    fail_on: Annotated[FailOn, typer.Option(help="From which level on to exit with 1.")] = "error",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Look for what spoils preference data: identical sides, ties, leaks, bias, cut-off texts ...

    Exits with 1 where something is found that is as bad as --fail-on says, for CI.
    """
    with reported(as_json):
        from prefdata.check import Options, run
        from prefdata.screen import check as screen
        from prefdata.screen import write

        options = Options(against or (), embedder, tokenizer, max_length)
        found = run(target, options, data)
        passes = found.passes(fail_on)
        if as_json:
            write.print_json({**found.to_json(), "passes": passes})
        else:
            screen.draw_report(found, write.out(), passes=passes)
    if not passes:
        raise typer.Exit(1)
