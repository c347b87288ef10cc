"""`prefdata list`, `show`, `explain`, `diff` and `annotated-pairs`."""

from pathlib import Path
from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, VersionName, flag, reported


def add_to(app: typer.Typer) -> None:
    app.command("list", rich_help_panel=VERSIONS)(list_versions)
    for command in (show, explain, diff):
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
        from prefdata.version import broken

        found, wrong = summary.versions(data, name), broken(data, name)
        if as_json:
            said = {str(path): why for path, why in wrong.items()}
            write.print_json({"versions": found, "broken": said})
        else:
            summary.draw_versions(found, data, write.out())
            summary.draw_broken(wrong, write.out())


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


def explain(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME[@ID]] ROW",
            help="The id of a pair, completion or prompt, or its start; without a version, in "
            "whichever newest version has it.",
        ),
    ],
    whole: Annotated[bool, flag("--full", "Cut no text off.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Tell the whole story of one row: its texts, every vote and reason, why it is there or not."""
    if len(words) > 2:
        raise typer.BadParameter("give NAME[@ID] and a row, or a row alone")
    with reported(as_json):
        from prefdata.screen import story as screen
        from prefdata.screen import write
        from prefdata.version import find
        from prefdata.version.story import anywhere, story

        *named, row = words
        told = story(find(data, named[0]), row) if named else anywhere(data, row)
        if as_json:
            write.print_json(told)
        else:
            screen.draw_story(told, write.out(), whole=whole)


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
