"""Builds of one recipe at once, locks of the dead, and a data folder that goes while it is used."""

import os
import shutil
import subprocess
import sys
import time
from random import Random

import pytest

from prefdata.locks import host
from tests.chaos.place import IN_FLIGHT, Place, ended

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("n", [2, pytest.param(4, marks=pytest.mark.long)])
def test_builds_of_one_recipe_at_once_make_one_version_and_pay_once(
    chance: Random, place: Place, n: int
):
    place.server.latency, place.server.scatter = 0.02, 0.05
    came = [ended(each) for each in [place.start() for _ in range(n)]]
    assert [each.said["id"] for each in came] == [place.calm.id] * n
    assert [each.said["is_new"] for each in came].count(True) == 1
    assert place.server.seen() == place.calm.asked
    place.is_repaired()


def test_locks_of_the_dead_stand_in_nobodys_way(place: Place):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    asking, batches = place.data / "ledger" / "asking", place.data / "ledger" / "batches"
    people = place.data / "annotations" / "stormy"
    for folder in (asking, batches, people, place.data / "versions" / ".tmp-dead"):
        folder.mkdir(parents=True)
    segments = (place.calm.data / "ledger").glob("*.jsonl")
    ids = b"".join(line[:20] for path in segments for line in path.read_bytes().splitlines())
    assert len(ids) == 20 * len(place.calm.asked)
    for where in (host(), "elsewhere"):
        claim = asking / f"{where}-{dead.pid}-00000000.ids"
        claim.write_bytes(ids)
        os.utime(claim, (time.time() - 100, time.time() - 100))
    (asking / "lock").touch()
    (batches / "dead.part").write_text("half a batch")
    (place.data / "ledger" / "compact.lock").write_text(f"process {dead.pid} on {host()}\n")
    (people / ".lock").touch()
    (people / f".tasks.jsonl.{dead.pid}.tmp").write_text("half a task")
    assert place.build().said["id"] == place.calm.id
    assert place.server.seen() == place.calm.asked
    place.is_repaired()


@pytest.mark.parametrize("fate", ["moved", "deleted"])
def test_a_data_folder_that_goes_in_mid_build_is_made_again(
    chance: Random, place: Place, fate: str
):
    place.server.latency, place.server.scatter = 0.1, 0.2
    running = place.start()
    wanted = chance.randint(1, len(place.calm.asked) - IN_FLIGHT)
    place.until(lambda: len(place.server.requests) >= wanted, running)
    place.data.rename(place.folder / "moved")
    if fate == "deleted":
        shutil.rmtree(place.folder / "moved")
    came = ended(running)
    if came.code == 0:
        assert came.said["id"] == place.calm.id
    else:
        assert str(place.data) in came.said["error"]
    if fate == "moved":
        place.server.latency = place.server.scatter = 0.0
        shutil.copytree(place.folder / "moved", place.data, dirs_exist_ok=True)
        place.is_repaired()
        assert place.paid_again() <= IN_FLIGHT
    else:
        place.is_repaired()
