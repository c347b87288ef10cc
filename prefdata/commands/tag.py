"""`prefdata tag`."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, VersionName, flag, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=VERSIONS)(tag)


def tag(
    version: VersionName,
    name: Annotated[str | None, typer.Argument(metavar="TAG", help="Such as v3.")] = None,
    move: Annotated[bool, flag("--move", "Take the tag from the version that has it.")] = False,
    delete: Annotated[bool, flag("--delete", "Take the tag away; the version stays.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Name a version, so that NAME@TAG means it and gc keeps it; without a tag, list them."""
    with reported(as_json):
        from prefdata.screen import write
        from prefdata.version import find
        from prefdata.version import tags as tagging

        found = find(data, version)
        was = None
        if name is not None and delete:
            was = tagging.remove(found.path.parent, name)
        elif name is not None:
            was = tagging.put(found.path, name, move=move)
        there = tagging.tags(found.path.parent)
        if as_json:
            write.print_json({"name": found.name, "tags": there, "was": was})
            return
        for each, meant in there.items():
            on_it = "bold" if each == name else ""
            line = f"{found.name}@{each} is {found.name}@{meant}"
            write.out().print(write.text(line, on_it), soft_wrap=True)
        if not there:
            write.out().print(write.text(f"{found.name} has no tags"))
