"""A segment of the ledger: how a line is written and checked, and whether its writer is done.

    <request_id> {"time": <milliseconds>, "response": {...}, "request": {...}, "crc": "<8 digits>"}

The checksum is CRC-32 of the line before it; lines of before it was there are read as well. A
vector is base64 of its numbers, a quarter of the size of decimals and as exact: after "f4:" they
are 32 bits each, after "f8:", where these would round, 64, the lowest byte first. A vector that is
a list of decimals is read as well.

The name of a segment says when, where and by whom it was begun:
`<nanoseconds>-<host>-<pid>-<random>`. A writer holds a lock on its segment for as long as it lives
and never opens one again.
"""

import base64
import contextlib
import json
import re
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from prefdata import locks
from prefdata.errors import ModelError
from prefdata.models.index import ID
from prefdata.stage import request_id

# A dead writer's segment is left alone for this long after its last line.
IDLE = 60.0
# The locks of other hosts may not be seen on a shared file system; a batch API takes up to a day.
FOREIGN_IDLE = 48 * 3600.0

State = Literal["written", "recent", "closed"]
_HEAD = re.compile(rb'[0-9a-f]{20} \{"time":([0-9]{13}),')
_RESPONSE = ID + len(' {"time":0000000000000,"response":')
_CRC = b',"crc":"'
_TAIL = len(_CRC) + 8 + len('"}')
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Segment:
    """A segment as it was found. `why` says what keeps it from being closed."""

    path: Path
    size: int
    modified: float
    state: State
    why: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a sound line says."""

    request_id: str
    time: int
    response: dict[str, Any]
    request: dict[str, Any]


def new_name(begun: int | None = None) -> str:
    begun = time.time_ns() if begun is None else begun
    return f"{begun:019d}-{locks.new_name()}.jsonl"


def line(now: int, request: Mapping[str, Any], response: Mapping[str, Any]) -> bytes:
    """A response and its request as they are kept."""
    said = {k: v for k, v in response.items() if v is not None and k != "request_id"}
    if "vector" in said:
        said["vector"] = _packed(said["vector"])
    asked = {k: v for k, v in request.items() if v is not None and k != "request_id"}
    asked["options"] = json.loads(asked["options"])
    body = {"time": now, "response": said, "request": asked}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate is no text that can be stored; it becomes a question mark.
    whole = f"{response['request_id']} {text[:-1]}".encode("utf-8", errors="replace")
    return b'%s%s%08x"}\n' % (whole, _CRC, zlib.crc32(whole))


def answer(kept: bytes) -> dict[str, Any] | None:
    """The response of a line; None where the line is damaged."""
    if not _unchanged(kept):
        return None
    try:
        text = kept.decode()
        return {"request_id": text[:ID], **_unpacked(_DECODER.raw_decode(text, _RESPONSE)[0])}
    except (ValueError, TypeError, AttributeError):
        return None


def stamp(kept: bytes) -> int | str:
    """The time of a line if its checksum, or else its JSON, is right; what is wrong with it."""
    head = _HEAD.match(kept)
    if head is None:
        return "it does not begin with an id and a time"
    if not _unchanged(kept):
        return "its bytes are not those that were written (checksum)"
    if not _has_checksum(kept) and isinstance(entry := read(kept), str):
        return entry
    return int(head[1])


def read(kept: bytes) -> Entry | str:
    """A line with all that it says, or what is wrong with it."""
    head = _HEAD.match(kept)
    if head is None:
        return "it does not begin with an id and a time"
    if not _unchanged(kept):
        return "its bytes are not those that were written (checksum)"
    try:
        said = json.loads(kept[ID + 1 :])
    except ValueError:
        return "it is no JSON"
    if not isinstance(said.get("response"), dict) or not isinstance(said.get("request"), dict):
        return "it lacks its response or its request"
    try:
        response = _unpacked(said["response"])
    except ValueError as error:
        return f"its vector cannot be read: {error}"
    if "vector" in response:
        response["vector"] = list(map(float, response["vector"]))
    return Entry(kept[:ID].decode(), int(head[1]), response, said["request"])


def _packed(vector: Any) -> str:
    exact = np.asarray(vector, np.float64)
    with np.errstate(over="ignore"):
        short = exact.astype(np.float32)
    name = "f4" if (short == exact).all() else "f8"
    kept = exact.astype(f"<{name}").tobytes()
    return f"{name}:{base64.b64encode(kept).decode()}"


def _unpacked(response: dict[str, Any]) -> dict[str, Any]:
    """A response as it stands in a line, with its vector as an array of numbers."""
    vector = response.get("vector")
    if not isinstance(vector, str):
        return response
    name, _, kept = vector.partition(":")
    if name not in ("f4", "f8"):
        raise ValueError(f"it begins with {name[:8]!r}, not with f4 or f8")
    numbers = np.frombuffer(base64.b64decode(kept, validate=True), f"<{name}")
    return {**response, "vector": numbers.astype(np.float64)}


def answers_another(entry: Entry) -> bool:
    """Whether an id is not the digest of the request that stands beside it."""
    asked = entry.request
    try:
        options = json.dumps(asked["options"])
        messages, completion = asked["messages"], asked.get("completion")
        what = (asked["model"], asked["want"], messages, completion, options, asked["draw"])
        return request_id(*what) != entry.request_id
    except (KeyError, TypeError, ValueError):
        return True


def _has_checksum(kept: bytes) -> bool:
    return kept[-_TAIL : len(_CRC) - _TAIL] == _CRC


def _unchanged(kept: bytes) -> bool:
    if not _has_checksum(kept):
        return kept.endswith(b"}}")
    return kept[-10:] == b'%08x"}' % zlib.crc32(memoryview(kept)[:-_TAIL])


def walk(segment: Segment) -> Iterator[tuple[int, int, bytes, bool]]:
    """Number, offset and content of each line, and whether it is whole; holds one at a time."""
    offset = 0
    with _opened(segment.path) as file:
        for number, raw in enumerate(file, 1):
            whole = raw.endswith(b"\n")
            if offset + len(raw) > segment.size and not whole:
                return  # it is being written right now
            yield number, offset, raw[:-1] if whole else raw, whole
            offset += len(raw)
            if offset >= segment.size:
                return


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=1 << 20)
    except PermissionError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}; allow it and try again"
        ) from error


def segments(
    folder: Path,
    *,
    idle: float = IDLE,
    foreign_idle: float = FOREIGN_IDLE,
    now: float | None = None,
) -> list[Segment]:
    """Every segment of a folder, by name.

    One is `written` while its writer lives, `recent` if its last line is younger than `idle`
    seconds (`foreign_idle` where it was begun on another host), else `closed`.
    """
    now = time.time() if now is None else now
    found: list[Segment] = []
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # a compaction has just retired it
            at = path.stat()
            if not stat.S_ISREG(at.st_mode):
                continue
            age = now - at.st_mtime
            found.append(
                Segment(path, at.st_size, at.st_mtime, *_state(path, age, idle, foreign_idle))
            )
    return found


def _state(path: Path, age: float, idle: float, foreign_idle: float) -> tuple[State, str]:
    (where, pid), held = locks.holder(path), locks.is_held(path)
    if held:
        return "written", f"its writer (process {pid} on {where}) lives"
    wait = foreign_idle if held is None else idle
    if age < wait:
        of = "" if where in ("", locks.host()) else f" on another host, {where}"
        return "recent", f"it was written to{of} {max(age, 0):.0f} s ago, less than {wait:.0f}"
    return "closed", ""
