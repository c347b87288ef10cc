"""`prefdata list`, `prefdata show`, `prefdata diff` and `prefdata annotated-pairs`."""

from pathlib import Path
from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, reported


def add_to(app: typer.Typer) -> None:
    app.command("list", rich_help_panel=VERSIONS)(list_versions)
    for command in (show, diff):
        app.command(rich_help_panel=VERSIONS)(command)
    app.command("annotated-pairs", rich_help_panel=VERSIONS)(annotated_pairs)


def list_versions(
    name: Annotated[str | None, typer.Argument(help="Only the versions of this dataset.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the versions that were built."""
    with reported(as_json):
        from prefdata.screen import summary, write

        found = summary.versions(data, name)
        if as_json:
            write.print_json({"versions": found})
        else:
            summary.draw_versions(found, data, write.out())


def show(
    version: Annotated[
        str, typer.Argument(metavar="NAME[@ID]", help="A version; without an id, the newest.")
    ],
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


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="NAME[@ID].")],
    after: Annotated[str, typer.Argument(metavar="B", help="NAME[@ID].")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say which pairs two versions differ in, and which judge, model or option caused it."""
    with reported(as_json):
        from prefdata.screen import preview, write
        from prefdata.version import find
        from prefdata.version.diff import diff as differ

        found = differ(find(data, before), find(data, after))
        if as_json:
            write.print_json(found.to_json())
        else:
            preview.draw_diff(found, write.out())


def annotated_pairs(
    version: Annotated[
        str, typer.Argument(metavar="NAME[@ID]", help="A version; without an id, the newest.")
    ],
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
