"""What a push would do, what was found against it, how far it is, and where the version is."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from prefdata.errors import counted
from prefdata.finding import Finding
from prefdata.hub import Plan, Pushed
from prefdata.hub.inspection import filled
from prefdata.hub.pushing import Told
from prefdata.screen import write

FILES = 8  # files that are named one by one


def draw_plan(planned: Plan, on: Console) -> None:
    lacking = planned.difference
    is_new = lacking.state.head is None
    private = planned.private if is_new else lacking.state.private
    state = f"({'new, ' if is_new else ''}{'private' if private else 'public'})"
    on.print(
        write.text(planned.version.ref, "bold"),
        "to",
        write.text(planned.repository.url(), "bold"),
        write.text(state, "dim"),
        soft_wrap=True,
    )
    for each in planned.notes:
        on.print(write.text("note:", "yellow"), write.text(each))
    if lacking.is_none:
        on.print("It holds the version already.")
    elif lacking.commit is not None:
        on.print("It holds the files already.")
    else:
        on.print(f"{counted(len(lacking.send), 'file')} to send, {write.size(lacking.bytes)}:")
        largest = sorted(lacking.send.items(), key=lambda item: (-item[1], item[0]))
        for name, size in largest[:FILES]:
            on.print(write.text(f"  {write.size(size):>7}  {name}", "dim"))
        if rest := largest[FILES:]:
            size = write.size(sum(size for _, size in rest))
            on.print(write.text(f"  {size:>7}  in {counted(len(rest), 'smaller file')}", "dim"))
        if lacking.remove:
            on.print(f"{counted(len(lacking.remove), 'file')} of the version before to remove")
    if lacking.tags:
        on.print(write.text(f"to tag: {', '.join(lacking.tags)}"))
    if planned.findings:
        on.print()
        draw_findings(planned.findings, on)


def draw_findings(found: Sequence[Finding], on: Console) -> None:
    table = write.table("found", "what", "n#", "for instance")
    for finding in found:
        examples = [
            f"{each['place']}: {each['text']}" if each["text"] else each["place"]
            for each in finding.examples
        ]
        table.add_row(
            write.text(finding.check, write.LEVELS[finding.level]),
            write.text(finding.says),
            write.count(finding.n),
            write.text("\n".join(examples), "dim", lines=True),
        )
    on.print(table)


@contextmanager
def looking(on: Console) -> Generator[None]:
    """Shows, on a terminal, that something is done before anything is sent."""
    with on.status("looking for keys and personal data, and at what is there"):
        yield


def tried_again(why: str, seconds: float) -> None:
    write.complain(f"{why}; once more in {write.duration(seconds)}", "waiting", "yellow")


@contextmanager
def sending(on: Console) -> Generator[Told]:
    """Shows how many bytes are sent and how fast: drawn on a terminal, else a line now and then."""
    with _drawn(on) if on.is_terminal else _lines(on) as told:
        yield told


@contextmanager
def _lines(on: Console) -> Generator[Told]:
    began = time.monotonic()
    last = -write.EVERY

    def told(sent: int, of: int) -> None:
        nonlocal last
        now = time.monotonic() - began
        if now - last >= write.EVERY or sent == of:
            last = now
            rate = f", {write.size(sent / now)}/s" if sent and now else ""
            on.print(write.text(f"sent {write.size(sent)} of {write.size(of)}{rate}"))

    yield told


@contextmanager
def _drawn(on: Console) -> Generator[Told]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=on, transient=True) as progress:
        task = progress.add_task("sending", total=None)

        def told(sent: int, of: int) -> None:
            what = "committing" if sent == of else "sending"
            progress.update(task, description=what, completed=sent, total=of)

        yield told


def draw_pushed(planned: Plan, done: Pushed, on: Console) -> None:
    if done.changed:
        sent = f"{counted(done.files, 'file')}, {write.size(done.bytes)}" if done.files else ""
        on.print(write.text("pushed", "bold green"), sent)
    else:
        on.print(write.text("nothing to do", "bold green"))
    if view := next(iter(filled(planned.version)), None):
        load = f'"{planned.repository.name}", "{view}", revision="{done.tags[-1]}"'
        on.print(write.text(f"load_dataset({load})", "dim"), soft_wrap=True)
    on.print(write.text(done.url, "bold"), soft_wrap=True)
