"""`prefdata serve`: the models of a recipe behind servers of vLLM."""

import shlex
import time
from typing import Annotated, Any

import typer

from prefdata.commands.common import THERE, Changes, Json, flag, reported


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=THERE)(serve)


def serve(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL-OR-RECIPE...",
            help="A recipe, for all its models of the client vllm, or a model's name or folder.",
        ),
    ],
    host: Annotated[str, typer.Option(metavar="HOST", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, metavar="N", help="The first port; one more for each engine.")
    ] = 8000,
    changes: Changes = None,
    dry_run: Annotated[bool, flag("--dry-run", "Only say which commands would run.")] = False,
    as_json: Json = False,
) -> None:
    """Start `vllm serve` with the settings of a recipe's models, until Ctrl-C.

    To ask the servers, give the models client = "openai", the base_url and the model that are
    shown.
    """
    with reported(as_json):
        from prefdata.models import serving
        from prefdata.screen import write
        from prefdata.stopping import terminable

        specs = {
            role: spec
            for name in names
            for role, spec in serving.specs_of(name, changes or []).items()
        }
        wanted = serving.servers(specs, host, port)
        if dry_run:
            _show(wanted, as_json)
            return
        try:
            with terminable(), serving.running(wanted) as started:
                for each in wanted:
                    write.err().print(write.text(shlex.join(each.command), "dim"))
                serving.ready(wanted, started)
                _show(wanted, as_json)
                while True:
                    serving.refuse_ended(wanted, started)
                    time.sleep(serving.LOOK)
        except KeyboardInterrupt:
            write.err().print("the servers are stopped")


def _show(wanted: list[Any], as_json: bool) -> None:
    from prefdata.screen import write

    if as_json:
        write.print_json({"servers": [each.to_json() for each in wanted]})
        return
    for each in wanted:
        lines = [f"# {shlex.join(each.command)}"]
        for role, name in each.names.items():
            lines += [f"[models.{_key(role)}]", 'client = "openai"']
            lines += [f'base_url = "{each.url}"', f"model = {_quoted(name)}", ""]
        typer.echo("\n".join(lines))


def _key(name: str) -> str:
    """A TOML key: bare where it may be."""
    bare = name.replace("-", "").replace("_", "")
    return name if bare.isalnum() and bare.isascii() else _quoted(name)


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)
