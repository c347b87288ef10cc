"""The command line. Results go to standard output; progress, logs and complaints to standard error.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C or SIGTERM. With `--json`, the
last line on standard output is one JSON object, of a failure too: `{"error": ..., "kind": ...}`.
Whether what goes to standard error can be written makes no difference to anything else.

Nothing heavy is imported before a command needs it, so that `--help` is there at once.
"""

import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any

import typer

# The files of `prefdata.commands`, in the order of the help.
FILES = (
    *"build deploy recipes stages judges list show explain diff annotated_pairs check push".split(),
    *"annotate simulate_routing tag gc ledger serve doctor".split(),
)

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


class _Aside(io.FileIO):
    """Standard error: what cannot be written, as where nobody reads or a disk is full, is lost."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            return super().write(data) or len(data)
        return len(data)


def main() -> None:
    """The program `prefdata`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed; else a ledger might be opened in its place
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        # A character that the terminal cannot show is written out, and no reason to fail.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    # Progress and complaints end nothing, whoever writes them: a console, a log, a library.
    aside = io.BufferedWriter(_Aside(sys.stderr.fileno(), "w", closefd=False))
    how = {"encoding": sys.stderr.encoding, "errors": sys.stderr.errors}
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(aside, **how, line_buffering=True)  # pyright: ignore
    app()


if __name__ == "__main__":
    main()
