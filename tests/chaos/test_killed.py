"""Building processes that are killed at random moments."""

import time
from random import Random

import pytest

from prefdata import version
from tests.chaos.place import IN_FLIGHT, Place, ended, kill

pytestmark = pytest.mark.slow
BUILDERS, KILLS = 2, 4


def test_builders_at_once_that_are_killed_pay_only_for_what_was_in_flight(
    chance: Random, place: Place
):
    place.server.latency, place.server.scatter = 0.1, 0.2
    running = [place.start() for _ in range(BUILDERS)]
    for _ in range(KILLS):
        wanted = len(place.server.requests) + chance.randint(0, 12)
        place.until(lambda n=wanted: len(place.server.requests) >= n, *running)
        time.sleep(chance.uniform(0.0, 0.3))
        victim = chance.randrange(BUILDERS)
        kill([running[victim]])
        running[victim] = place.start()
    place.server.latency = place.server.scatter = 0.0
    assert [ended(each).said["id"] for each in running] == [place.calm.id] * BUILDERS
    assert place.paid_again() <= KILLS * IN_FLIGHT
    place.is_repaired()
    assert set(place.server.seen()) == set(place.calm.asked)


@pytest.mark.parametrize(("held", "lasts"), [([], 0.1), (["--on-disk", "--shards", "3"], 1.0)])
def test_a_build_that_is_killed_while_it_writes_leaves_no_half_version(
    chance: Random, place: Place, held: list[str], lasts: float
):
    """One on disk writes from its first row on: it is killed among shards, spills and exports."""
    place.copy(place.calm.data / "ledger")
    for _ in range(2):
        running = place.start("build", "r.toml", "--plain", *held)
        place.until(lambda: bool([*place.data.glob("versions/.tmp-*/made/*")]), running)
        time.sleep(chance.choice([0.0, chance.uniform(0.0, lasts)]))
        kill([running])
        assert not version.broken(place.data)
    place.is_repaired()
    assert not place.server.requests, "all was answered"
