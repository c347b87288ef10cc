"""How a build looks while it runs: live on a terminal, plain lines elsewhere.

Both watch the events of `prefdata.watch`, which may come from any thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live as Display
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from prefdata.models.client import Health
from prefdata.screen import write
from prefdata.screen.records import About, Records, heard
from prefdata.watch import (
    Advanced,
    Asking,
    Event,
    Imported,
    Made,
    Pulse,
    Spilling,
    Started,
    Stopping,
    Stuck,
    Warned,
    Watch,
)

Clock = Callable[[], float]
WINDOW = 30.0  # seconds over which a rate is taken
ENDPOINTS = 4  # that are shown one by one


class Pace:
    """Requests a second over the last `WINDOW`, and the seconds left at that rate.

    What the ledger answers is done at once and says nothing about the rate.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, event: Asking) -> None:
        now, asked = self._clock(), event.done - event.cached
        if self._seen and asked < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, asked))
        while now - self._seen[0][0] > WINDOW and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """0 while it is not known."""
        if len(self._seen) < 2:
            return 0.0
        (then, before), (now, after) = self._seen[0], self._seen[-1]
        return (after - before) / (now - then) if now > then else 0.0

    def left(self, event: Asking) -> float | None:
        return (event.total - event.done) / self.rate if self.rate > 0 else None


def facts(event: Asking, pace: Pace) -> list[str]:
    """What there is to say about running requests, the most wanted first."""
    said: list[str] = []
    if event.awaited:
        said.append(f"waiting for {write.count(event.awaited)} asked by {event.by}")
    if pace.rate:
        said.append(f"{pace.rate:.1f}/s")
    left = pace.left(event)
    if left is not None and event.done < event.total:
        said.append(f"{write.duration(left)} left")
    if event.tokens_in or event.tokens_out:
        said.append(f"{write.brief(event.tokens_in)} tokens in")
        said.append(f"{write.brief(event.tokens_out)} out")
    if event.cost:
        said.append(write.dollars(event.cost))
    if event.cached:
        said.append(f"{write.count(event.cached)} from the ledger")
    if event.failed:
        said.append(f"{write.count(event.failed)} failed")
    if event.unsent:
        said.append(f"{write.count(event.unsent)} not sent: a limit was reached")
    return said


def outcome(event: Made, last: Asking | None) -> list[str]:
    """What a finished stage came to."""
    kept = {name: n for name, n in event.tables.items() if name != "dropped"}
    said = [write.rows(kept)] if kept else []
    if event.dropped:
        said.append(f"{write.count(event.dropped)} dropped")
    unscored = sum(event.unscored.values())
    if unscored:
        said.append(f"{write.count(unscored)} unscored ({write.reasons(event.unscored)})")
    said += [event.nothing] if event.nothing else []
    if last is not None:
        asked = last.done - last.cached - last.unsent
        said.append(f"{write.count(asked)} asked" if asked else "nothing asked")
        said += [f"{write.count(last.cached)} from the ledger"] if last.cached else []
        said += [f"{write.count(last.failed)} failed"] if last.failed else []
        said += [f"{write.count(last.unsent)} not sent"] if last.unsent else []
        said += [write.dollars(last.cost)] if last.cost else []
    return said


def imported(event: Imported) -> list[str]:
    said = [write.rows(event.tables)] if event.tables else ["nothing"]
    if event.quarantined:
        rows = "row" if event.quarantined == 1 else "rows"
        said.append(f"{write.count(event.quarantined)} {rows} quarantined")
    return said


def spilling(event: Spilling) -> str:
    return (
        f"held on disk in {event.shards} shards: about {write.size(event.needed)} needed, "
        f"{write.size(event.free)} free"
    )


def advanced(event: Advanced, seconds: float) -> str:
    """How far, how fast and how long still, of what began so many seconds ago."""
    rate = event.done / max(seconds, 1e-3)
    if not event.of:
        return f"{write.count(event.done)} {event.what}, {write.count(round(rate))}/s"
    said = f"{write.count(event.done)} of {write.count(event.of)} {event.what}"
    left = (event.of - event.done) / rate if rate else 0.0
    return f"{said}, {write.duration(left)} left" if left else said


