"""What commands share: options, and how a failure is reported."""

import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prefdata.errors import PrefdataError

BUILD, THERE, VERSIONS = "Build", "What there is to build with", "Versions"
Log = Literal["text", "json"]


def pairs_of_key_and_value(changes: list[str] | None) -> list[str]:
    for change in changes or []:
        if "=" not in change:
            raise typer.BadParameter(f"{change!r} is not key=value, such as models.writer.seed=7")
    return changes or []


def flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text, metavar="")


RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A bundled recipe's name, or the path of a file.")
]
VersionName = Annotated[
    str,
    typer.Argument(metavar="NAME[@ID]", help="A version, also NAME@TAG; alone, the newest."),
]
Json = Annotated[bool, flag("--json", "End with one JSON object on standard output.")]
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
        callback=pairs_of_key_and_value,
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Take the first N prompts only.")
]
Budget = Annotated[
    float | None,
    typer.Option(min=0, metavar="USD", help="Never spend more than this; by default the recipe's."),
]
MaxRequests = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Never send more requests; by default the recipe's."),
]
Engine = Annotated[
    str | None,
    typer.Option(
        metavar="ray|ray://HOST:PORT",
        help="Build on many machines, by Ray: the one that RAY_ADDRESS names, else one started "
        "here; or one that is reached as its client.",
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Of --engine: a folder or URL (s3://bucket/prefix) that all machines reach, for "
        "tables on their way; by default the data folder's builds.",
    ),
]
LogFormat = Annotated[
    Log,
    typer.Option(
        envvar="PREFDATA_LOG_FORMAT", help="Of what goes to standard error: text, or JSON by line."
    ),
]
Strict = Annotated[bool, flag("--strict", "A bad source row is an error, not quarantined.")]


def with_options_of(kind: Callable[..., Any]) -> Callable[[Callable[..., None]], Any]:
    """Let a command list the fields of `kind` as its options, and have them as its first argument.

    So commands that share options list them once.
    """

    def decorated(command: Callable[..., None]) -> Any:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        shared = inspect.signature(kind, eval_str=True).parameters
        # Arguments without a default stand before those with one.
        listed = sorted([*shared.values(), *own], key=lambda each: each.default is not each.empty)

        def run(**given: Any) -> None:
            command(kind(*(given.pop(name) for name in shared)), **given)

        made: Any = functools.wraps(command)(run)
        made.__signature__ = inspect.Signature(listed)
        made.__annotations__ = {each.name: each.annotation for each in listed}
        return made

    return decorated


@contextmanager
def reported(
    as_json: bool,
    data: Path | None = None,
    *,
    building: bool = False,
    stopped: str = "nothing was changed",
    log: Mapping[str, str] | None = None,
) -> Generator[None]:
    """End a command that fails or is stopped with a message and its exit code.

    The message is a record with `log`, where that is given.
    """
    complain = functools.partial(_complained, as_json, log)
    with ExitStack() as heeding:
        try:
            if building:
                from prefdata import stopping

                _end_at_once(complain, data)
                heeding.enter_context(stopping.terminable())
            yield
        except PrefdataError as error:
            complain(str(error), type(error).__name__, "error")
            raise typer.Exit(1) from error
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except OSError as error:
            said = f"{error.strerror or error}: {error.filename or 'no file is named'}"
            if building:
                said += f"\n{how_to_go_on(data)}"
            complain(said, type(error).__name__, "error")
            raise typer.Exit(1) from error
        except Exception as error:
            if os.environ.get("PREFDATA_TRACEBACK"):
                raise
            said = (
                f"{type(error).__name__}: {error}\nThis is not foreseen: set PREFDATA_TRACEBACK=1 "
                "to see where it comes from, and please report it"
            )
            complain(said, type(error).__name__, "error")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            said = how_to_go_on(data, str(error)) if building else stopped
            # Of a build that was stopped, which is not told by its type: that is loaded late.
            complain(said, "Interrupted", "stopped", getattr(error, "requests", None))
            raise typer.Exit(130) from error


def _complained(
    as_json: bool,
    log: Mapping[str, str] | None,
    message: str,
    kind: str,
    label: str,
    requests: Any = None,
) -> None:
    from prefdata.screen import write

    if log is not None:
        from prefdata.screen import records

        records.tell(log, label, "error", message=records.without_keys(message), kind=kind)
    else:
        write.complain(message, label)
    if as_json:
        write.print_json(
            {"error": message, "kind": kind} | ({"requests": requests} if requests else {})
        )


def _end_at_once(complain: Callable[..., None], data: Path | None) -> None:
    """Have a second Ctrl-C end the process without waiting for anything or anybody."""
    from prefdata import stopping

    def end() -> None:
        try:
            # Not those of a live display, which would only be drawn with its next frame.
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            if sys.stderr and sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h\n")  # the cursor, which such a display hides
            complain(f"ended at once; {how_to_go_on(data)}", "Interrupted", "stopped")
        finally:
            os._exit(130)

    stopping.at_once = end


def how_to_go_on(data: Path | None, happened: str = "") -> str:
    from prefdata.version import data_folder

    again = shlex.join(["prefdata", *(each for each in sys.argv[1:] if each != "--fresh")])
    kept = happened or f"everything answered so far is kept in {data_folder(data) / 'ledger'}"
    return f"{kept}; to go on from there:\n  {again}"
