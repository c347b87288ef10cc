"""Versions that nothing needs any more: which they are, and their removal.

Kept are, of each dataset, every tagged version, the newest ones and the newest that is neither
partial nor damaged.
The ledger is not touched: whatever is removed can be built again without paying for an answer, as
long as its sources and weights are as they were.
"""

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from prefdata import locks
from prefdata.errors import VersionError, nearest
from prefdata.version.stored import Version, data_folder, is_whole, listed
from prefdata.version.tags import tags
from prefdata.version.writing import BEGUN, UNHELD
from prefdata.whole import ASIDE

DAY = 24 * 3600
# Seconds without a change after which whoever wrote it is gone, where no lock tells: of another
# machine, or of one that held none. A run may wait for batches for days.
LEFT = {
    f"versions/{BEGUN}*": 7 * DAY,
    f"versions/{UNHELD}*": DAY,
    "versions/.damaged-*": 14 * DAY,
    f"versions/*/tags/.*{ASIDE}": DAY,
    f"annotations/*/.*{ASIDE}": DAY,
    "ledger/*.index-*": DAY,
    "ledger/batches/*.part": 2 * DAY,
    "ledger/asking/*.ids": 7 * DAY,
    "ledger/asking/*.part": 7 * DAY,
    "builds/*/*": 7 * DAY,
}


@dataclass(frozen=True)
class Garbage:
    """What can go of `data`, what stays and why, and what killed or repaired builds left."""

    data: Path
    removable: tuple[Version, ...]
    kept: tuple[tuple[Version, str], ...]
    left_over: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(map(size, [*(each.path for each in self.removable), *self.left_over]))


def garbage(
    data: Path | str | None, name: str | None = None, *, keep: int = 1, days: float = 0
) -> Garbage:
    """What may be removed of all datasets, or of one; removes nothing.

    `keep` newest versions of each dataset stay, and all that are younger than `days`.
    """
    if keep < 1:
        raise VersionError(f"keep is {keep}; the newest version always stays, so give at least 1")
    found = listed(data)
    names = {version.name for version in found}
    if name is not None and name not in names:
        raise VersionError(
            f"there is no version of {name!r} in {data_folder(data)}; {nearest(name, names)}"
        )
    removable: list[Version] = []
    kept: list[tuple[Version, str]] = []
    for dataset, versions in groupby(found, key=lambda version: version.name):
        if name not in (None, dataset):
            continue
        for version, reason in _reasons(list(versions), keep, days):
            if reason:
                kept.append((version, reason))
            else:
                removable.append(version)
    folder = data_folder(data)
    return Garbage(folder, tuple(removable), tuple(kept), tuple(left_over(folder)))


def left_over(data: Path) -> list[Path]:
    """What killed processes began to write and nobody goes on with, and versions set aside."""
    now, left = time.time(), list[Path]()
    for pattern, seconds in LEFT.items():
        for path in sorted(data.glob(pattern)):
            with contextlib.suppress(OSError):  # it was being written
                if _is_left(path, now - seconds):
                    left.append(path)
    return left


def _is_left(path: Path, before: float) -> bool:
    if locks.is_held(path):
        return False
    return locks.is_dead(path) or _changed(path) < before


def _changed(path: Path) -> float:
    """When something of a file or folder was last changed."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return max(each.lstat().st_mtime for each in (path, *inside))


def _reasons(versions: Sequence[Version], keep: int, days: float) -> list[tuple[Version, str]]:
    """Each version of one dataset, oldest first, with why it stays, or ""."""
    named: dict[str, list[str]] = {}
    for tag, meant in tags(versions[0].path.parent).items():
        named.setdefault(meant, []).append(tag)
    sound = [version for version in versions if is_whole(version.path)]
    whole = [version for version in sound if not version.partial] or sound
    said: list[tuple[Version, str]] = []
    for at, version in enumerate(versions):
        age = max((datetime.now(UTC) - version.moment).total_seconds(), 0.0)
        if version.id in named:
            reason = f"tagged {', '.join(named[version.id])}"
        elif at >= len(versions) - keep:
            reason = "the newest" if at == len(versions) - 1 else f"one of the {keep} newest"
        elif whole and version is whole[-1]:
            reason = "the newest that is whole and not partial"
        elif age < days * 86400:
            reason = f"younger than {days:g} days"
        else:
            reason = ""
        said.append((version, reason))
    return said


def remove(found: Garbage) -> list[Version]:
    """Remove what can go; what was really removed.

    A version disappears by one rename, so nobody ever finds half of one. One that was tagged in the
    meantime stays, and so does what somebody has gone on with. What may not be removed is a
    `VersionError`, when all else is.
    """
    gone: list[Version] = []
    refused: list[OSError] = []
    for version in found.removable:
        if version.id in tags(version.path.parent).values():
            continue
        # Whoever writes a version clears away what has such a name, and does no harm.
        aside = version.path.parents[1] / f"{BEGUN}{locks.new_name()}"
        try:
            version.path.rename(aside)
            _remove(aside)
            gone.append(version)
        except FileNotFoundError:  # another process removed it
            pass
        except OSError as error:
            refused.append(error)
    still = set(left_over(found.data))
    for path in filter(still.__contains__, found.left_over):
        try:
            _remove(path)
        except OSError as error:
            refused.append(error)
    if refused:
        first, others = refused[0], f", nor can {len(refused) - 1:,} others" * (len(refused) > 1)
        raise VersionError(
            f"{first.filename} cannot be removed: {first.strerror}{others}; what else can go is "
            "gone. Allow it and do the same again"
        )
    return gone


def _remove(path: Path) -> None:
    """Remove a file or folder, at which another process may be as well."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)  # what refuses to go is told


def size(path: Path) -> int:
    """The bytes of a file, or of a folder's files."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
