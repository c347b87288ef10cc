"""Where in a segment of the ledger the line of a request begins: a sorted array, kept on disk.

An index covers a prefix of its segment, so a segment may grow while it is read. It is a cache: it
is rebuilt from the segment wherever it is absent, damaged or of another layout.
"""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ID = 20
LAYOUT = np.dtype([("key", "<u8"), ("time", "<i8"), ("offset", "<i8"), ("length", "<i4")])
TIME = ID + len(' {"time":')
HEAD = TIME + 13 + 1
BLOCK = 1 << 24
# Below this many bytes beyond the index on disk, scanning is quicker than writing a new one.
WORTH_KEEPING = 1 << 20

_VALUE = np.full(256, 255, np.uint8)
_VALUE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_MARK = np.frombuffer(b' {"time":', np.uint8)


def keys(ids: Array) -> Array:
    """The first 64 bits of each id (an array of `S20`)."""
    digits = _VALUE[np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), -1)[:, :16]]
    return _key(digits)


def _key(digits: Array) -> Array:
    pairs = (digits[:, 0::2] << 4) | digits[:, 1::2]
    return np.ascontiguousarray(pairs).view(">u8").ravel().astype("<u8")


class Index:
    """The lines of one segment, sorted by key and then by age."""

    def __init__(self, segment: Path) -> None:
        self.segment = segment
        self.covered = 0
        self.lines: Array = np.zeros(0, LAYOUT)
        self._kept = 0
        self._load()

    def find(self, wanted: Array, sought: Array) -> tuple[Array, Array]:
        """Rows of `wanted` that this segment answers, and the newest line of each.

        `sought` are the keys of `wanted`; where only those agree, the whole id decides.
        """
        if not len(self.lines):
            return np.zeros(0, np.intp), self.lines
        last = np.searchsorted(self.lines["key"], sought, side="right") - 1
        rows = np.flatnonzero((last >= 0) & (self.lines["key"][last] == sought))
        if not len(rows):
            return rows, self.lines[:0]
        return self._verified(wanted, rows, last[rows])

    def _verified(self, wanted: Array, rows: Array, at: Array) -> tuple[Array, Array]:
        found: list[int] = []
        good: list[int] = []
        with self.segment.open("rb", buffering=0) as file:
            for row, line in zip(rows.tolist(), at.tolist(), strict=True):
                key = self.lines["key"][line]
                while line >= 0 and self.lines["key"][line] == key:
                    start = int(self.lines["offset"][line])
                    if os.pread(file.fileno(), ID, start) == wanted[row]:
                        good.append(row)
                        found.append(line)
                        break
                    line -= 1
        return np.array(good, np.intp), self.lines[found]

    def extend(self, size: int) -> None:
        """Take in the whole lines of the segment up to `size`; a torn tail waits for its end."""
        if size <= self.covered:
            return
        parts = [self.lines]
        with self.segment.open("rb", buffering=0) as file:
            while block := _block(file.fileno(), self.covered, size):
                parts.append(_scan(block, self.covered))
                self.covered += len(block)
        if len(parts) > 1:
            # A stable sort: lines of one key stay in the order in which they were written.
            lines = np.concatenate(parts)
            self.lines = lines[np.argsort(lines["key"], kind="stable")]
        if self.covered - self._kept >= WORTH_KEEPING:
            self._keep()

    @property
    def _file(self) -> Path:
        return self.segment.with_suffix(".index")

    def _load(self) -> None:
        try:
            stored = np.fromfile(self._file, LAYOUT)
        except OSError:
            return
        # The first record holds what the rest covers and its checksum; else it is not as it was.
        if not len(stored) or stored["key"][0] != len(stored) - 1:
            return
        covered, lines = int(stored["offset"][0]), stored[1:]
        if stored["time"][0] != zlib.crc32(lines.data):
            return
        if covered <= self.segment.stat().st_size and self._still_fits(lines, covered):
            self.covered = self._kept = covered
            self.lines = lines

    def _still_fits(self, lines: Array, covered: int) -> bool:
        """Whether the last line is where it was: in a segment that somebody edited it is not."""
        if not len(lines):
            return True
        last = lines[lines["offset"].argmax()]
        with self.segment.open("rb", buffering=0) as file:
            file.seek(int(last["offset"]))
            line = file.read(covered - int(last["offset"]))
        begun = np.frombuffer(line[:ID], f"S{ID}")
        return line.endswith(b"\n") and len(begun) > 0 and keys(begun)[0] == last["key"]

    def _keep(self) -> None:
        checksum = zlib.crc32(self.lines.data)
        head = np.array([(len(self.lines), checksum, self.covered, 0)], LAYOUT)
        aside = self._file.with_suffix(f".index-{os.getpid()}-{os.urandom(2).hex()}")
        try:
            np.concatenate([head, self.lines]).tofile(aside)
            aside.replace(self._file)
            self._kept = self.covered
        except OSError:
            aside.unlink(missing_ok=True)  # a read-only ledger is scanned each time


def _block(file: int, start: int, size: int) -> bytes:
    """Whole lines from `start` on, a block of them or one that is longer; none at the end.

    Read and not mapped: mapped pages count as this process's memory.
    """
    block = os.pread(file, min(BLOCK, size - start), start)
    cut = block.rfind(b"\n") + 1
    while not cut and start + len(block) < size:
        more = os.pread(file, min(BLOCK, size - start - len(block)), start + len(block))
        if not more:
            break
        cut = (more.find(b"\n") + 1 + len(block)) if b"\n" in more else 0
        block += more
    return block[:cut]


def _scan(block: bytes, start: int) -> Array:
    """Key, time, offset and length of every sound line of a block."""
    raw = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(raw == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    whole = (ends - starts > HEAD) & (raw[ends - 1] == ord("}"))
    starts, ends = starts[whole], ends[whole]
    head = np.lib.stride_tricks.sliding_window_view(raw, HEAD)[starts]
    digits = _VALUE[head[:, :ID]]
    clock = _VALUE[head[:, TIME : TIME + 13]]
    sound = (digits < 16).all(1) & (clock < 10).all(1) & (head[:, ID:TIME] == _MARK).all(1)
    lines = np.zeros(int(sound.sum()), LAYOUT)
    lines["key"] = _key(digits[sound][:, :16])
    lines["time"] = clock[sound].astype(np.int64) @ 10 ** np.arange(12, -1, -1)
    lines["offset"] = start + starts[sound]
    lines["length"] = (ends - starts)[sound]
    return lines
