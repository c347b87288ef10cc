"""JSON as chunks: a row a line, an array of rows, or one object of AnnotatedPairs."""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from prefdata.errors import SourceError
from prefdata.sources.annotated_pairs import begins_one, rows_of, standing
from prefdata.sources.chunk import BYTES, KEPT, LARGEST, ROWS, Bad, Cells, Chunk, as_json, opened
from prefdata.sources.spec import SourceSpec

PIECE = 2**20
CUT = 16  # characters that may be the begin of what is whole with more of them


class Wrong(NamedTuple):
    """A line that is no row: why, and what stands there, as JSON."""

    reason: str
    row: str


# Line, row and size in bytes.
Row = tuple[int, dict[str, Any] | Wrong, int]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def json_rows(spec: SourceSpec, path: Path) -> Iterator[Row]:
    """The rows of a file: of an array, of AnnotatedPairs, or a row a line."""
    with opened(spec, path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(0)
        whole = path.name.lower().removesuffix(".gz").endswith(".json")
        if whole and start.startswith(b"["):
            yield from _array(spec, file)
            return
        if whole and _is_paired(file):
            yield from _annotated_pairs(spec, file.read())
            return
        yield from _lines(file)


def json_principles(spec: SourceSpec, path: Path) -> list[dict[str, Any]]:
    """Those of a file of AnnotatedPairs; no other file has any."""
    with opened(spec, path) as file:
        if not _is_paired(file):
            return []
        return standing(spec, _whole(spec, file.read(), "AnnotatedPairs"))


def _is_paired(file: IO[bytes]) -> bool:
    """Whether a file, read from its begin and left there, is AnnotatedPairs."""
    first = file.readline(LARGEST + 1).removeprefix(b"\xef\xbb\xbf").strip()
    file.seek(0)
    return begins_one(first)


def _array(spec: SourceSpec, file: IO[bytes]) -> Iterator[Row]:
    """The rows of an array, of which a piece at a time is read."""
    text = _Text(file)
    number, comma = 0, False
    try:
        text.skip("[")
        while not text.skip("]"):
            if comma and not text.skip(","):
                raise text.wrong("Expecting ',' delimiter")
            row, length = text.value()
            number, comma = number + 1, True
            yield number, _checked(row), length
        text.end()
    except (ValueError, RecursionError) as error:
        raise _not(spec, "a JSON array of rows", error) from error


def _annotated_pairs(spec: SourceSpec, text: bytes) -> Iterator[Row]:
    """A row a vote, numbered through the file."""
    rows = list(rows_of(spec, _whole(spec, text, "AnnotatedPairs")))
    length = len(text) // max(1, len(rows))
    for number, row in enumerate(rows, start=1):
        yield number, Wrong(*row) if isinstance(row, tuple) else _checked(row), length


def _whole(spec: SourceSpec, text: bytes, what: str) -> Any:
    try:
        return DECODER.decode(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _not(spec, what, error) from error


def _not(spec: SourceSpec, what: str, error: Exception) -> SourceError:
    return SourceError(
        f"{spec.where} is not {what}: {error}; mend it, or give it as .jsonl, "
        "of which only the bad lines would be left out"
    )


class _Text:
    """A JSON text that is read a piece at a time and forgotten once it is decoded."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoded = codecs.getincrementaldecoder("utf-8-sig")()
        self._held, self._at, self._before = "", 0, 0
        self._is_all = False

    def skip(self, mark: str) -> bool:
        """Pass over white space, and over a mark if it follows; whether it did."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in " \t\n\r":
                self._at += 1
            if self._at < len(self._held) or not self._more():
                break
        is_there = self._held.startswith(mark, self._at) and bool(mark)
        self._at += is_there
        return is_there

    def value(self) -> tuple[Any, int]:
        """The value that follows, and how long it is written."""
        self.skip("")
        while True:
            try:
                value, end = DECODER.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                # what is wrong at the end of the piece may be but cut off there
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._held) - CUT
                if not (cut and self._more()):
                    raise self.wrong(error.msg, error.pos) from error
                continue
            if end < len(self._held) - CUT or not self._more():
                length, self._at = end - self._at, end
                return value, length

    def end(self) -> None:
        self.skip("")
        if self._at < len(self._held):
            raise self.wrong("Extra data")

    def wrong(self, why: str, at: int | None = None) -> ValueError:
        place = self._before + (self._at if at is None else at) + 1
        return ValueError(f"{why} at character {place}")

    def _more(self) -> bool:
        """Read another piece, as long as what is held, so that a long value is not tried often."""
        if self._is_all:
            return False
        self._before += self._at
        self._held, self._at = self._held[self._at :], 0
        piece = self._file.read(max(PIECE, len(self._held)))
        self._is_all = not piece
        self._held += self._decoded.decode(piece, self._is_all)
        return True


def _lines(file: IO[bytes]) -> Iterator[Row]:
    number = 0
    while line := file.readline(LARGEST + 1):
        number += 1
        if len(line) > LARGEST:
            length = len(line)
            while not line.endswith(b"\n") and (rest := file.readline(LARGEST)):
                length += len(rest)
                line = line[:KEPT] + rest[-1:]
            reason = f"the row has {length} bytes, more than {LARGEST}"
            yield number, _lost(reason, line[:KEPT]), KEPT
            continue
        line = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if line:
            yield number, _decoded(line), len(line)


def _lost(reason: str, line: bytes) -> Wrong:
    return Wrong(reason, as_json(line.decode("utf-8", "replace")))


def _decoded(line: bytes) -> dict[str, Any] | Wrong:
    try:
        row = DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _lost(f"invalid UTF-8 at byte {error.start + 1}", line)
    except json.JSONDecodeError as error:
        return _lost(f"bad JSON: {error.msg} at character {error.pos + 1}", line)
    except (ValueError, RecursionError) as error:
        return _lost(f"bad JSON: {error}", line)
    return _checked(row) if b"\\ud" in line or b"\\uD" in line else _object(row)


def _checked(row: Any) -> dict[str, Any] | Wrong:
    """The row, unless it has half of a surrogate pair, which no file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        return Wrong("invalid UTF-8: half of a surrogate pair", json.dumps(json.dumps(row)))
    return _object(row)


def _object(row: Any) -> dict[str, Any] | Wrong:
    if isinstance(row, dict):
        return cast("dict[str, Any]", row)
    return Wrong(f"a row is an object, but this is a {type(row).__name__}", as_json(row))


def json_chunks(rows: Iterator[Row], wanted: Sequence[str]) -> Iterator[Chunk]:
    lines: list[int] = []
    good: list[dict[str, Any]] = []
    bad: list[Bad] = []
    size = 0
    for number, row, length in rows:
        if isinstance(row, Wrong):
            bad.append((number, row.reason, row.row))
        else:
            lines.append(number)
            good.append(row)
        size += length
        if len(lines) + len(bad) >= ROWS or size >= BYTES:
            yield _chunk(lines, good, bad, wanted)
            lines, good, bad, size = [], [], [], 0
    yield _chunk(lines, good, bad, wanted)


def _chunk(
    lines: list[int], rows: list[dict[str, Any]], bad: list[Bad], wanted: Sequence[str]
) -> Chunk:
    columns: dict[str, Cells] = {name: [row.get(name) for row in rows] for name in wanted}
    return Chunk(lines, columns, lambda i: as_json(rows[i]), bad)


def json_names(rows: Iterator[Row], wanted: Iterable[str]) -> list[str]:
    """The keys of the first 100 rows, or of as many more as it takes to meet each wanted one."""
    names: dict[str, None] = {}
    for number, (_, row, _) in enumerate(rows):
        if number >= 100 and names.keys() >= set(wanted):
            break
        if not isinstance(row, Wrong):
            names |= dict.fromkeys(row)
    return list(names)
