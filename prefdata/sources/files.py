"""Files and Hub datasets as chunks of columns, with every row that cannot be decoded set aside.

JSONL (also .json with a row a line), JSON (an array of objects), CSV, TSV, Parquet, Arrow; text
formats may be gzipped. A chunk is bounded, so that memory is that of the tables, not the file's.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from prefdata.errors import RecipeError, SourceError, nearest
from prefdata.sources.spec import SourceSpec

ROWS = 50_000
LARGEST = 8 * 2**20
KEPT = 2_000
SUFFIXES = "jsonl ndjson json csv tsv parquet pq arrow ipc feather".split()
GZIPPED = ("jsonl", "ndjson", "json", "csv", "tsv")

Cells = pl.Series | list[Any]
Bad = tuple[int, str, str]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source.

    `line` is each row's line, from 1 (in formats without lines its number); `columns` are those
    that were asked for and are there; `row(i)` is row i as JSON; `bad` are the rows that could not
    be decoded, as (line, reason, what stood there). In a `text` format numbers are written out.
    """

    line: list[int]
    columns: dict[str, Cells]
    row: Callable[[int], str]
    bad: list[Bad]
    text: bool = False


def chunks(spec: SourceSpec, folder: Path, wanted: Sequence[str]) -> Iterator[Chunk]:
    """The rows of a source, in order. Of the typed formats only the wanted columns are read."""
    if spec.hub is not None:
        return _from_arrow(_hub_batches(spec, wanted))
    path, suffix = locate(spec, folder)
    if suffix in ("parquet", "pq", "arrow", "ipc", "feather"):
        return _from_arrow(_file_batches(spec, path, suffix, wanted))
    if suffix in ("csv", "tsv"):
        return _from_csv(spec, path, "," if suffix == "csv" else "\t", wanted)
    return _from_rows(_json_rows(spec, path), wanted)


def column_names(spec: SourceSpec, folder: Path, wanted: Iterable[str]) -> list[str]:
    """The names of a source's columns, read as cheaply as the format allows.

    Of JSON rows the first 100 are looked at, and more only while a wanted name is not among them.
    """
    if spec.hub is not None:
        first = next(iter(_load_hub(spec, streaming=True)), None)
        return list(first or ())
    path, suffix = locate(spec, folder)
    if suffix in ("parquet", "pq", "arrow", "ipc", "feather"):
        return _arrow_names(spec, path, suffix)
    if suffix in ("csv", "tsv"):
        with _opened(spec, path) as file:
            text = (line.decode("utf-8-sig", "replace") for line in file)
            return next(csv.reader(text, delimiter="," if suffix == "csv" else "\t"), [])
    names: dict[str, None] = {}
    for number, (_, row, _) in enumerate(_json_rows(spec, path)):
        if number >= 100 and all(name in names for name in wanted):
            break
        names.update(dict.fromkeys(row if isinstance(row, dict) else ()))
    return list(names)


def locate(spec: SourceSpec, folder: Path) -> tuple[Path, str]:
    """The file of a source and its format, or a `RecipeError` with the nearest name."""
    path = folder / Path(str(spec.path)).expanduser()
    if not path.is_file():
        there = [each.name for each in path.parent.glob("*")] if path.parent.is_dir() else []
        what = "is a folder, not a file" if path.is_dir() else "is not there"
        raise RecipeError(f"{spec.where}: {path} {what}; {nearest(path.name, there)}")
    parts = path.name.lower().split(".")
    gzipped = parts[-1] == "gz"
    suffix = parts[-2] if gzipped and len(parts) > 1 else parts[-1]
    known = GZIPPED if gzipped else SUFFIXES
    if suffix not in known:
        raise RecipeError(
            f"{spec.where}: .{suffix} is not a format that can be read; {nearest(suffix, known)}"
        )
    return path, suffix


