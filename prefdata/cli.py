"""The command line. Results go to standard output; progress, logs and complaints to standard error.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C. With `--json`, the last line on
standard output is one JSON object, of a failure too: `{"error": ..., "kind": ...}`.

Nothing heavy is imported before a command needs it, so that `--help` is there at once.
"""

import os
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from prefdata.errors import PrefdataError

app = typer.Typer(
    name="prefdata",
    help="From prompts, votes or pairs to a preference dataset that one can train on and trust.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BUILD, THERE, VERSIONS = "Build", "What there is to build with", "Versions"


def _pairs_of_key_and_value(changes: list[str] | None) -> list[str]:
    for change in changes or []:
        if "=" not in change:
            raise typer.BadParameter(f"{change!r} is not key=value, such as models.writer.seed=7")
    return changes or []


def _flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text, metavar="")


RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A bundled recipe's name, or the path of a file.")
]
Json = Annotated[bool, _flag("--json", "End with one JSON object on standard output.")]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="PREFDATA_DATA",
        help="Folder of ledger, builds and versions; by default data/ of the project or folder.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe: models.judge.model=..., stages.generate.sample.n=2.",
        callback=_pairs_of_key_and_value,
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Take the first N prompts only.")
]
Strict = Annotated[bool, _flag("--strict", "A bad source row is an error, not quarantined.")]


