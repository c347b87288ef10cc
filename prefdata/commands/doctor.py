"""`prefdata doctor`."""

from typing import Annotated, Any

import typer

from prefdata.commands.common import THERE, Changes, Data, Json, flag, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=THERE)(doctor)


def doctor(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Look at its models, keys and endpoints too."),
    ] = None,
    no_ask: Annotated[bool, flag("--no-ask", "Send the endpoints no request.")] = False,
    repair: Annotated[
        bool, flag("--repair", "Move aside what is damaged of the ledger and of versions.")
    ] = False,
    changes: Changes = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Look whether a build can run here, and say what to do where it cannot.

    Each endpoint of the recipe is asked for one token of what its stages want. Exits with 1 where
    something is in the way.
    """
    with reported(as_json):
        from prefdata.doctor import examine
        from prefdata.screen import doctor as screen
        from prefdata.screen import write

        tell = screen.teller(write.out())
        options: dict[str, Any] = {
            "data": data,
            "changes": tuple(changes or ()),
            "ask": not no_ask,
        }
        found = examine(recipe, **options, repair=repair, tell=None if as_json else tell)
        if as_json:
            write.print_json(found.to_json())
        else:
            screen.draw_verdict(found, write.out())
    if not found.is_fit:
        raise typer.Exit(1)
