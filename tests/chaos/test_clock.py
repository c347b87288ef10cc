"""Clocks that are set while a build runs, forwards and backwards, by minutes and by days."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from prefdata import version
from tests.chaos.place import Place, ended, write_recipe

pytestmark = pytest.mark.slow
CLOCK = str(Path(__file__).parent / "clock")
DAY = 24 * 3600.0


def numbers(said: Any) -> Iterator[float]:
    if isinstance(said, dict | list):
        for each in said.values() if isinstance(said, dict) else said:
            yield from numbers(each)
    elif isinstance(said, int | float):
        yield said


def jumps(chance: Random) -> str:
    """Six moments of the first eight seconds, and where the clock is set then."""
    moments = [chance.uniform(0, 8) for _ in range(6)]
    sizes = [chance.choice([60, 3600, 3 * DAY]) * chance.uniform(-1, 1) for _ in moments]
    return " ".join(f"{at:.2f}:{by:.0f}" for at, by in zip(moments, sizes, strict=True))


def test_clocks_that_jump_in_mid_build_change_nothing(chance: Random, place: Place):
    place.server.latency, place.server.scatter = 0.1, 0.1
    clocks = [jumps(chance) for _ in range(2)]
    print(*clocks, sep="\n")
    how = {"PYTHONPATH": CLOCK, "PREFDATA_LOG_FORMAT": "json"}
    for each in map(ended, [place.start(CHAOS_CLOCK=clock, **how) for clock in clocks]):
        assert each.said["id"] == place.calm.id
        told = [json.loads(line) for line in each.shown.splitlines() if line.startswith("{")]
        assert len(told) > 3
        assert min(n for one in told for n in numbers(one)) >= 0
    assert place.paid_again() == 0
    place.is_repaired()


def test_the_newest_version_is_the_last_one_whatever_the_clock_said(place: Place):
    env = {"PYTHONPATH": CLOCK, "CHAOS_CLOCK": f"0:{DAY}"}
    early = ended(place.start(**env)).said["id"]
    ahead = version.find(place.data, "stormy").moment - datetime.now(UTC)
    assert ahead.total_seconds() > DAY / 2, "the clock was set"
    write_recipe(place.folder, place.server.url, 3)
    last = place.build().said["id"]
    assert early != last
    assert [each.id for each in version.listed(place.data)] == [early, last]
    assert version.find(place.data, "stormy").id == last
    assert place.command("gc").said["removable"] == [f"stormy@{early}"]
