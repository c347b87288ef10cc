"""`prefdata tag` and `prefdata gc`: which versions stay."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, VersionName, flag, reported


def add_to(app: typer.Typer) -> None:
    for command in (tag, gc):
        app.command(rich_help_panel=VERSIONS)(command)


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


def gc(
    name: Annotated[str | None, typer.Argument(help="Only versions of this dataset.")] = None,
    keep: Annotated[
        int, typer.Option(min=1, metavar="N", help="Keep the N newest versions of each dataset.")
    ] = 1,
    days: Annotated[
        float, typer.Option(min=0, metavar="DAYS", help="Keep what is younger than this.")
    ] = 0,
    remove: Annotated[bool, flag("--remove", "Remove them; else they are only listed.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List, and with --remove remove, versions that are neither tagged nor the newest.

    Answered requests stay in the ledger: what is removed can be built again for nothing.
    """
    with reported(as_json):
        from prefdata.screen import summary, write
        from prefdata.version import garbage

        found = garbage.garbage(data, name, keep=keep, days=days)
        n_bytes = found.bytes
        gone = garbage.remove(found) if remove else []
        if as_json:
            write.print_json(
                {
                    "removable": [each.ref for each in found.removable],
                    "removed": [each.ref for each in gone],
                    "kept": {each.ref: why for each, why in found.kept},
                    "left_over": [str(path) for path in found.left_over],
                    "bytes": n_bytes,
                }
            )
        else:
            summary.draw_garbage(found, n_bytes, removed=remove, on=write.out())
