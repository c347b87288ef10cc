"""`prefdata gc`."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, flag, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=VERSIONS)(gc)


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

    The answers of models stay in the ledger: what is removed can be built again without paying, as
    long as its sources and weights are there.
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
