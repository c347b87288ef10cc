"""A disk that is full at whatever is written, and one that may not be written at all.

A namespace of bubblewrap has the disk, so that nothing else on the machine sees it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos.place import DEADLINE, IN_FLIGHT, Ended, Place, outcome

ROOT = Path(__file__).parents[2]
PAGE = 4096
ON_DISK = ["--on-disk", "--shards", "3"]


def has_namespaces() -> bool:
    if not shutil.which("bwrap"):
        return False
    probe = ["bwrap", "--dev-bind", "/", "/", "--size", "4096", "--tmpfs", "/mnt", "true"]
    return not subprocess.run(probe, capture_output=True, check=False).returncode


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_namespaces(), reason="no bubblewrap, or no namespaces, to mount an odd disk in"
    ),
]
HELD = [[], ON_DISK]
READING = [
    ["list"],
    ["show", "stormy"],
    ["diff", "stormy", "stormy"],
    ["check", "stormy"],
    ["ledger", "stats"],
    ["ledger", "verify"],
    ["gc"],
]


def inside(place: Place, disk: list[str], *steps: Any) -> list[Ended]:
    """What commands come to in a namespace in which the data folder is such a disk."""
    place.data.mkdir(exist_ok=True)
    script = [sys.executable, str(ROOT / "tests/chaos/inside.py"), str(place.data)]
    ran = subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", *disk, "--", *script, json.dumps(steps)],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert not ran.returncode, ran.stderr
    return [outcome(*each) for each in json.loads(ran.stdout)]


def small(place: Place, n_bytes: int) -> list[str]:
    return ["--size", str(n_bytes), "--tmpfs", str(place.data)]


def is_told(came: Ended, where: Path | str) -> None:
    assert came.code == 1, came
    assert str(where) in came.said["error"]
    assert "again" in came.said["error"], "what to do"


def size(folder: Path) -> int:
    """Bytes of a folder on a disk of pages."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-each // PAGE) * PAGE for each in sizes)


@pytest.mark.parametrize("full", ["ledger", "version"])
@pytest.mark.parametrize("held", HELD)
def test_a_disk_that_is_full_in_mid_build_costs_what_was_in_flight(
    chance: Random, place: Place, full: str, held: list[str]
):
    ledger, whole = size(place.calm.data / "ledger"), size(place.calm.data)
    room = chance.randint(1, ledger) if full == "ledger" else chance.randint(ledger, whole - PAGE)
    (first,) = inside(place, small(place, room), ["build", "r.toml", "--plain", *held], "copy")
    is_told(first, place.data)
    place.data.rmdir()
    (place.folder / "data-copied").rename(place.data)
    place.is_repaired()
    assert place.paid_again() <= (2 * IN_FLIGHT if full == "ledger" else 0)


def test_a_disk_that_is_full_while_tables_are_held_on_it_is_told_at_any_room(
    chance: Random, place: Place
):
    """All is answered, so that what fills the disk are shards and the version: never a half one."""
    build = ["build", "r.toml", "--plain", *ON_DISK]
    least = size(place.calm.data / "versions")
    rooms = [chance.randint(0, least - PAGE) for _ in range(8)]
    ledger = ["--ro-bind", str(place.calm.data), "/mnt"]
    steps = [step for room in rooms for step in (["fill", room], build, "free")]
    disk = [*small(place, 3 * size(place.calm.data) + 200 * PAGE), *ledger]
    *full, whole = inside(place, disk, ["take", "ledger"], *steps, build)
    for each in full:
        is_told(each, place.data)
    assert whole.said["id"] == place.calm.id
    assert whole.said["is_new"] is True
    assert not place.server.requests


def test_a_disk_that_is_full_while_batches_are_handed_over_costs_nothing(
    chance: Random, place: Place
):
    recipe = place.folder / "r.toml"
    live = f"concurrency = {IN_FLIGHT}"
    recipe.write_text(recipe.read_text().replace(live, 'mode = "batch"\nbatch_size = 20'))
    room = chance.randint(PAGE, size(place.calm.data / "ledger"))
    (first,) = inside(place, small(place, room), ["build", "r.toml", "--plain"], "copy")
    is_told(first, place.data)
    place.data.rmdir()
    (place.folder / "data-copied").rename(place.data)
    place.is_repaired()
    assert place.paid_again() == 0


def test_on_a_full_disk_nothing_changes_and_with_room_all_goes_on(place: Place):
    """Tags, what is handed out to people and their answers: told, and done when there is room."""
    answers = str(place.calm.data.parent / "anna.jsonl")
    steps = [
        ["tag", "stormy", "v2"],
        ["annotate", "export", "stormy", "--tool", "csv"],
        ["annotate", "import", "stormy", answers],
    ]
    room = size(place.calm.later_data) + 100 * PAGE
    disk = [*small(place, room), "--ro-bind", str(place.calm.later_data), "/mnt"]
    build = ["build", "r.toml"]
    came = inside(place, disk, "take", "fill", *steps, *READING, "free", *steps, build)
    refused, read, done = came[:3], came[3 : 3 + len(READING)], came[3 + len(READING) :]
    for each in refused:
        is_told(each, place.data)
    assert [each.code for each in read] == [0] * len(READING)
    assert [each.code for each in done] == [0] * len(done)
    assert done[-1].said["id"] == place.calm.later
    assert not place.server.requests


def test_a_store_that_may_only_be_read_is_read_and_nothing_is_paid_for(place: Place):
    disk = ["--ro-bind", str(place.calm.later_data), str(place.data)]
    answers = str(place.calm.data.parent / "anna.jsonl")
    refused = [
        ["build", "r.toml", "--set", "models.writer.seed=2"],
        ["build", "r.toml", "--set", "stages.generate.sample.n=2"],
        ["build", "r.toml", *ON_DISK],
        ["tag", "stormy", "v2"],
        ["tag", "stormy", "v1", "--delete"],
        ["annotate", "export", "stormy", "--tool", "csv"],
        ["annotate", "import", "stormy", answers],
        ["ledger", "compact"],
    ]
    came = inside(place, disk, *refused, *READING, ["build", "r.toml"], ["doctor"])
    for each in came[: len(refused)]:
        is_told(each, place.data)
    *read, built, doctor = came[len(refused) :]
    assert [each.code for each in read] == [0] * len(READING)
    assert built.said["id"] == place.calm.later
    assert built.said["is_new"] is False
    assert doctor.code == 1
    (found,) = [each for each in doctor.said["findings"] if each["check"] == "write access"]
    assert found["level"] == "error"
    assert not place.server.requests, "what cannot be kept is not asked"
