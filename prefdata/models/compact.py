"""Merging and mending segments while others write, so that a crash at any step loses nothing.

1. The closed segments are read; where an id has several answers, the newest line stays.
2. Damaged lines go to `<segment>.damaged`: written aside, synced, renamed.
3. What stays is written aside (`*.part`), synced and renamed to a segment; the folder is synced.
4. Only then each old segment is renamed to `*.old`, looked at once more, and deleted. One that
   grew meanwhile is renamed back: its writer was not dead.

Between 3 and 4 answers stand in two segments, which readers and the next compaction count once.
A crash leaves at most `*.part` and `*.old` files; the next run deletes the first and renames the
second back.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prefdata import locks
from prefdata.errors import ModelError
from prefdata.models import segment
from prefdata.models.index import ID, Array
from prefdata.models.segment import FOREIGN_IDLE, IDLE, Segment
from prefdata.whole import clock, sync, writable

LOCK = "compact.lock"
COPY = 1 << 22
PLACE = np.dtype(
    [("id", f"S{ID}"), ("time", "<i8"), ("segment", "<i4"), ("offset", "<i8"), ("length", "<i8")]
)
# The time of a sound line, or what is wrong with it.
Check = Callable[[bytes], int | str]


@dataclass(frozen=True)
class Compacted:
    """What a compaction did. `left` says of each segment that was left alone why."""

    segments: int = 0
    into: str | None = None
    kept: int = 0
    superseded: int = 0
    damaged: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    left: dict[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Survey:
    """The lines of some segments: the sound ones' places, and those of the damaged ones."""

    places: Array
    damaged: dict[Path, list[tuple[int, int]]]

    @property
    def n_damaged(self) -> int:
        return sum(map(len, self.damaged.values()))


