"""Looking after a ledger: what it holds, whether it is sound, and mending it.

Everything is read line by line: memory grows by some tens of bytes a response, never with texts.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from prefdata.models import segment
from prefdata.models.compact import alone, replace, survey
from prefdata.models.index import ID
from prefdata.models.ledger import LOOKS
from prefdata.models.segment import FOREIGN_IDLE, IDLE, Entry, Segment

# How many faults are named one by one; all are counted and mended.
SHOWN = 100

Told = TypeVar("Told")


@dataclass
class ModelStats:
    """What one model's answers came to; superseded ones were paid for as well."""

    responses: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass
class Stats:
    """What a ledger holds. `first` and `last` are milliseconds since 1970, UTC."""

    folder: str
    segments: int = 0
    being_written: int = 0
    responses: int = 0
    unique: int = 0
    superseded: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    bytes: int = 0
    first: int | None = None
    last: int | None = None
    torn: int = 0
    damaged: int = 0
    set_aside: int = 0
    models: dict[str, ModelStats] = field(default_factory=dict[str, ModelStats])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Fault:
    """A line that is not right: where it is, what is wrong, what to do."""

    segment: str
    line: int
    offset: int
    kind: str
    found: str
    advice: str


@dataclass
class Verified:
    """What a check of a ledger came to; `repaired` lines were moved to `moved_to`."""

    folder: str
    segments: int = 0
    responses: int = 0
    bytes: int = 0
    n_faults: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    repaired: int = 0
    moved_to: list[str] = field(default_factory=list[str])

    @property
    def is_sound(self) -> bool:
        return self.n_faults == self.repaired

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_sound": self.is_sound}


def stats(folder: Path | str) -> Stats:
    """Count what a ledger holds."""
    return _undisturbed(lambda: _stats(Path(folder)))


def _stats(folder: Path) -> Stats:
    told = Stats(str(folder))
    ids = bytearray()
    for each in segment.segments(folder):
        told.segments += 1
        told.being_written += each.state == "written"
        told.bytes += each.size
        for _, _, line, whole in segment.walk(each):
            entry = segment.read(line) if whole else ""
            if isinstance(entry, Entry):
                ids += line[:ID]
                _count(told, entry)
            elif whole:
                told.damaged += 1
            elif each.state != "written":
                told.torn += 1
    told.unique = len(np.unique(np.frombuffer(bytes(ids), f"S{ID}")))
    told.superseded = told.responses - told.unique
    told.set_aside = sum(1 for _ in folder.glob("*.damaged"))
    told.models = dict(sorted(told.models.items(), key=lambda item: -item[1].responses))
    return told


def _count(told: Stats, entry: Entry) -> None:
    model = told.models.setdefault(str(entry.request.get("model", "unknown")), ModelStats())
    read, written = (int(entry.response.get(way, 0)) for way in ("tokens_in", "tokens_out"))
    for counts in (told, model):
        counts.responses += 1
        counts.tokens_in += read
        counts.tokens_out += written
    model.errors += "error" in entry.response
    told.first = min(told.first or entry.time, entry.time)
    told.last = max(told.last or entry.time, entry.time)


def verify(
    folder: Path | str,
    *,
    repair: bool = False,
    idle: float = IDLE,
    foreign_idle: float = FOREIGN_IDLE,
) -> Verified:
    """Check every line: whole, JSON, its checksum, and its id the digest of its request.

    `repair` moves what is not right from closed segments (see `segment.segments`) into
    `<segment>.damaged` beside them; nothing is deleted. An answer that is moved away is found in
    an older line or asked again.
    """
    folder = Path(folder)
    if not repair or not folder.is_dir():
        return _undisturbed(lambda: _verified(folder, idle, foreign_idle))
    with alone(folder) as now:
        told = Verified(str(folder))
        there = segment.segments(folder, idle=idle, foreign_idle=foreign_idle, now=now)
        for each in there:
            if _check(told, each) and each.state == "closed":
                _mend(told, folder, each)
        return told


def _verified(folder: Path, idle: float, foreign_idle: float) -> Verified:
    told = Verified(str(folder))
    for each in segment.segments(folder, idle=idle, foreign_idle=foreign_idle):
        _check(told, each)
    return told


def _undisturbed(look: Callable[[], Told]) -> Told:
    """Look again where a compaction retired a segment in the middle of it."""
    for _ in range(LOOKS - 1):
        with contextlib.suppress(FileNotFoundError):
            return look()
    return look()


def _check(told: Verified, each: Segment) -> int:
    told.segments += 1
    told.bytes += each.size
    n = 0
    for fault in _faults(told, each):
        n += 1
        if len(told.faults) < SHOWN:
            told.faults.append(fault)
    told.n_faults += n
    return n


def _faults(told: Verified, each: Segment) -> Iterator[Fault]:
    advice = f"`prefdata ledger verify --repair` moves it to {each.path.stem}.damaged"
    if each.state != "closed":
        advice += f", once its segment is closed: {each.why}"
    for number, offset, line, whole in segment.walk(each):
        place = (each.path.name, number, offset)
        if not whole:
            if each.state != "written":
                found = f"the last {len(line)} bytes are no whole line: its writer was killed"
                yield Fault(*place, "torn", found, advice)
            continue
        wrong = _wrong(line)
        if wrong:
            yield Fault(*place, "damaged", wrong, advice)
        else:
            told.responses += 1


def _wrong(line: bytes) -> str:
    entry = segment.read(line)
    if isinstance(entry, str):
        return entry
    another = segment.answers_another(entry)
    return "its id is not the digest of its request" if another else ""


def _mend(told: Verified, folder: Path, each: Segment) -> None:
    found = survey([each], lambda line: 0 if not _wrong(line) else "damaged")
    replace(folder, [each], found, found.places)
    told.repaired += found.n_damaged
    told.moved_to.append(each.path.with_suffix(".damaged").name)