@app.command(rich_help_panel=BUILD)
def build(
    recipe: RecipeName,
    limit: Limit = None,
    changes: Changes = None,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="Never spend more than this.")
    ] = None,
    fresh: Annotated[bool, _flag("--fresh", "Ask again what the ledger has answered.")] = False,
    strict: Strict = False,
    shards: Annotated[
        int, typer.Option(min=1, metavar="N", help="Split each stage's prompts into N parts.")
    ] = 1,
    plain: Annotated[bool, _flag("--plain", "Run directly, never by Prefect.")] = False,
    prefect: Annotated[
        bool, _flag("--prefect", "Run as a Prefect flow, even if no API is set up.")
    ] = False,
    dry_run: Annotated[
        bool, _flag("--dry-run", "Only say what would run, as `prefdata plan` does.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Build a dataset from a recipe. What was ever answered is not asked again."""
    if plain and prefect:
        raise typer.BadParameter("--plain and --prefect exclude each other")
    if dry_run:
        plan(recipe, limit, changes, strict, data, as_json)
        return
    options: dict[str, Any] = {
        "data": None if data is None else str(data),
        "changes": changes or [],
        "limit": limit,
        "n_shards": shards,
        "fresh": fresh,
        "strict": strict,
        "budget": budget,
    }
    with _reported(as_json, data, building=True):
        from prefdata import way
        from prefdata.screen import progress, write

        builds, how = way.choose(plain=plain, prefect=prefect)
        write.err().print(write.text(f"building {recipe} {how}", "dim"))
        with progress.watching(write.err()) as watch:
            built = builds(recipe, watch=watch, **options)
        if as_json:
            write.print_json(built.to_json())
        else:
            from prefdata.screen import summary

            summary.draw_built(built, write.out())


@app.command(rich_help_panel=BUILD)
def plan(
    recipe: RecipeName,
    limit: Limit = None,
    changes: Changes = None,
    strict: Strict = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say what a build would run, ask and cost. Checks everything, spends nothing."""
    with _reported(as_json):
        from prefdata.dataset import estimate
        from prefdata.screen import summary, write

        found = summary.plan_json(
            *estimate(recipe, data=data, changes=changes or [], limit=limit, strict=strict)
        )
        if as_json:
            write.print_json(found)
        else:
            summary.draw_plan(found, write.out())


@app.command(rich_help_panel=THERE)
def recipes(
    schema: Annotated[
        bool, _flag("--schema", "Print the JSON Schema of recipes, for an editor.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the recipes that come with prefdata."""
    with _reported(as_json):
        from prefdata.screen import catalogue, write

        if schema:
            from prefdata.recipe import Recipe

            write.print_json(Recipe.model_json_schema())
        elif as_json:
            write.print_json({"recipes": catalogue.recipes()})
        else:
            catalogue.draw_recipes(catalogue.recipes(), write.out())


@app.command(rich_help_panel=THERE)
def stages(
    name: Annotated[str | None, typer.Argument(help="One stage: verb.method.")] = None,
    as_json: Json = False,
) -> None:
    """List the stages, or show one with its options."""
    with _reported(as_json):
        from prefdata.screen import catalogue, write

        if name is not None:
            found: Any = catalogue.stage(name)
            draw: Callable[..., None] = catalogue.draw_stage
        else:
            found, draw = catalogue.stage_list(), catalogue.draw_stages
        if as_json:
            write.print_json(found if name is not None else {"stages": found})
        else:
            draw(found, write.out())


@app.command(rich_help_panel=THERE)
def judges(
    name: Annotated[
        str | None, typer.Argument(help="One judge: a bundled one, or a path ending in .toml.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the judges, or show what one asks."""
    with _reported(as_json):
        from prefdata.screen import catalogue, write

        if name is not None:
            found = catalogue.judge(name)
            if as_json:
                write.print_json(catalogue.judge_json(found))
            else:
                catalogue.draw_judge(found, write.out())
        elif as_json:
            write.print_json({"judges": catalogue.judge_list()})
        else:
            catalogue.draw_judges(catalogue.judge_list(), write.out())


@app.command("list", rich_help_panel=VERSIONS)
def list_versions(
    name: Annotated[str | None, typer.Argument(help="Only the versions of this dataset.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the versions that were built."""
    with _reported(as_json):
        from prefdata.screen import summary, write

        found = summary.versions(data, name)
        if as_json:
            write.print_json({"versions": found})
        else:
            summary.draw_versions(found, data, write.out())


@app.command(rich_help_panel=VERSIONS)
def show(
    version: Annotated[
        str, typer.Argument(metavar="NAME[@ID]", help="A version; without an id, the newest.")
    ],
    pairs: Annotated[int, typer.Option("--pairs", "-n", min=0, help="How many pairs to show.")] = 3,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show what a version holds, how far to trust it, and a few of its pairs."""
    with _reported(as_json):
        from prefdata.screen import preview, write
        from prefdata.version import find

        found = find(data, version)
        if as_json:
            write.print_json(preview.show_json(found, pairs))
        else:
            preview.draw_version(found, pairs, write.out())


@app.command(rich_help_panel=VERSIONS)
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="NAME[@ID].")],
    after: Annotated[str, typer.Argument(metavar="B", help="NAME[@ID].")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say which pairs two versions differ in, and which judge, model or option caused it."""
    with _reported(as_json):
        from prefdata.screen import preview, write
        from prefdata.version import find
        from prefdata.version.diff import diff as differ

        found = differ(find(data, before), find(data, after))
        if as_json:
            write.print_json(found.to_json())
        else:
            preview.draw_diff(found, write.out())


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"prefdata {version('prefdata')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            help="Show the version.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass


@contextmanager
def _reported(
    as_json: bool, data: Path | None = None, *, building: bool = False
) -> Generator[None]:
    """End a command that fails or is stopped with a message and its exit code."""
    try:
        yield
    except PrefdataError as error:
        _complain(as_json, str(error), type(error).__name__, "error")
        raise typer.Exit(1) from error
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except OSError as error:
        said = f"{error.strerror or error}: {error.filename or 'no file is named'}"
        if building:
            said += f"\n{_how_to_go_on(data)}"
        _complain(as_json, said, type(error).__name__, "error")
        raise typer.Exit(1) from error
    except Exception as error:
        if os.environ.get("PREFDATA_TRACEBACK"):
            raise
        said = (
            f"{type(error).__name__}: {error}\nThis is not foreseen: set PREFDATA_TRACEBACK=1 to "
            "see where it comes from, and please report it"
        )
        _complain(as_json, said, type(error).__name__, "error")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        said = _how_to_go_on(data) if building else "nothing was changed"
        _complain(as_json, said, "Interrupted", "stopped")
        raise typer.Exit(130) from error


def _complain(as_json: bool, message: str, kind: str, label: str) -> None:
    from prefdata.screen import write

    write.complain(message, label)
    if as_json:
        write.print_json({"error": message, "kind": kind})


def _how_to_go_on(data: Path | None) -> str:
    from prefdata.version import data_folder

    again = shlex.join(["prefdata", *(each for each in sys.argv[1:] if each != "--fresh")])
    return (
        f"everything answered so far is kept in {data_folder(data) / 'ledger'}; "
        f"to go on from there:\n  {again}"
    )


def main() -> None:
    """The program `prefdata`."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show is written out, and no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore
    app()


if __name__ == "__main__":
    main()
