"""A chunk of a source's rows, on which every format agrees."""

import gzip
import json
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from prefdata.errors import SourceError
from prefdata.sources.spec import SourceSpec

# A chunk ends after so many rows or bytes, whichever comes first.
ROWS, BYTES = 50_000, 64 * 2**20
LARGEST = 8 * 2**20
KEPT = 2_000

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


def as_json(value: Any) -> str:
    """A quarantined row as JSON; a very long one is cut, and then is a JSON text."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > LARGEST:
        text = json.dumps(text[:KEPT], ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def opened(spec: SourceSpec, path: Path) -> Generator[IO[bytes]]:
    try:
        plain = path.suffix.lower() != ".gz"
        with path.open("rb") if plain else cast(IO[bytes], gzip.open(path)) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error
