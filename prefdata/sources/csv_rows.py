"""CSV and TSV as chunks: a header, then a row a record, every cell a text."""

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

from prefdata.errors import SourceError
from prefdata.sources.chunk import BYTES, LARGEST, ROWS, Bad, Cells, Chunk, as_json, opened
from prefdata.sources.spec import SourceSpec


def csv_names(spec: SourceSpec, path: Path, delimiter: str) -> list[str]:
    """The header."""
    with opened(spec, path) as file:
        return _header(spec, _reader(file, delimiter))


def _reader(file: IO[bytes], delimiter: str) -> Any:
    """The records. Where numbers have decimal commas, spreadsheets part cells by semicolons."""
    lines = _texts(file)
    first = next(lines, "").removeprefix("\ufeff")
    if delimiter == "," and "," not in first and ";" in first:
        delimiter = ";"
    return csv.reader(chain([first], lines), delimiter=delimiter)


def _texts(file: IO[bytes]) -> Iterator[str]:
    """The lines; bytes that are no UTF-8 stay recognizable."""
    return (line.decode("utf-8", "surrogateescape") for line in file)


def _header(spec: SourceSpec, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = _clean(next(reader, list[str]()))
    except csv.Error as error:
        raise SourceError(
            f"{spec.where}: the header is not CSV: {error}; lines end in \\n or \\r\\n"
        ) from error
    names = [] if names == [""] else names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SourceError(f"{spec.where}: two columns are called {twice!r}; rename one of them")
    return names


def csv_chunks(
    spec: SourceSpec, path: Path, delimiter: str, wanted: Sequence[str]
) -> Iterator[Chunk]:
    with opened(spec, path) as file:
        # A cell may be as long as a row; the module's own limit of 128 kB is its only setting.
        csv.field_size_limit(max(LARGEST, csv.field_size_limit()))
        reader = _reader(file, delimiter)
        names = _header(spec, reader)
        done = False
        while not done:
            lines: list[int] = []
            good: list[list[str]] = []
            bad: list[Bad] = []
            size = 0
            while len(lines) + len(bad) < ROWS and size < BYTES:
                line = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    done = True
                    break
                except csv.Error as error:
                    bad.append((line, f"bad CSV: {error}", '""'))
                    continue
                size += sum(map(len, cells))
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
        return "invalid UTF-8; a spreadsheet saves it as CSV UTF-8"
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
    return Chunk(
        lines, columns, lambda i: as_json(dict(zip(names, rows[i], strict=True))), bad, True
    )
