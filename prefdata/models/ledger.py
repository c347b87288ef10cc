"""The ledger: every response that was ever paid for, on disk before it is counted.

A folder of segments. A writer appends to a segment of its own, so processes never wait for each
other and a torn tail stays where its writer died; readers merge all segments. A line is

    <request_id> {"time": <milliseconds>, "response": {...}, "request": {...}}

with id and time of fixed width, so an index is built without reading JSON. Where one request was
answered twice (`--fresh`), the newer answer is found. Indexes (`*.index`) are only a cache and may
be deleted; they cover a prefix of their segment, and what was appended since is scanned.

Transient failures are not kept, so that the next build asks again.
"""

import json
import mmap
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prefdata.errors import ModelError
from prefdata.models.client import responses
from prefdata.models.index import ID, Array, Index, keys
from prefdata.tables import Requests, Responses

# Errors that say something about the moment and nothing about the request.
TRANSIENT = (
    "timeout|rate limited|server error|connection|malformed reply|empty reply|budget reached"
)
_DECODER = json.JSONDecoder()
_RESPONSE = ID + len(' {"time":0000000000000,"response":')


class Ledger:
    """The recorded responses in a folder. Safe with many threads and processes at once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._segments: dict[Path, Index] = {}
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._syncing = threading.Lock()
        self._file: int | None = None
        self._pid = 0
        self._written = 0
        self._synced = 0

    def find(self, ids: Iterable[str]) -> Responses:
        """The newest response to each of these requests that has one."""
        return responses(response for response, _ in self._lines(ids, request=False))

    def request(self, request_id: str) -> dict[str, Any] | None:
        """The request behind an id as it was sent, with its response; None if never answered."""
        for response, request in self._lines([request_id], request=True):
            return {"request_id": request_id, "request": request, "response": response}
        return None

    def append(self, requests: Requests, answers: Responses) -> None:
        """Record responses with their requests; on return they survive a crash.

        `model` of `requests` is the model's identity. Transient failures are left out.
        """
        error = answers["error"]
        kept = answers
        if error.null_count() < error.len():
            kept = answers.filter(
                error.is_null() | ~error.str.contains(f"^({TRANSIENT})").fill_null(False)
            )
        if kept.is_empty():
            return
        asked = {row["request_id"]: row for row in requests.iter_rows(named=True)}
        now = int(time.time() * 1000)
        lines = [_line(now, asked[row["request_id"]], row) for row in kept.iter_rows(named=True)]
        self._commit(b"".join(lines))

    def close(self) -> None:
        with self._writing:
            if self._file is not None and self._pid == os.getpid():
                os.close(self._file)
            self._file = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _commit(self, data: bytes) -> None:
        """Write under one lock and sync under another: one sync serves all who wrote before it."""
        with self._writing:
            file = self._own_segment()
            try:
                _write(file, data)
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

    def _own_segment(self) -> int:
        """This process's segment; a forked process gets another one."""
        if self._file is None or self._pid != os.getpid():
            self.folder.mkdir(parents=True, exist_ok=True)
            host = re.sub(r"[^A-Za-z0-9]+", "", socket.gethostname())[:20] or "host"
            name = f"{time.time_ns():019d}-{host}-{os.getpid()}-{os.urandom(4).hex()}.jsonl"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._file = os.open(self.folder / name, flags, 0o644)
            self._pid = os.getpid()
            self._written = self._synced = 0
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return self._file

    def _lines(
        self, ids: Iterable[str], *, request: bool
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        wanted = np.array(sorted(set(ids)), dtype=f"S{ID}")
        if not len(wanted):
            return
        segments, places = self._places(wanted)
        places = np.sort(places[places["time"] > 0], order=["segment", "offset"])
        for number, segment in enumerate(segments):
            first, last = np.searchsorted(places["segment"], [number, number + 1])
            if first == last:
                continue
            with (
                segment.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m,
            ):
                for start, length in places[["offset", "length"]][first:last].tolist():
                    if (found := _read(m, start, length, request)) is not None:
                        yield found

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
            if entry.name.endswith(".jsonl"):
                path = Path(entry.path)
                seen[path] = self._segments.get(path) or Index(path)
                seen[path].extend(entry.stat().st_size)
        self._segments = seen


def _line(now: int, request: dict[str, Any], response: dict[str, Any]) -> bytes:
    said = {k: v for k, v in response.items() if v is not None and k != "request_id"}
    asked = {k: v for k, v in request.items() if v is not None and k != "request_id"}
    asked["options"] = json.loads(asked["options"])
    body = {"time": now, "response": said, "request": asked}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate is no text that can be stored; it becomes a question mark.
    return f"{response['request_id']} {text}\n".encode("utf-8", errors="replace")


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _read(
    data: mmap.mmap, start: int, length: int, request: bool
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Response and request of a line; None where the line is damaged."""
    said: dict[str, Any]
    asked: dict[str, Any] = {}
    try:
        line = data[start : start + length].decode()
        if request:
            whole = json.loads(line[ID + 1 :])
            said, asked = whole["response"], whole["request"]
        else:
            said = _DECODER.raw_decode(line, _RESPONSE)[0]
    except (ValueError, KeyError):
        return None
    return {"request_id": line[:ID], **said}, asked
