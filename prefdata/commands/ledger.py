"""`prefdata ledger`: what models have answered."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, flag, reported

Idle = Annotated[
    float,
    typer.Option(min=0, metavar="S", help="Leave alone what was written to in the last S seconds."),
]
ForeignIdle = Annotated[
    float,
    typer.Option(min=0, metavar="H", help="The same for other machines' segments, in hours."),
]
Moment = Annotated[datetime | None, typer.Option(metavar="TIME", help="ISO 8601, in UTC.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        name="ledger",
        help="What models have answered: count it, check it, merge it, take it elsewhere.",
        no_args_is_help=True,
    )
    for command in (stats, verify, compact, export):
        group.command()(command)
    app.add_typer(group, rich_help_panel=VERSIONS)


def stats(data: Data = None, as_json: Json = False) -> None:
    """Count responses, tokens and bytes, by model."""
    with reported(as_json):
        from prefdata.models import upkeep
        from prefdata.screen import ledger as screen
        from prefdata.screen import write

        found = upkeep.stats(_ledger_folder(data))
        if as_json:
            write.print_json(found.to_json())
        else:
            screen.draw_stats(found, write.out())


def verify(
    repair: Annotated[
        bool, flag("--repair", "Move lines that are not sound into *.damaged beside.")
    ] = False,
    idle: Idle = 60,
    foreign_idle: ForeignIdle = 48,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Check every line. Exits with 1 where one is not sound and was not repaired."""
    with reported(as_json):
        from prefdata.models import upkeep
        from prefdata.screen import ledger as screen
        from prefdata.screen import write

        folder = _ledger_folder(data)
        hours = foreign_idle * 3600
        found = upkeep.verify(folder, repair=repair, idle=idle, foreign_idle=hours)
        if as_json:
            write.print_json(found.to_json())
        else:
            screen.draw_verified(found, write.out())
    if not found.is_sound:
        raise typer.Exit(1)


def compact(
    idle: Idle = 60, foreign_idle: ForeignIdle = 48, data: Data = None, as_json: Json = False
) -> None:
    """Merge segments whose writers are done into one, without superseded answers.

    Builds may run meanwhile, here and on other machines: their segments are left alone.
    """
    with reported(as_json):
        from prefdata.models.compact import compact as merge
        from prefdata.screen import ledger as screen
        from prefdata.screen import write

        done = merge(_ledger_folder(data), idle=idle, foreign_idle=foreign_idle * 3600)
        if as_json:
            write.print_json(done.to_json())
        else:
            screen.draw_compacted(done, write.out())


def export(
    path: Annotated[Path, typer.Argument(help="A file to write: *.jsonl or *.parquet.")],
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Only this model; patterns: 'gpt-*'."),
    ] = None,
    since: Moment = None,
    until: Moment = None,
    superseded: Annotated[
        bool, flag("--superseded", "Also answers that a newer one replaced.")
    ] = False,
    overwrite: Annotated[bool, flag("--overwrite", "Replace the file if it is there.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write requests with their answers to one file, the newest answer of each."""
    with reported(as_json):
        from prefdata.models import records
        from prefdata.screen import ledger as screen
        from prefdata.screen import write

        done = records.export(
            _ledger_folder(data),
            path,
            models=models or [],
            since=since,
            until=until,
            superseded=superseded,
            overwrite=overwrite,
        )
        if as_json:
            write.print_json(done.to_json())
        else:
            screen.draw_exported(done, write.out())


def _ledger_folder(data: Path | None) -> Path:
    from prefdata.version import data_folder

    return data_folder(data) / "ledger"
