"""`prefdata recipes`."""

from typing import Annotated

import typer

from prefdata.commands.common import THERE, Json, flag, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=THERE)(recipes)


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="One recipe, printed to be copied: > mine.toml")
    ] = None,
    schema: Annotated[
        bool, flag("--schema", "Print the JSON Schema of recipes, for an editor.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the recipes that come with prefdata, or print one."""
    with reported(as_json):
        from prefdata.screen import catalogue, write

        if schema:
            from prefdata.recipe import Recipe

            write.print_json(Recipe.model_json_schema())
        elif name is not None:
            text = catalogue.recipe(name)
            if as_json:
                write.print_json({"name": name, "text": text})
            else:
                typer.echo(text, nl=False)
        elif as_json:
            write.print_json({"recipes": catalogue.recipes()})
        else:
            catalogue.draw_recipes(catalogue.recipes(), write.out())
