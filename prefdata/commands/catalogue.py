"""`prefdata recipes`, `prefdata stages` and `prefdata judges`."""

from typing import Annotated

import typer

from prefdata.commands.common import THERE, Json, flag, reported


def add_to(app: typer.Typer) -> None:
    for command in (recipes, stages, judges):
        app.command(rich_help_panel=THERE)(command)


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
