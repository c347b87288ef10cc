"""The ledger: every response that was ever paid for, on disk before it is counted.

A folder of segments. A writer appends to a segment of its own, so processes never wait for each
other and a torn tail stays where its writer died; readers merge all segments. A line is

    <request_id> {"time": <milliseconds>, "response": {...}, "request": {...}, "crc": "..."}

with id and time of fixed width, so an index is built without reading JSON. Where one request was
answered twice (`--fresh`), the newer answer is found. Indexes (`*.index`) are only a cache and may
be deleted; they cover a prefix of their segment, and what was appended since is scanned.
`segment.py` knows the lines, `upkeep.py` looks after them, `compact.py` merges segments.

What nobody answered (a time-out, a bad request) is not kept, so that the next build asks again.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prefdata import locks
from prefdata.errors import ModelError
from prefdata.models import segment
from prefdata.models.client import responses
from prefdata.models.index import ID, Array, Index, keys
from prefdata.tables import Requests, Responses
from prefdata.whole import sync

# Errors with which nobody answered and nothing was paid. A bad request is among them: as often as
# the row it is a setting of the server that is wrong, and can be mended.
NO_ANSWER = (
    "timeout|rate limited|server error|connection|malformed reply|empty reply|budget reached"
    "|bad request|request limit|stopped|batch "
)
# A time has 13 digits in a line; a clock that was never set would give fewer.
EARLIEST, LATEST = 10**12, 10**13 - 1
# A compaction may retire segments between a look at the folder and their opening.
LOOKS = 10


class Ledger:
    """The recorded responses in a folder. Safe with many threads and processes at once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._segments: dict[Path, Index] = {}
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._syncing = threading.Lock()
        self._file: int | None = None
        self._path = self.folder
        self._pid = 0
        self._written = 0
        self._synced = 0

    def find(self, ids: Iterable[str]) -> Responses:
        """The newest response to each of these requests that has one."""
        found = (segment.answer(line) for line in self._lines(ids))
        return responses(each for each in found if each is not None)

    def count(self, ids: Iterable[str]) -> int:
        """How many of these requests have a response."""
        wanted = np.array(sorted(ids), dtype=f"S{ID}")
        for look in range(LOOKS):
            try:
                return int((self._places(wanted)[1]["time"] > 0).sum())
            except FileNotFoundError:
                if look == LOOKS - 1:
                    raise
        return 0

    def request(self, request_id: str) -> dict[str, Any] | None:
        """The request behind an id as it was sent, with its response; None if never answered."""
        for line in self._lines([request_id]):
            if not isinstance(entry := segment.read(line), str):
                said = {"request_id": request_id, **entry.response}
                return {"request_id": request_id, "request": entry.request, "response": said}
        return None

    def sample(self, n: int) -> list[segment.Entry]:
        """About `n` of the lines, evenly spread over all segments; the same ones each time."""
        with self._reading:
            self._refresh()
            indexes = [self._segments[path] for path in sorted(self._segments)]
            total = sum(len(each.lines) for each in indexes)
            step = max(1, total // n)
            chosen = [(i.segment, i.lines[["offset", "length"]][::step].tolist()) for i in indexes]
        found: list[segment.Entry] = []
        for path, places in chosen:
            # A compaction may have retired it meanwhile: there are enough others.
            with contextlib.suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
                lines = (os.pread(file.fileno(), length, start) for start, length in places)
                entries = (segment.read(line) for line in lines)
                found += [each for each in entries if not isinstance(each, str)]
        return found

    def open(self) -> None:
        """See that answers can be kept, before any is paid for; `ModelError` if not."""
        with self._writing:
            try:
                self._own_segment()
            except OSError as error:
                raise ModelError(
                    f"the ledger {self.folder} cannot be written: {error.strerror}; answers are "
                    "not asked for that cannot be kept. Allow it, or name another folder with "
                    "--data, and build again"
                ) from error

    def append(self, requests: Requests, answers: Responses, *, again: bool = False) -> None:
        """Record responses with their requests; on return they survive a crash.

        `model` of `requests` is the model's identity. Transient failures are left out. Those asked
        `again` are newer than what they replace, whatever the clock says.
        """
        error = answers["error"]
        kept = answers
        if error.null_count() < error.len():
            kept = answers.filter(
                error.is_null() | ~error.str.contains(f"^({NO_ANSWER})").fill_null(False)
            )
        if kept.is_empty():
            return
        asked = {row["request_id"]: row for row in requests.iter_rows(named=True)}
        now = min(max(int(time.time() * 1000), EARLIEST), LATEST)
        if again:
            ids = np.array(sorted(kept["request_id"]), dtype=f"S{ID}")
            now = max(now, int(self._places(ids)[1]["time"].max()) + 1)
        lines = [
            segment.line(now, asked[row["request_id"]], row) for row in kept.iter_rows(named=True)
        ]
        self._commit(b"".join(lines))

    def close(self) -> None:
        with self._writing:
            if self._file is not None and self._pid == os.getpid():
                if not self._written:
                    self._path.unlink(missing_ok=True)  # nothing was answered
                os.close(self._file)
            self._file = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _commit(self, data: bytes) -> None:
        """Write under one lock and sync under another: one sync serves all who wrote before it."""
        with self._writing:
            file, path = self._own_segment()
            try:
                write(file, data)
            except OSError as error:
                os.ftruncate(file, self._written)
                os.lseek(file, self._written, os.SEEK_SET)
                raise ModelError(
                    f"the ledger {self.folder} cannot be written: {error.strerror}; answers are "
                    "not asked for that cannot be kept. Make room and build again"
                ) from error
            self._written += len(data)
            mine = self._written
        with self._syncing:
            if self._synced < mine:
                upto = self._written
                os.fsync(file)
                self._synced = upto
        if not _is_at(file, path):
            # A machine that could not see this one's lock has retired the segment: say it again.
            with self._writing:
                self._file = None if self._path == path else self._file
            self._commit(data)

    def _own_segment(self) -> tuple[int, Path]:
        """This process's segment; a forked process gets another one."""
        if self._file is None or self._pid != os.getpid():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._path = self.folder / segment.new_name()
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            locks.take(self._file, seconds=locks.PROBED)
            self._pid = os.getpid()
            self._written = self._synced = 0
            sync(self.folder)
        return self._file, self._path

    def _lines(self, ids: Iterable[str]) -> Iterator[bytes]:
        """The newest line of each of these ids that has one."""
        left = set(ids)
        for look in range(LOOKS):
            try:
                for line in self._look(left):
                    left.discard(line[:ID].decode())
                    yield line
                return
            except FileNotFoundError:
                if look == LOOKS - 1:
                    raise

    def _look(self, ids: Iterable[str]) -> Iterator[bytes]:
        wanted = np.array(sorted(ids), dtype=f"S{ID}")
        if not len(wanted):
            return
        paths, places = self._places(wanted)
        places = np.sort(places[places["time"] > 0], order=["segment", "offset"])
        for number, path in enumerate(paths):
            first, last = np.searchsorted(places["segment"], [number, number + 1])
            if first == last:
                continue
            with path.open("rb", buffering=0) as file:
                for start, length in places[["offset", "length"]][first:last].tolist():
                    yield os.pread(file.fileno(), length, start)

    def _places(self, wanted: Array) -> tuple[list[Path], Array]:
        """Segment, offset and length of the newest line of each id; time 0 where there is none."""
        dtype = [("time", "i8"), ("segment", "i4"), ("offset", "i8"), ("length", "i4")]
        places = np.zeros(len(wanted), dtype)
        sought = keys(wanted)
        with self._reading:
            self._refresh()
            paths = sorted(self._segments)
            for number, path in enumerate(paths):
                rows, lines = self._segments[path].find(wanted, sought)
                newer = lines["time"] >= places["time"][rows]
                rows, lines = rows[newer], lines[newer]
                for column in ("time", "offset", "length"):
                    places[column][rows] = lines[column]
                places["segment"][rows] = number
        return paths, places

    def _refresh(self) -> None:
        """See the segments that other writers started or grew since the last look."""
        seen: dict[Path, Index] = {}
        for entry in os.scandir(self.folder) if self.folder.exists() else ():
            if entry.name.endswith(".jsonl") and entry.is_file():
                path = Path(entry.path)
                seen[path] = self._segments.get(path) or Index(path)
                seen[path].extend(entry.stat().st_size)
        self._segments = seen


def write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
