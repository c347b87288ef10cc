"""The command line. Results go to standard output; progress, logs and complaints to standard error.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C. With `--json`, the last line on
standard output is one JSON object, of a failure too: `{"error": ..., "kind": ...}`.

Nothing heavy is imported before a command needs it, so that `--help` is there at once.
"""

import sys
from importlib import import_module
from typing import Annotated

import typer

# The files of `prefdata.commands`, in the order of the help.
FILES = ("building", "catalogue", "versions", "ledger", "serve")

app = typer.Typer(
    name="prefdata",
    help="From prompts, votes or pairs to a preference dataset that one can train on and trust.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


for _file in FILES:
    import_module(f"prefdata.commands.{_file}").add_to(app)


def main() -> None:
    """The program `prefdata`."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show is written out, and no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore
    app()


if __name__ == "__main__":
    main()
