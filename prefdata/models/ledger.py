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
import errno
import os
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
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


class _Own:
    """A segment that this process writes. `synced` of its `written` bytes are known to be on disk.

    One that is `over` is not written any more: a system that could not put bytes on the disk does
    not try again, and says of them the next time that all is well.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.pid = path, os.getpid()
        self.written = self.synced = 0
        self.over = False
        self.syncing = threading.Lock()
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self.close = weakref.finalize(self, os.close, self.file)  # no thread writes to it any more
        locks.take(self.file, seconds=locks.PROBED)

    def write(self, data: bytes) -> int:
        """Write at the end; how much is written then."""
        try:
            write(self.file, data)
        except OSError:
            self.over = True
            os.ftruncate(self.file, self.written)
            os.lseek(self.file, self.written, os.SEEK_SET)
            self.over = False
            raise
        self.written += len(data)
        return self.written

    def sync(self, upto: int) -> None:
        """Have what is written up to there on the disk; one sync serves all who wrote before it."""
        with self.syncing:
            if self.synced >= upto:
                return
            if self.over:
                raise OSError(errno.EIO, "what was written is not sure to be on the disk")
            written = self.written
            try:
                os.fsync(self.file)
            except OSError:
                self.over = True
                raise
            self.synced = written

    @property
    def is_retired(self) -> bool:
        """Whether a machine that could not see its lock has taken it for a dead one's."""
        try:
            return not os.path.samestat(os.fstat(self.file), self.path.stat())
        except FileNotFoundError:
            return True


class Ledger:
    """The recorded responses in a folder. Safe with many threads and processes at once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._segments: dict[Path, Index] = {}
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._own: _Own | None = None

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
        with self._writing, self._writable():
            self._own_segment()

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
            own, self._own = self._own, None
            if own is not None and own.pid == os.getpid():
                if not own.written:
                    own.path.unlink(missing_ok=True)  # nothing was answered
                own.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _commit(self, data: bytes) -> None:
        """Write in one order, and sync for all at once."""
        while True:
            with self._writable():
                with self._writing:
                    own = self._own_segment()
                    mine = own.write(data)
                own.sync(mine)
                if not own.is_retired:
                    return
                own.over = True  # say it again, in another

    def _own_segment(self) -> _Own:
        """This process's segment; a forked process gets another one."""
        own = self._own
        if own is None or own.pid != os.getpid() or own.over:
            self.folder.mkdir(parents=True, exist_ok=True)
            own = _Own(self.folder / segment.new_name())
            sync(self.folder)
            self._own = own
        return own

    @contextmanager
    def _writable(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise ModelError(
                f"the ledger {self.folder} cannot be written: {error.strerror}; answers are not "
                "asked for that cannot be kept. Make room or allow it, or name another folder with "
                "--data, and build again"
            ) from error

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