def stuck(event: Stuck) -> str:
    """Which request waits, where, since when, and what will happen."""
    who = event.role if event.role == event.model else f"{event.role} ({event.model})"
    said = f"no answer of {who} for {write.duration(event.quiet)}: "
    if event.request_id:
        said += f"request {event.request_id} waits longest, {write.duration(event.waited)}, at "
        said += f"{event.where}; {write.count(event.in_flight)} in flight. "
    if event.times_out_in is None:
        return said + (
            "Nothing but its engine ends this wait: it may be loading, computing or hang. Ctrl-C "
            "stops the build and keeps what was answered"
        )
    at = (datetime.now() + timedelta(seconds=event.times_out_in)).strftime("%H:%M:%S")
    return said + (
        f"It times out in {write.duration(event.times_out_in)}, at {at}; then it is tried again or "
        "left unanswered with that reason"
    )


def _later(event: Stuck, seconds: float) -> Stuck:
    """The same so many seconds later, if nothing happens."""
    left = event.times_out_in
    return replace(
        event,
        quiet=event.quiet + seconds,
        waited=event.waited + seconds,
        times_out_in=None if left is None else max(0.0, left - seconds),
    )


def stopping(event: Stopping) -> str:
    if not event.in_flight:
        return "stopping"
    return (
        f"stopping: nothing more is sent; up to {write.duration(event.seconds)} for "
        f"{write.count(event.in_flight)} in flight. Ctrl-C again ends at once"
    )


def health(endpoint: Health) -> str:
    """How an endpoint is, in a line."""
    said = [f"{endpoint.in_flight} in flight of {endpoint.bound:.0f}"]
    said += [f"{write.count(endpoint.refused)} refused"] if endpoint.refused else []
    said += [f"{write.count(endpoint.failed)} failed"] if endpoint.failed else []
    state = "" if endpoint.state == "well" else f"{endpoint.state}; "
    return f"{endpoint.url}: {state}{', '.join(said)}"


