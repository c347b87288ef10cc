"""What was handed to batch APIs and not yet taken back, beside the ledger.

A file a batch, `<ledger>/batches/<key>.jsonl`, written to its end and never changed:

    {"key": ..., "url": ..., "path": ..., "round": ..., "host": ..., "begun": <milliseconds>,
     "n": <requests>, "crc": <CRC-32 of all before it and of the requests>}
    a request in each line, as the ledger would keep it
    {"file": "file-..."}     once its requests are uploaded
    {"batch": "batch_..."}   once the provider has taken them on

The requests are on disk before the provider hears of them, and the provider is told the key, so
after a crash at any moment the batch is found again by its id or by its key. Whoever looks after
a batch holds a lock on its file; others wait for what it brings. One at a time looks what is under
way and begins what is not, `alone`. The file goes when every answer is in the ledger, or when what
is left without one stands in another. Of one that was damaged since, the name is still the key by
which its provider says what it was. There is no key of an API, header or token in it; prompts there
are.
"""

import asyncio
import contextlib
import io
import json
import os
import time
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl

from prefdata import locks, tables
from prefdata.errors import ModelError
from prefdata.models.ledger import write
from prefdata.tables import Requests
from prefdata.whole import clock, sync, writable

# Locks of other hosts may not be seen: for so many seconds after a batch was noted by one, it is
# taken to be submitting it.
FOREIGN = 3600.0

Row = dict[str, Any]


@dataclass
class Entry:
    """One batch. `batch` is "" until the provider has taken it on.

    Of one that `is_damaged` only the key is known, and what can be read of its requests.
    """

    path: Path
    key: str
    url: str
    where: str
    round: int
    begun_on: str
    begun: int
    requests: Requests
    batch: str = ""
    is_damaged: bool = False
    held: int | None = field(default=None, repr=False)

    @property
    def ids(self) -> list[str]:
        return self.requests["request_id"].to_list()

    @property
    def may_be_handed_over_elsewhere(self) -> bool:
        """Whether another host, whose lock is not seen here, may be submitting it right now.

        Both times are of the file system's clock: another host's may be days ahead.
        """
        if self.batch or self.begun_on == locks.host():
            return False
        with writable(self.path.parent, ModelError), contextlib.suppress(FileNotFoundError):
            return abs(clock(self.path.parent) - self.path.stat().st_mtime) < FOREIGN
        return False

    def lock(self) -> bool:
        """Take it over; False while another call or process looks after it, or if it is gone."""
        with writable(self.path, ModelError):
            try:
                file = os.open(self.path, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                return False
            except PermissionError:
                if locks.is_held(self.path):  # by another user, who will be done with it
                    return False
                raise
            if not locks.take(file) or not self.path.exists():
                os.close(file)
                return False
        self.held = file
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            with writable(self.path, ModelError):
                write(file, b"\n")  # what is noted next must not continue a torn line
        self.batch = _events(content).get("batch", "")
        return True

    def note(self, **event: str) -> None:
        """Have something that happened on disk."""
        assert self.held is not None
        with writable(self.path, ModelError):
            write(self.held, f"{json.dumps(event)}\n".encode())
            os.fsync(self.held)
        self.batch = event.get("batch", self.batch)

    def drop(self) -> None:
        """Nothing is left to be had from it."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.release()

    def release(self) -> None:
        """Leave it to whoever comes next."""
        if self.held is not None:
            os.close(self.held)
            self.held = None


class Journal:
    """The batches under way of one ledger."""

    def __init__(self, ledger: Path) -> None:
        self.folder = ledger / "batches"

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """While it is open nobody else looks what is under way, to begin what is not."""
        with writable(self.folder, ModelError):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = locks.opened(self.folder.with_suffix(".lock"))
        try:
            while not self._is_taken(lock):
                await asyncio.sleep(locks.EVERY)
            yield
        finally:
            os.close(lock)

    def _is_taken(self, lock: int) -> bool:
        with writable(self.folder, ModelError):
            return locks.take(lock)

    def begin(self, url: str, where: str, requests: Requests, at_round: int) -> Entry:
        """An entry for requests that are about to be handed over, on disk and locked."""
        key, begun = os.urandom(12).hex(), int(time.time() * 1000)
        path = self.folder / f"{key}.jsonl"
        entry = Entry(path, key, url, where, at_round, locks.host(), begun, requests)
        self._write(entry)
        return entry

    def mend(self, entry: Entry, url: str, where: str, requests: Requests, batch: str) -> None:
        """Write a damaged entry anew, of which its provider has said what it is."""
        anew = Entry(entry.path, entry.key, url, where, 0, locks.host(), entry.begun, requests)
        self._write(anew)
        anew.note(batch=batch)
        anew.release()

    def _write(self, entry: Entry) -> None:
        """Have an entry on disk under its name, whole and locked."""
        content = entry.requests.write_ndjson().encode()
        head = {"key": entry.key, "url": entry.url, "path": entry.where, "round": entry.round}
        head |= {"host": entry.begun_on, "begun": entry.begun, "n": entry.requests.height}
        head |= {"crc": _checksum(head, content)}
        with writable(entry.path, ModelError):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{locks.new_name()}.part"
            entry.held = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
            try:
                locks.take(entry.held)  # before anybody can find it
                write(entry.held, f"{json.dumps(head)}\n".encode() + content)
                os.fsync(entry.held)
                part.rename(entry.path)
                sync(self.folder)
            except BaseException:
                part.unlink(missing_ok=True)
                entry.release()
                raise

    def entries(self) -> list[Entry]:
        """Every batch that was handed over or is about to be; what was written in part is not."""
        found: list[Entry] = []
        for path in sorted(self.folder.glob("*.jsonl")):
            with contextlib.suppress(FileNotFoundError):
                found.append(read(path))
        return found


def read(path: Path) -> Entry:
    """An entry as it stands. One of which not all can be read was damaged since it was written."""
    content = path.read_bytes()
    first, _, rest = content.partition(b"\n")
    batch = _events(content).get("batch", "")
    try:
        head: dict[str, Any] = json.loads(first)
        block = b"".join(line + b"\n" for line in rest.split(b"\n", head["n"])[: head["n"]])
        if head["key"] == path.stem and head.pop("crc") == _checksum(head, block):
            requests = pl.read_ndjson(io.BytesIO(block), schema=tables.schema("requests").dtypes)
            what = (head["url"], head["path"], head["round"], head["host"], head["begun"])
            return Entry(path, head["key"], *what, Requests(requests), batch)
    except (ValueError, KeyError, TypeError):
        pass
    left = Requests(pl.concat([tables.empty("requests"), *_readable(content)]))
    return Entry(path, path.stem, "", "", 0, locks.host(), 0, left, batch, is_damaged=True)


def _checksum(head: dict[str, Any], block: bytes) -> int:
    return zlib.crc32(block, zlib.crc32(json.dumps(head).encode()))


def _readable(content: bytes) -> Iterator[pl.DataFrame]:
    """The requests that can be read of what is damaged, one by one."""
    for line in content.split(b"\n"):
        with contextlib.suppress(ValueError, TypeError, pl.exceptions.PolarsError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(cast(Row, row).get("request_id"), str):
                yield pl.DataFrame([row], schema=tables.schema("requests").dtypes)


def _events(content: bytes) -> dict[str, str]:
    """What was noted at the end; a torn line was not."""
    noted: dict[str, str] = {}
    for line in reversed(content.split(b"\n")[-8:]):
        if line.startswith((b'{"batch": ', b'{"file": ')):
            with contextlib.suppress(ValueError):
                noted = {**json.loads(line), **noted}
    return noted
