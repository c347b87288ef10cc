"""`prefdata diff`."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=VERSIONS)(diff)


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="NAME[@ID] or NAME@TAG.")],
    after: Annotated[str, typer.Argument(metavar="B", help="NAME[@ID] or NAME@TAG.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say which pairs two versions differ in, and which judge, model, option or votes caused it."""
    with reported(as_json):
        from prefdata.screen import preview, write
        from prefdata.version import find
        from prefdata.version.diff import diff as differ

        found = differ(find(data, before), find(data, after))
        if as_json:
            write.print_json(found.to_json())
        else:
            preview.draw_diff(found, write.out())