@contextmanager
def _opened(spec: SourceSpec, path: Path) -> Iterator[IO[bytes]]:
    try:
        plain = path.suffix.lower() != ".gz"
        with path.open("rb") if plain else cast(IO[bytes], gzip.open(path)) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error


# JSON


def _json_rows(spec: SourceSpec, path: Path) -> Iterator[tuple[int, Any, bytes]]:
    """(line, row, what stood there); a row that is an Exception could not be decoded."""
    with _opened(spec, path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(0)
        if start.startswith(b"[") and path.name.lower().removesuffix(".gz").endswith(".json"):
            yield from _array(spec, file.read())
        else:
            yield from _lines(file)


def _array(spec: SourceSpec, text: bytes) -> Iterator[tuple[int, Any, bytes]]:
    try:
        rows = json.loads(text.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{spec.where} is not a JSON array of rows: {error}; mend it, or give it as .jsonl, "
            "of which only the bad lines would be left out"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield number, _checked(row), b""


def _lines(file: IO[bytes]) -> Iterator[tuple[int, Any, bytes]]:
    number = 0
    while line := file.readline(LARGEST + 1):
        number += 1
        if len(line) > LARGEST:
            length = len(line)
            while not line.endswith(b"\n") and (rest := file.readline(LARGEST)):
                length += len(rest)
                line = line[:KEPT] + rest[-1:]
            reason = f"the row has {length} bytes, more than {LARGEST}"
            yield number, ValueError(reason), line[:KEPT]
            continue
        line = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if line:
            yield number, _decoded(line), line


def _decoded(line: bytes) -> Any:
    try:
        row = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return ValueError(f"invalid UTF-8 at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return ValueError(f"bad JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:
        return ValueError(f"bad JSON: {error}")
    return _checked(row) if b"\\ud" in line or b"\\uD" in line else _an_object(row)


def _checked(row: Any) -> Any:
    """The row, unless it is no object or has half of a surrogate pair, which no file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        return ValueError("invalid UTF-8: half of a surrogate pair")
    return _an_object(row)


def _an_object(row: Any) -> Any:
    kind = type(row)
    return row if kind is dict else ValueError(f"a row is an object, but this is a {kind.__name__}")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _from_rows(rows: Iterator[tuple[int, Any, bytes]], wanted: Sequence[str]) -> Iterator[Chunk]:
    lines: list[int] = []
    good: list[dict[str, Any]] = []
    bad: list[Bad] = []
    for number, row, raw in rows:
        if isinstance(row, Exception):
            bad.append((number, str(row), as_json(raw.decode("utf-8", "replace"))))
        else:
            lines.append(number)
            good.append(row)
        if len(lines) + len(bad) >= ROWS:
            yield _rows_chunk(lines, good, bad, wanted)
            lines, good, bad = [], [], []
    yield _rows_chunk(lines, good, bad, wanted)


def _rows_chunk(
    lines: list[int], rows: list[dict[str, Any]], bad: list[Bad], wanted: Sequence[str]
) -> Chunk:
    columns: dict[str, Cells] = {name: [row.get(name) for row in rows] for name in wanted}
    return Chunk(lines, columns, lambda i: as_json(rows[i]), bad)


def as_json(value: Any) -> str:
    """A quarantined row as JSON; a very long one is cut, and then is a JSON text."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > LARGEST:
        text = json.dumps(text[:KEPT], ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


# CSV


def _from_csv(
    spec: SourceSpec, path: Path, delimiter: str, wanted: Sequence[str]
) -> Iterator[Chunk]:
    with _opened(spec, path) as file:
        # A cell may be as long as a row; the module's own limit of 128 kB is its only setting.
        csv.field_size_limit(max(LARGEST, csv.field_size_limit()))
        text = (line.decode("utf-8", "surrogateescape") for line in file)
        reader = csv.reader(text, delimiter=delimiter)
        names = [name.encode("utf-8", "replace").decode() for name in next(reader, [])]
        names[:1] = [name.removeprefix("\ufeff") for name in names[:1]]
        done = False
        while not done:
            lines: list[int] = []
            good: list[list[str]] = []
            bad: list[Bad] = []
            while len(lines) + len(bad) < ROWS:
                line = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    done = True
                    break
                except csv.Error as error:
                    bad.append((line, f"bad CSV: {error}", '""'))
                    continue
                reason = _wrong_cells(cells, names)
                if reason:
                    bad.append((line, reason, as_json(_clean(cells))))
                elif cells:
                    lines.append(line)
                    good.append(cells)
            yield _csv_chunk(lines, good, bad, names, wanted)


def _wrong_cells(cells: list[str], names: list[str]) -> str:
    if cells and len(cells) != len(names):
        return f"bad CSV: the row has {len(cells)} cells, the header {len(names)}"
    if any(not cell.isascii() and _clean([cell]) != [cell] for cell in cells):
        return "invalid UTF-8"
    return ""


def _clean(cells: list[str]) -> list[str]:
    return [cell.encode("utf-8", "replace").decode("utf-8") for cell in cells]


def _csv_chunk(
    lines: list[int], rows: list[list[str]], bad: list[Bad], names: list[str], wanted: Sequence[str]
) -> Chunk:
    columns: dict[str, Cells] = {}
    for name in wanted:
        if name in names:
            at = names.index(name)
            columns[name] = [row[at] for row in rows]
    return Chunk(lines, columns, lambda i: as_json(dict(zip(names, rows[i], strict=True))), bad, True)


# Parquet, Arrow and the Hub


def _from_arrow(batches: Iterable[Any]) -> Iterator[Chunk]:
    number = 0
    for batch in batches:
        frame = cast(pl.DataFrame, pl.from_arrow(batch))
        lines = list(range(number + 1, number + 1 + frame.height))
        number += frame.height
        columns: dict[str, Cells] = {name: frame[name] for name in frame.columns}
        yield Chunk(lines, columns, _row_of(frame), [])


def _row_of(frame: pl.DataFrame) -> Callable[[int], str]:
    return lambda i: as_json(frame.row(i, named=True))


def _file_batches(
    spec: SourceSpec, path: Path, suffix: str, wanted: Sequence[str]
) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    names = [name for name in dict.fromkeys(wanted) if name in _arrow_names(spec, path, suffix)]
    try:
        if suffix in ("parquet", "pq"):
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=ROWS, columns=names)
            return
        with _arrow(path) as (_, batches):
            for batch in batches:
                table = pa.Table.from_batches([batch]).select(names)
                yield from (table.slice(i, ROWS) for i in range(0, table.num_rows, ROWS))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error


def _arrow_names(spec: SourceSpec, path: Path, suffix: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if suffix in ("parquet", "pq"):
            return list(parquet.read_schema(path).names)
        with _arrow(path) as (schema, _):
            return list(schema.names)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error


@contextmanager
def _arrow(path: Path) -> Iterator[tuple[Any, Iterable[Any]]]:
    """The schema and the batches of an Arrow file or, where it is none, of an Arrow stream."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            file: Any = pa.ipc.open_file(source)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            file = pa.ipc.open_stream(source)
            batches = iter(file)
        yield file.schema, batches


def _load_hub(spec: SourceSpec, *, streaming: bool) -> Any:
    from datasets import load_dataset  # pyright: ignore[reportUnknownVariableType]

    try:
        return load_dataset(
            str(spec.hub),
            spec.config,
            split=spec.split,
            revision=spec.revision,
            streaming=streaming,
        )
    except Exception as error:
        raise SourceError(
            f"{spec.where} (config {spec.config}, split {spec.split}) cannot be loaded: {error}"
        ) from error


def _hub_batches(spec: SourceSpec, wanted: Sequence[str]) -> Iterator[Any]:
    whole = _load_hub(spec, streaming=False)
    names = [name for name in whole.column_names if name in wanted]
    yield from whole.select_columns(names).with_format("arrow").iter(ROWS)
