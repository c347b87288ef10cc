"""What a ledger holds, whether it is sound, and what its upkeep did, as drawn on a terminal."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from prefdata.models.compact import Compacted
from prefdata.models.records import Exported
from prefdata.models.upkeep import Stats, Verified
from prefdata.screen import write


def draw_stats(told: Stats, on: Console) -> None:
    on.print(write.text(told.folder, "bold"), soft_wrap=True)
    if not told.segments:
        on.print("Nothing was ever answered here. The first build fills it.")
        return
    on.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    for name, said in _facts(told):
        facts.add_row(name, write.text(said))
    on.print(facts)
    on.print()
    table = write.table("model", "responses#", "errors#", "tokens in#", "out#")
    for model, counts in told.models.items():
        table.add_row(
            write.text(model, "bold"),
            write.count(counts.responses),
            write.count(counts.errors),
            write.brief(counts.tokens_in),
            write.brief(counts.tokens_out),
        )
    on.print(table)
    if told.torn + told.damaged:
        on.print("\n[yellow]Which lines, and what to do: prefdata ledger verify[/yellow]")


def _facts(told: Stats) -> list[tuple[str, str]]:
    segments = write.count(told.segments)
    segments += f", {told.being_written} being written" if told.being_written else ""
    responses = write.count(told.responses)
    if told.superseded:
        responses += f", {write.count(told.superseded)} of them superseded by a newer answer"
    wrong = [(told.torn, "torn"), (told.damaged, "damaged")]
    found = [
        ("responses", responses),
        ("requests", f"{write.count(told.unique)} answered"),
        ("tokens", f"{write.count(told.tokens_in)} in, {write.count(told.tokens_out)} out"),
        ("time (UTC)", f"{_moment(told.first)} to {_moment(told.last)}"),
        ("segments", f"{segments}, {write.size(told.bytes)}"),
        ("not sound", ", ".join(f"{write.count(n)} lines {how}" for n, how in wrong if n)),
        ("set aside", f"{told.set_aside} files of damaged lines" if told.set_aside else ""),
    ]
    return [(name, said) for name, said in found if said]


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    return write.moment(datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat())


def draw_verified(told: Verified, on: Console) -> None:
    n = f"{write.count(told.responses)} sound responses in {write.count(told.segments)} segments"
    on.print(write.text(n, "bold" if told.n_faults else "bold green"))
    for fault in told.faults:
        place = f"{fault.segment}:{fault.line}"
        on.print(write.text(place, "bold"), write.text(fault.found), soft_wrap=True)
        if not told.repaired:
            on.print(write.text(f"  {fault.advice}", "dim"), soft_wrap=True)
    if told.n_faults > len(told.faults):
        on.print(f"... and {write.count(told.n_faults - len(told.faults))} more")
    if told.repaired:
        on.print(f"{write.count(told.repaired)} lines were moved, none was deleted:")
        for name in told.moved_to:
            on.print(write.text(f"  {told.folder}/{name}"), soft_wrap=True)
    if told.n_faults > told.repaired:
        left = write.count(told.n_faults - told.repaired)
        on.print(write.text(f"{left} lines are not sound; what they held is asked again", "yellow"))


def draw_compacted(done: Compacted, on: Console) -> None:
    if not done.segments:
        on.print("Nothing to merge.")
    else:
        saved = done.bytes_before - done.bytes_after
        on.print(
            f"{write.count(done.segments)} segments are one:",
            f"{write.count(done.kept)} responses, {write.size(done.bytes_after)},",
            f"{write.count(done.superseded)} superseded dropped, {write.size(saved)} freed",
        )
    if done.damaged:
        on.print(f"{write.count(done.damaged)} damaged lines were moved to *.damaged beside it")
    for name, why in done.left.items():
        on.print(write.text(f"left alone: {name}: {why}", "dim"), soft_wrap=True)


def draw_exported(done: Exported, on: Console) -> None:
    said = f"{write.count(done.rows)} rows, {write.size(done.bytes)}"
    on.print(write.text(done.path, "bold"), said, soft_wrap=True)
