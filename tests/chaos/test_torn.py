"""Files of a data folder that are cut, changed, emptied, gone, or of which there is a folder."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from prefdata.version import verify
from prefdata.version.stored import TEXTS
from tests.chaos.place import LONG_AGO, Place

pytestmark = pytest.mark.slow
FILES = 2  # of each damage, in each round


def cut(path: Path, chance: Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(max(1, path.stat().st_size))])


def flip(path: Path, chance: Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 5]) if content else 0):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def empty(path: Path, chance: Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, chance: Random) -> None:
    path.unlink()


def turn_into_a_folder(path: Path, chance: Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path, Random], None]] = [cut, flip, empty, delete, turn_into_a_folder]
LOOKS = [["list"], ["show", "stormy"], ["ledger", "stats"], ["gc"], ["doctor"]]


def drawn(data: Path, chance: Random) -> Path:
    """A file of the ledger, of a version, or of which there is no second copy."""
    kinds = [
        [*data.glob("ledger/*.jsonl"), *data.glob("ledger/*.index")],
        [path for path in data.glob("versions/*/*/**/*") if path.is_file()],
        [*data.glob("annotations/*/*.jsonl"), *data.glob("versions/*/tags/*")],
    ]
    return chance.choice(sorted(set(chance.choice(kinds))))


def lines(ledger: Path) -> set[bytes]:
    segments = [path for path in ledger.glob("*.jsonl") if path.is_file()]
    return {line for path in segments for line in path.read_bytes().splitlines()}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_told_or_mended_and_costs_its_own_answers(
    chance: Random, place: Place, damage: Callable[[Path, Random], None]
):
    for _ in range(FILES):
        place.clear()
        place.copy(place.calm.later_data)
        file = drawn(place.data, chance)
        print(damage.__name__, file.relative_to(place.data))
        damage(file, chance)
        harmed = len(place.calm.asked) - len(lines(place.data / "ledger") & known(place))
        for path in place.data.rglob("*"):
            os.utime(path, (time.time() - LONG_AGO,) * 2)
        is_persons = file.name in TEXTS and file.is_file()  # as if somebody had edited it
        is_copied = not (is_persons or "annotations" in file.parts or file.parent.name == "tags")
        for words in LOOKS:
            place.command(*words)
        built = place.build()
        assert "error" in built.said or built.said["id"] == place.calm.later or not is_copied
        if is_copied and "error" not in built.said:
            verify(place.versions / place.calm.later)  # what a build gives is as it was written
        place.command("doctor", "--repair")
        if not is_copied:  # a person gets it out of a backup
            if file.is_dir():
                file.rmdir()
            original = place.calm.later_data / file.relative_to(place.data)
            file.write_bytes(original.read_bytes())
        place.is_repaired(place.calm.later)
        assert len(place.server.requests) <= harmed
        assert place.paid_again() == 0


def known(place: Place) -> set[bytes]:
    return lines(place.calm.later_data / "ledger")
