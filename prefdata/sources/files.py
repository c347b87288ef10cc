"""Files and Hub datasets as chunks of columns, with every row that cannot be decoded set aside.

JSONL (also .json with a row a line), JSON (an array of objects), CSV, TSV, Parquet, Arrow; text
formats may be gzipped. A chunk is bounded in rows and bytes, so that memory is that of the tables,
not the file's; only AnnotatedPairs, which are one JSON object, are read whole.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from prefdata.errors import RecipeError, nearest
from prefdata.sources.arrow_rows import (
    PARQUET,
    arrow_chunks,
    arrow_names,
    arrow_rows,
    file_batches,
    hub_batches,
    hub_bytes,
    hub_names,
    hub_rows,
    parquet_bytes,
)
from prefdata.sources.chunk import Chunk, opened
from prefdata.sources.csv_rows import csv_chunks, csv_names
from prefdata.sources.json_rows import json_chunks, json_names, json_principles, json_rows
from prefdata.sources.reshape import columns_made, file_columns, reshaped
from prefdata.sources.spec import SourceSpec

ARROW = (*PARQUET, "arrow", "ipc", "feather")
GZIPPED = ("jsonl", "ndjson", "json", "csv", "tsv")
SUFFIXES = (*GZIPPED, *ARROW)
TRIED = 1000  # rows by whose length it is said how many there are
UNPACKED = 4  # how much longer than a gzipped text it is, about
DELIMITERS = {"csv": ",", "tsv": "\t"}


def chunks(spec: SourceSpec, folder: Path, wanted: Sequence[str]) -> Iterator[Chunk]:
    """The rows of a source, in order, with the wanted columns that it has."""
    if spec.is_reshaped:
        return reshaped(spec, _own(spec, folder, file_columns(spec, wanted)), wanted)
    return _own(spec, folder, wanted)


def _own(spec: SourceSpec, folder: Path, wanted: Sequence[str]) -> Iterator[Chunk]:
    """The rows as the file has them."""
    if spec.hub is not None:
        return arrow_chunks(hub_batches(spec, wanted))
    path, suffix = locate(spec, folder)
    if suffix in ARROW:
        return arrow_chunks(file_batches(spec, path, suffix, wanted))
    if suffix in DELIMITERS:
        return csv_chunks(spec, path, DELIMITERS[suffix], wanted)
    return json_chunks(json_rows(spec, path), wanted)


def column_names(spec: SourceSpec, folder: Path, wanted: Iterable[str]) -> list[str]:
    """The names of a source's columns, read as cheaply as the format allows.

    Of JSON rows the first 100 are looked at, and more only while a wanted name is not among them.
    """
    if spec.is_reshaped:
        there = _own_names(spec, folder, file_columns(spec, ()))
        return columns_made(spec, there, wanted)
    return _own_names(spec, folder, wanted)


def _own_names(spec: SourceSpec, folder: Path, wanted: Iterable[str]) -> list[str]:
    if spec.hub is not None:
        return hub_names(spec)
    path, suffix = locate(spec, folder)
    if suffix in ARROW:
        return arrow_names(spec, path, suffix)
    if suffix in DELIMITERS:
        return csv_names(spec, path, DELIMITERS[suffix])
    return json_names(json_rows(spec, path), wanted)


def principles(spec: SourceSpec, folder: Path) -> list[dict[str, Any]]:
    """The principles that a file holds beside its votes, with how they fare."""
    if spec.hub is not None or spec.kind != "votes":
        return []
    path, suffix = locate(spec, folder)
    return json_principles(spec, path) if suffix == "json" else []


def locate(spec: SourceSpec, folder: Path) -> tuple[Path, str]:
    """The file of a source and its format, or a `RecipeError` with the nearest name."""
    path = folder / Path(str(spec.path)).expanduser()
    if not path.is_file():
        if path.is_dir():
            raise RecipeError(f"{spec.where}: {path} is a folder, not a file; {_within(path)}")
        there = [each.name for each in path.parent.glob("*")] if path.parent.is_dir() else []
        raise RecipeError(f"{spec.where}: {path} is not there; {nearest(path.name, there)}")
    parts = path.name.lower().split(".")
    gzipped = parts[-1] == "gz"
    suffix = parts[-2] if gzipped and len(parts) > 1 else parts[-1]
    known = GZIPPED if gzipped else SUFFIXES
    if suffix not in known:
        raise RecipeError(
            f"{spec.where}: .{suffix} is not a format that can be read; {nearest(suffix, known)}"
        )
    return path, suffix


def _within(folder: Path) -> str:
    """Which file of a folder can be named, such as a split of a view or of a saved dataset."""
    found = (
        each for each in sorted(folder.rglob("*"))
        if each.suffix[1:].lower() in (*ARROW, *DELIMITERS, "jsonl", "ndjson")
    )  # fmt: skip
    first = next(found, None)
    if first is None:
        return f"no file in it has rows that can be read ({', '.join(SUFFIXES)})"
    return f"name a file in it, such as {first}"


def size(specs: Iterable[SourceSpec], folder: Path, limit: int | None = None) -> int:
    """The bytes of the sources, unpacked; with a limit about those of so many rows of the first and
    of as large a share of the others."""
    specs = list(specs)
    whole = sum(_bytes(spec, folder) for spec in specs)
    if limit is None or not specs:
        return whole
    return math.ceil(whole * min(1.0, limit / max(1, lines(specs[0], folder, TRIED))))


def _bytes(spec: SourceSpec, folder: Path) -> int:
    if spec.hub is not None:
        return hub_bytes(spec)
    path, suffix = locate(spec, folder)
    if suffix in PARQUET:
        return parquet_bytes(spec, path)
    return path.stat().st_size * (UNPACKED if path.suffix == ".gz" else 1)


def lines(spec: SourceSpec, folder: Path, first: int) -> int:
    """How many lines a source has, as they are counted in its chunks; of a text about so many,
    after the length of the first."""
    if spec.hub is not None:
        return hub_rows(spec)
    path, suffix = locate(spec, folder)
    if suffix in ARROW:
        return arrow_rows(spec, path, suffix)
    if suffix in DELIMITERS:
        with opened(spec, path) as file:
            lengths = [len(line) for line in islice(file, first)]
    else:
        rows = islice(json_rows(spec, path), first)
        lengths = [length for _, _, length in rows]
    seen = sum(lengths)
    return (
        round(len(lengths) * _bytes(spec, folder) / seen) if len(lengths) == first else len(lengths)
    )
