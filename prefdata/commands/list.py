"""`prefdata list`."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, reported


def add_to(app: typer.Typer) -> None:
    app.command("list", rich_help_panel=VERSIONS)(list_versions)


def list_versions(
    name: Annotated[str | None, typer.Argument(help="Only the versions of this dataset.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the versions that were built."""
    with reported(as_json):
        from prefdata.screen import summary, write
        from prefdata.version import broken

        found, wrong = summary.versions(data, name), broken(data, name)
        if as_json:
            said = {str(path): why for path, why in wrong.items()}
            write.print_json({"versions": found, "broken": said})
        else:
            summary.draw_versions(found, data, write.out())
            summary.draw_broken(wrong, write.out())