class Lines:
    """Plain lines, at most one in `write.EVERY` seconds while a stage asks."""

    def __init__(self, say: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._stage = Started("", 0, 0)
        self._last: Asking | None = None
        self._pace = Pace(clock)
        self._next = 0.0
        self._since = clock()
        self._ill: set[str] = set()

    def __call__(self, event: Event) -> None:
        with self._lock:
            for line in self._lines(event):
                self._say(write.safe(line))

    def _lines(self, event: Event) -> Iterator[str]:
        match event:
            case Imported():
                yield f"sources: {'; '.join(imported(event))}"
                yield from (f"sources: {line}" for line in event.audit)
            case Spilling():
                yield f"sources: {spilling(event)}"
            case Advanced():
                if not event.done:
                    self._since = self._clock()
                elif self._clock() >= self._next:
                    self._next = self._clock() + write.EVERY
                    yield f"{self._label}: {advanced(event, self._clock() - self._since)}"
            case Started():
                self._stage, self._last = event, None
                self._pace = Pace(self._clock)
                self._next = self._clock() + write.EVERY
            case Asking():
                self._last = event
                self._pace.see(event)
                if self._clock() >= self._next and event.done < event.total:
                    self._next = self._clock() + write.EVERY
                    done = f"{write.count(event.done)} of {write.count(event.total)} requests"
                    yield f"{self._label}: {', '.join([done, *facts(event, self._pace)])}"
            case Made():
                said = "; ".join(outcome(event, self._last)) or "done"
                yield f"{self._label}: {said} ({write.duration(event.seconds)})"
            case Pulse():
                if self._last:
                    self._pace.see(self._last)
                ill = {e.url: health(e) for e in event.endpoints if e.state != "well"}
                yield from (f"{self._label}: {ill[url]}" for url in ill.keys() - self._ill)
                well = self._ill & {e.url for e in event.endpoints} - ill.keys()
                yield from (f"{self._label}: {url}: well again" for url in well)
                self._ill = (self._ill - well) | ill.keys()
            case Stuck():
                yield f"{self._label}: {stuck(event)}"
            case Stopping():
                yield stopping(event)
            case Warned():
                yield f"warning: {event.says}"

    @property
    def _label(self) -> str:
        if not self._stage.of:
            return "sources"
        return f"[{self._stage.index}/{self._stage.of}] {self._stage.stage}"


class Live:
    """The running stage moves at the bottom of a terminal; finished ones stay as lines above."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._lock = threading.Lock()
        self._stage: Started | None = None
        self._last: Asking | None = None
        self._pace = Pace(clock)
        self._since = clock()
        self._doing = "reading the sources"
        self._how_far: tuple[Advanced, float] | None = None
        self._spinner = Spinner("dots")
        self._endpoints: tuple[Health, ...] = ()
        self._stuck: tuple[Stuck, float] | None = None
        self._stopping = ""

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._see(event)

    def _see(self, event: Event) -> None:
        match event:
            case Imported():
                self._line("sources", imported(event), self._clock() - self._since)
                for line in event.audit:
                    self.console.print(write.text(f"  {line}", "dim"))
            case Spilling():
                self.console.print(write.text(f"  {spilling(event)}", "dim"))
            case Advanced():
                since = self._how_far[1] if self._how_far and event.done else self._clock()
                self._how_far = event, since
            case Started():
                self._stage, self._last, self._doing = event, None, event.stage
                self._how_far = None
                self._pace, self._since = Pace(self._clock), self._clock()
                self._endpoints, self._stuck = (), None
            case Asking():
                if self._last is None or event.done != self._last.done:
                    self._stuck = None
                self._last = event
                self._pace.see(event)
            case Made():
                self._line(event.stage, outcome(event, self._last), event.seconds)
                if self._stage is not None and self._stage.index == self._stage.of:
                    self._doing = "exporting and writing the version"
                self._stage, self._last, self._since = None, None, self._clock()
                self._how_far = None
                self._endpoints, self._stuck = (), None
            case Pulse():
                self._endpoints = event.endpoints
                if self._last:
                    self._pace.see(self._last)
            case Stuck():
                self._stuck = event, self._clock()
            case Stopping():
                self._stopping = stopping(event)
            case Warned():
                self.console.print(write.text(f"warning: {event.says}", "yellow"))

    def _line(self, name: str, said: list[str], seconds: float) -> None:
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=1, style="green")
        row.add_column(width=max(26, min(len(name), 40)), overflow="fold")
        row.add_column(ratio=1)
        row.add_column(justify="right", style="dim", no_wrap=True)
        row.add_row("✓", write.text(name), write.text(", ".join(said)), write.duration(seconds))
        self.console.print(row)

    def draw(self) -> RenderableType:
        """What stands at the bottom now: the stage with its bar, and a line of figures."""
        last, stage = self._last, self._stage
        spent = write.duration(self._clock() - self._since)
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(width=1, style="cyan")
        row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        row.add_column()
        row.add_column(justify="right", no_wrap=True)
        place = f" {stage.index}/{stage.of}" if stage else ""
        name = write.text(self._doing).append(place, "dim")
        if self._how_far is not None:
            event, since = self._how_far
            name = name.append(f" {advanced(event, self._clock() - since)}", "dim")
        if last is None or not last.total:
            row.add_row(self._spinner, name, "", write.text(spent, "dim"))
            return Group(row, *self._notes())
        done = f"{write.count(last.done)}/{write.count(last.total)}"
        row.add_row(
            self._spinner,
            name,
            ProgressBar(last.total, last.done, width=min(60, self.console.width // 2)),
            done,
        )
        return Group(
            row,
            write.text("  " + " · ".join([*facts(last, self._pace), f"running {spent}"]), "dim"),
            *self._notes(),
        )

    def _notes(self) -> list[RenderableType]:
        """Lines below the bar: endpoints, what is stuck, that it is stopping."""
        busy = [each for each in self._endpoints if each.in_flight or each.state != "well"]
        ill = [each for each in busy if each.state != "well"]
        shown = busy if len(busy) <= ENDPOINTS else ill[:ENDPOINTS]
        notes = [
            write.text(health(each), "dim" if each.state == "well" else "yellow") for each in shown
        ]
        if len(busy) > len(shown):
            in_flight = sum(each.in_flight for each in busy)
            rest = f"{len(busy)} endpoints, {in_flight} in flight, {len(ill)} not well"
            notes.append(write.text(rest, "dim"))
        if self._stuck:
            event, then = self._stuck
            notes.append(write.text(stuck(_later(event, self._clock() - then)), "yellow"))
        notes += [write.text(self._stopping, "bold yellow")] if self._stopping else []
        return [Padding(note, (0, 0, 0, 2)) for note in notes]


@contextmanager
def watching(console: Console, *, records: About | None = None) -> Generator[Watch]:
    """A watch for the console at hand: live on a terminal, lines elsewhere; or lines of JSON."""
    if records is not None:

        def say(line: str) -> None:
            print(line, file=console.file, flush=True)

        with heard(say, records):
            yield Records(say, records)
        return
    if not console.file.isatty() or console.is_dumb_terminal:
        yield Lines(lambda line: console.print(write.text(line), soft_wrap=True))
        return
    live = Live(console)
    with Display(get_renderable=live.draw, console=console, transient=True, refresh_per_second=8):
        yield live
