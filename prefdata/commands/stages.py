"""`prefdata stages`."""

from typing import Annotated

import typer

from prefdata.commands.common import THERE, Json, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=THERE)(stages)


def stages(
    name: Annotated[
        str | None, typer.Argument(help="One stage, verb.method, or all of one verb.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the stages, or show one with its options."""
    with reported(as_json):
        from prefdata.recipe import VERBS
        from prefdata.screen import catalogue, write

        if name is None or name in VERBS:
            found = catalogue.stage_list(name)
            if as_json:
                write.print_json({"stages": found})
            else:
                draw = catalogue.draw_stages if name is None else catalogue.draw_verb
                draw(found, write.out())
        elif as_json:
            write.print_json(catalogue.stage(name))
        else:
            catalogue.draw_stage(catalogue.stage(name), write.out())
