"""`prefdata show`."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, VersionName, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=VERSIONS)(show)


def show(
    version: VersionName,
    pairs: Annotated[int, typer.Option("--pairs", "-n", min=0, help="How many pairs to show.")] = 3,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show what a version holds, how far to trust it, and a few of its pairs."""
    with reported(as_json):
        from prefdata.screen import preview, write
        from prefdata.version import find

        found = find(data, version)
        if as_json:
            write.print_json(preview.show_json(found, pairs))
        else:
            preview.draw_version(found, pairs, write.out())
