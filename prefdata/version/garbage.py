"""Versions that nothing needs any more: which they are, and their removal.

Kept are, of each dataset, every tagged version, the newest ones and the newest that is neither
partial nor damaged.
The ledger is not touched: whatever is removed can be built again without paying for an answer, as
long as its sources and weights are as they were.
"""

import contextlib
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from prefdata import locks
from prefdata.errors import VersionError, nearest
from prefdata.version.stored import Version, data_folder, is_whole, listed
from prefdata.version.tags import tags
from prefdata.version.writing import ABANDONED
from prefdata.whole import ASIDE, writable

# Seconds after which whoever wrote it is gone. A run of Prefect may wait for batches for days.
LEFT = {
    "versions/.tmp-*": ABANDONED,
    f"versions/*/tags/.*{ASIDE}": ABANDONED,
    f"annotations/*/.*{ASIDE}": ABANDONED,
    "ledger/*.index-*": ABANDONED,
    "ledger/batches/*.part": 2 * ABANDONED,
    "ledger/asking/*.ids": 7 * ABANDONED,
    "ledger/asking/*.part": 7 * ABANDONED,
    "builds/*": 7 * ABANDONED,
}


@dataclass(frozen=True)
class Garbage:
    """What can go, what stays and why, and what killed or repaired builds left."""

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
    return Garbage(tuple(removable), tuple(kept), tuple(left_over(data_folder(data))))


def left_over(data: Path) -> list[Path]:
    """What killed processes began to write and nobody goes on with, and versions set aside."""
    now, left = time.time(), sorted(data.glob("versions/.damaged-*"))
    for pattern, seconds in LEFT.items():
        for path in sorted(data.glob(pattern)):
            with contextlib.suppress(FileNotFoundError):  # it was being written
                if now - path.stat().st_mtime > seconds and not locks.is_held(path):
                    left.append(path)
    return left


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
    meantime stays.
    """
    gone: list[Version] = []
    with writable("what can go", VersionError):
        for version in found.removable:
            if version.id in tags(version.path.parent).values():
                continue
            aside = version.path.parents[1] / f".tmp-{uuid.uuid4().hex}"
            version.path.rename(aside)
            shutil.rmtree(aside)
            gone.append(version)
        for path in found.left_over:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return gone


def size(path: Path) -> int:
    """The bytes of a file, or of a folder's files."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
