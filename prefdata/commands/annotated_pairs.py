"""`prefdata annotated-pairs`."""

from pathlib import Path
from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, VersionName, reported


def add_to(app: typer.Typer) -> None:
    app.command("annotated-pairs", rich_help_panel=VERSIONS)(annotated_pairs)


def annotated_pairs(
    version: VersionName,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The .json to write.")],
    default: Annotated[
        str | None,
        typer.Option(
            metavar="ANNOTATOR",
            help="Whom all others are compared with; by default the label of the pairs.",
        ),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write a version's votes as AnnotatedPairs, which Feedback Forensics opens."""
    with reported(as_json):
        from prefdata.screen import write
        from prefdata.version import annotated_pairs as format
        from prefdata.version import find

        found = find(data, version)
        n = format.write(
            path, {name: found.table(name) for name in format.READ}, found.ref, default
        )
        if as_json:
            write.print_json({"version": found.ref, "path": str(path), "comparisons": n})
        else:
            write.out().print(f"{path}: {n} comparisons of {found.ref}", soft_wrap=True)
