"""`prefdata explain`."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, flag, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=VERSIONS)(explain)


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