def compact(
    folder: Path | str, *, idle: float = IDLE, foreign_idle: float = FOREIGN_IDLE
) -> Compacted:
    """Merge the closed segments into one and drop superseded answers, while others write.

    A segment is closed if its writer is gone and nothing was written to it for `idle` seconds;
    for `foreign_idle` seconds where another host began it. Needs room for what stays.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return Compacted()
    with alone(folder) as now:
        there = segment.segments(folder, idle=idle, foreign_idle=foreign_idle, now=now)
        closed = [each for each in there if each.state == "closed"]
        left = {each.path.name: each.why for each in there if each.state != "closed"}
        found = survey(closed, segment.stamp)
        newest = newest_of(found.places)
        nothing_to_do = len(closed) <= 1 and len(newest) == len(found.places)
        if nothing_to_do and not found.n_damaged:
            return Compacted(left=left)
        into = replace(folder, closed, found, newest)
        return Compacted(
            segments=len(closed),
            into=into.name if into else None,
            kept=len(newest),
            superseded=len(found.places) - len(newest),
            damaged=found.n_damaged,
            bytes_before=sum(each.size for each in closed),
            bytes_after=into.stat().st_size if into else 0,
            left=left,
        )


def survey(sources: Iterable[Segment], check: Check) -> Survey:
    """Read segments line by line; 52 bytes of memory for each."""
    found: list[Array] = []
    damaged: dict[Path, list[tuple[int, int]]] = {}
    for number, each in enumerate(sources):
        rows: list[tuple[bytes, int, int, int, int]] = []
        for _, offset, line, whole in segment.walk(each):
            time = check(line) if whole else "torn"
            if isinstance(time, int):
                rows.append((line[:ID], time, number, offset, len(line) + 1))
            else:
                damaged.setdefault(each.path, []).append((offset, len(line) + whole))
            if len(rows) == 1 << 16:
                found.append(np.array(rows, PLACE))
                rows.clear()
        found.append(np.array(rows, PLACE))
    return Survey(np.concatenate([np.zeros(0, PLACE), *found]), damaged)


def newest_of(places: Array) -> Array:
    """The newest line of each id, the later one of a millisecond, in the order of the places."""
    order = np.lexsort((places["time"], places["id"]))
    ids = places["id"][order]
    last = np.ones(len(ids), bool)
    last[:-1] = ids[1:] != ids[:-1]
    return places[np.sort(order[last])]


def replace(folder: Path, sources: list[Segment], found: Survey, stay: Array) -> Path | None:
    """Put the lines that stay into one new segment in place of `sources`; None if none stays."""
    try:
        for path, spans in found.damaged.items():
            _write_aside(path.with_suffix(".damaged"), _spans(path, spans))
        into = None
        if len(stay):
            newest = max(sources, key=lambda each: each.path.name)
            begun = newest.path.name.partition("-")[0]
            into = folder / segment.new_name(int(begun) if begun.isdigit() else 0)
            modified = max(each.modified for each in sources)
            _write_aside(into, _lines(sources, stay), modified)
        sync(folder)
    except OSError as error:
        for part in folder.glob("*.part"):
            part.unlink(missing_ok=True)
        raise ModelError(
            f"the ledger {folder} was left as it is, because its segments cannot be merged: "
            f"{error.strerror or error}. A copy of what stays must fit beside them; make room and "
            "compact again"
        ) from error
    for each in sources:
        _retire(each)
    sync(folder)
    return into


def _lines(sources: list[Segment], stay: Array) -> Iterator[bytes]:
    for number, each in enumerate(sources):
        mine = stay[stay["segment"] == number]
        if not len(mine):
            continue
        ends = mine["offset"] + mine["length"]
        # Neighbours are copied as one piece.
        breaks = np.flatnonzero(mine["offset"][1:] != ends[:-1]) + 1
        starts = mine["offset"][np.concatenate([[0], breaks])]
        lengths = ends[np.concatenate([breaks - 1, [len(mine) - 1]])] - starts
        yield from _spans(each.path, zip(starts.tolist(), lengths.tolist(), strict=True))


def _spans(path: Path, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for start, length in spans:
            file.seek(start)
            while length:
                piece = file.read(min(length, COPY))
                if not piece:
                    raise OSError(errno.EIO, f"{path.name} became shorter while it was read")
                yield piece
                length -= len(piece)


def _write_aside(path: Path, pieces: Iterable[bytes], modified: float | None = None) -> None:
    part = path.with_suffix(f"{path.suffix}.part")
    with part.open("wb", buffering=COPY) as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if modified is not None:
        os.utime(part, (modified, modified))  # it is as old as what is in it
    os.replace(part, path)


def _retire(each: Segment) -> None:
    old = each.path.with_suffix(".old")
    try:
        os.rename(each.path, old)
    except FileNotFoundError:
        return
    if old.stat().st_size != each.size:
        os.rename(old, each.path)
        return
    each.path.with_suffix(".index").unlink(missing_ok=True)
    os.unlink(old)


@contextmanager
def alone(folder: Path) -> Generator[float]:
    """Hold the folder's lock against another upkeep; gives the time by the file system's clock.

    Where a file system has no locks, two at once do the work twice and lose nothing.
    """
    with writable(f"the ledger {folder}", ModelError):
        file = locks.opened(folder / LOCK)
    try:
        with writable(f"the ledger {folder}", ModelError):
            is_alone = locks.take(file)
        if not is_alone:
            said = os.pread(file, 200, 0).decode(errors="replace").strip()
            raise ModelError(
                f"the ledger {folder} is being compacted or repaired by {said or 'another'}; "
                "wait for its end"
            )
        with contextlib.suppress(OSError):  # another user has made the file
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {locks.host()}\n".encode(), 0)
        with writable(f"the ledger {folder}", ModelError):
            _recover(folder)
            now = clock(folder)
        yield now
    finally:
        os.close(file)


def _recover(folder: Path) -> None:
    """Clear up after a run that was killed."""
    for old in folder.glob("*.old"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(old, old.with_suffix(".jsonl"))
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)
    for index in folder.glob("*.index*"):
        if not (folder / index.name.partition(".")[0]).with_suffix(".jsonl").is_file():
            index.unlink(missing_ok=True)
