"""`prefdata judges`."""

from typing import Annotated

import typer

from prefdata.commands.common import THERE, Json, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=THERE)(judges)


def judges(
    name: Annotated[
        str | None, typer.Argument(help="One judge: a bundled one, or a path ending in .toml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the judges and juries, or show what a judge asks."""
    with reported(as_json):
        from prefdata.screen import catalogue, write

        if name is not None:
            found = catalogue.judge(name)
            if as_json:
                write.print_json(catalogue.judge_json(found))
            else:
                catalogue.draw_judge(found, write.out())
        elif as_json:
            lists = {"judges": catalogue.judge_list(), "juries": catalogue.jury_list()}
            write.print_json(lists)
        else:
            catalogue.draw_judges(catalogue.judge_list(), write.out())
            catalogue.draw_juries(catalogue.jury_list(), write.out())
