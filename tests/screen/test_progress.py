"""What is said while a build runs, on a terminal and in a log."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from prefdata.models.client import Health
from prefdata.screen import write
from prefdata.screen.progress import Lines, Live, Pace, watching
from prefdata.watch import Asking, Event, Imported, Made, Pulse, Started, Stopping, Stuck

NOTHING = {"cached": 0, "failed": 0, "tokens_in": 0, "tokens_out": 0, "cost": 0.0}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asking(done: int, total: int, **counts: float) -> Asking:
    return Asking("annotate.pairwise", done, total, **{**NOTHING, **counts})  # pyright: ignore


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_rate_is_that_of_answers_that_were_asked_for(clock: Clock):
    pace = Pace(clock)
    for second in range(11):
        clock.now = second
        pace.see(asking(500 + 3 * second, 1000, cached=500))
    assert pace.rate == pytest.approx(3)
    assert pace.left(asking(530, 1000, cached=500)) == pytest.approx(470 / 3)


def test_the_rate_follows_the_last_half_minute(clock: Clock):
    pace = Pace(clock)
    done = 0
    for second in range(200):
        clock.now = second
        done += 10 if second < 100 else 1
        pace.see(asking(done, 10_000))
    assert pace.rate == pytest.approx(1)


def test_nothing_is_claimed_before_anything_is_known(clock: Clock):
    pace = Pace(clock)
    pace.see(asking(0, 10))
    assert pace.rate == 0
    assert pace.left(asking(0, 10)) is None


def test_lines_are_seldom_plain_and_whole(clock: Clock):
    said: list[str] = []
    lines = Lines(said.append, clock)
    lines(Imported({"prompts": 3, "pairs": 1}, 2, ("rating: higher is better",)))
    lines(Started("annotate.pairwise", 2, 7))
    for tick in range(601):
        clock.now = tick / 10
        lines(asking(tick, 600, failed=1, tokens_in=12_000, tokens_out=900, cost=0.25))
    lines(Made("annotate.pairwise", {"votes": 600}, 4, {"no verdict": 3, "refused": 9}, 60.0))
    assert said[0] == "sources: 3 prompts, 1 pair; 2 rows quarantined"
    assert said[1] == "sources: rating: higher is better"
    assert len(said) - 3 <= 60 / write.EVERY
    for wanted in (
        "[2/7] annotate.pairwise", "of 600 requests", "10.0/s", "left", "12.0k tokens in",
        "900 out", "$0.25", "1 failed",
    ):  # fmt: skip
        assert wanted in said[3]
    assert "600 votes; 4 dropped; 12 unscored (refused 9, no verdict 3)" in said[-1]
    assert "(1m 00s)" in said[-1]


def events() -> list[Event]:
    return [
        Imported({"prompts": 2}, 0, ()),
        Started("generate.sample\x1b[2J", 1, 2),
        asking(1, 2, cached=1, cost=0.01),
        Made("generate.sample\x1b[2J", {"completions": 2}, 1, {"[red]why[/]\x1b": 1}, 1.0),
        Started("pair.best_vs_worst", 2, 2),
        Made("pair.best_vs_worst", {"pairs": 1}, 0, {}, 0.1),
    ]


def test_a_pipe_gets_lines_without_control_characters():
    into = io.StringIO()
    with watching(Console(file=into, force_terminal=True, width=80)) as watch:
        for event in events():
            watch(event)
    assert len(into.getvalue().splitlines()) == 3
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", into.getvalue())


WELL = Health("http://one/v1", "well", 90, 3, 0, 12, 16.0)
ILL = Health("http://two/v1", "connection refused", 0, 0, 4, 0, 16.0)
STUCK = Stuck(
    "annotate.pairwise", "judge", "gpt", "http://one/v1", "3fa9", 60.0, 61.0, 12, times_out_in=59.0
)


def said_in_lines(clock: Clock, events: list[Event]) -> list[str]:
    said: list[str] = []
    lines = Lines(said.append, clock)
    for event in (Started("annotate.pairwise", 2, 7), asking(1, 9), *events):
        lines(event)
    return said


def test_an_endpoint_that_is_ill_is_told_once_and_so_that_it_is_well_again(clock: Clock):
    ill, well = Pulse((WELL, ILL)), Pulse((WELL, replace(ILL, state="well")))
    said = said_in_lines(clock, [well, ill, ill, ill, well, well])
    assert said == [
        "[2/7] annotate.pairwise: http://two/v1: connection refused; 0 in flight of 16, 4 failed",
        "[2/7] annotate.pairwise: http://two/v1: well again",
    ]


ELSEWHERE = {"awaited": 1234, "by": "another build (process 7 on there)"}


def test_an_endpoint_that_is_asked_nothing_more_is_neither_ill_nor_well(clock: Clock):
    ill, well = Pulse((WELL, ILL)), Pulse((WELL, replace(ILL, state="well")))
    said = said_in_lines(clock, [ill, Pulse(()), ill, Pulse(()), Pulse((WELL,)), well])
    assert len(said) == 2
    assert "connection refused" in said[0]
    assert "well again" in said[1]


def test_who_is_waited_for_is_said(clock: Clock):
    said: list[str] = []
    lines = Lines(said.append, clock)
    lines(Started("annotate.pairwise", 2, 7))
    clock.now += write.EVERY
    lines(replace(asking(1, 2000), **ELSEWHERE))
    assert "waiting for 1,234 asked by another build (process 7 on there)" in said[0]


def test_what_is_stuck_is_named_with_what_will_happen(clock: Clock):
    (timed,) = said_in_lines(clock, [STUCK])
    for wanted in ("judge (gpt)", "1m 00s", "3fa9", "1m 01s", "http://one/v1", "in 59s, at "):
        assert wanted in timed
    (engine,) = said_in_lines(clock, [replace(STUCK, times_out_in=None)])
    assert "Ctrl-C" in engine
    assert "times out" not in engine


def test_the_rate_falls_while_nothing_comes(clock: Clock):
    said: list[str] = []
    lines = Lines(said.append, clock)
    lines(Started("annotate.pairwise", 1, 1))
    for second in range(10):
        clock.now = second
        lines(asking(10 * second, 1000))
    for second in range(10, 20):
        clock.now = second
        lines(Pulse((WELL,)))
    lines(asking(90, 1000))
    assert "5.0/s" not in said[0]
    assert "4.7/s" in said[-1]  # 90 in 19 s


@pytest.mark.parametrize("width", [40, 80, 140])
def test_on_a_terminal_health_and_stalls_stand_below_the_bar_and_go(width: int, clock: Clock):
    into = io.StringIO()
    console = Console(file=into, force_terminal=True, color_system=None, width=width)
    live = Live(console, clock)

    def drawn(*events: Event) -> str:
        for event in events:
            live(event)
        into.seek(0)
        into.truncate()
        console.print(live.draw())
        assert max(map(len, into.getvalue().splitlines())) <= width
        return " ".join(into.getvalue().split())

    started = Started("annotate.pairwise", 1, 2)
    assert "12 in flight of 16, 3 refused" in drawn(started, asking(1, 9), Pulse((WELL, ILL)))
    assert "connection refused" in drawn()
    assert "6 endpoints, 60 in flight, 1 not well" in drawn(Pulse((*[WELL] * 5, ILL)))
    waiting = drawn(replace(asking(1, 9), **ELSEWHERE), Pulse(()))
    assert "waiting for 1,234 asked by" in waiting
    assert "in flight" not in waiting
    assert "3fa9 waits longest, 1m 01s" in drawn(STUCK)
    clock.now += 30
    assert "3fa9 waits longest, 1m 31s" in drawn()
    assert "times out in 29s" in drawn()
    assert "waits" not in drawn(asking(2, 9))
    assert "Ctrl-C again ends at once" in drawn(Stopping(12, 15.0))
    assert "flight of 16" not in drawn(Made("annotate.pairwise", {}, 0, {}, 1.0))


@pytest.mark.parametrize("width", [40, 80, 140])
def test_on_a_terminal_every_width_fits_and_finished_stages_stay(width: int, clock: Clock):
    into = io.StringIO()
    console = Console(file=into, force_terminal=True, color_system=None, width=width)
    live = Live(console, clock)
    for event in events():
        clock.now += 1
        live(event)
        console.print(live.draw())
    text = into.getvalue()
    assert "\x1b" not in text  # neither of ours (no colour, no cursor) nor of the names
    assert max(map(len, text.splitlines())) <= width
    finished = [line for line in text.splitlines() if line.startswith("✓")]
    assert [line.split()[1][:14] for line in finished] == [
        "sources",
        "generate.sampl",
        "pair.best_vs_w",
    ]
    folded = " ".join(text.split())
    assert "1/2" in folded
    assert "[red]why[/]\\x1b 1" in folded or width == 40
