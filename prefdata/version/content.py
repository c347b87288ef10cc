"""What a table says, apart from how it is stored: the digest that a version's id is made of.

Each column is written in one canonical form, whatever polars or the platform hold it in: little
endian; text as lengths and UTF-8; lists as lengths and their elements; a null as a zero in the
column's mask; a number rounded to nine significant digits, correctly, through its decimal form.
Masks, lengths and values are a stream each, so a table may come in pieces. Rows stand in the order
of their key, columns in that of their names. A column that is all null and a table without rows say
nothing, so a new optional column leaves old ids as they are.
"""

# pyright: basic, reportAttributeAccessIssue=false
# pyarrow has no types

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from prefdata.tables import digest

FORMAT = 2
DIGITS = 9
STREAMS = ("mask", "lengths", "values")


class Content:
    """The digest of a table that comes in pieces, in canonical form and in the order of its key."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, ...], Any] = {}
        self._kinds: dict[tuple[str, ...], str] = {}
        self._said: set[str] = set()

    def add(self, rows: pl.DataFrame) -> None:
        arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        for name in arrow.column_names:
            column: Any = arrow.column(name).combine_chunks()
            if column.null_count < len(column):
                self._said.add(name)
            self._feed((name,), column)

    def hexdigest(self) -> str:
        """20 hexadecimal digits."""
        into = hashlib.blake2b(digest_size=10)
        for path in sorted(self._kinds):
            if path[0] in self._said:
                streams = ((each, self._streams.get((*path, each))) for each in STREAMS)
                ends = [f"{each} {said.hexdigest()}" for each, said in streams if said]
                into.update(f"{json.dumps([*path, self._kinds[path], *ends])}\n".encode())
        return into.hexdigest()

    def _feed(self, path: tuple[str, ...], column: Any) -> None:
        """One Arrow array, and what it is made of, into its streams."""
        kind = self._kinds[path] = _kind(column.type)
        valid = _bytes(column.is_valid(), np.uint8)
        self._into(path, "mask", valid)
        if kind == "array":
            self._into(path, "lengths", _bytes(_filled(column.value_lengths(), 0), "<i8"))
            self._feed((*path, "[]"), column.flatten())
        elif kind == "object":
            for at, part in enumerate(column.flatten()):
                self._feed((*path, column.type.field(at).name), part)
        elif kind == "string":
            lengths, text = _text(_filled(column, ""))
            self._into(path, "lengths", lengths)
            self._into(path, "values", text)
        elif kind == "number":
            values = np.ascontiguousarray(_rounded(_array(_filled(column, 0.0)))).astype("<f8")
            self._into(path, "values", values)
        else:
            filled = _filled(column, False if kind == "boolean" else 0)
            self._into(path, "values", _bytes(filled, np.uint8 if kind == "boolean" else "<i8"))

    def _into(self, path: tuple[str, ...], stream: str, data: Any) -> None:
        if (*path, stream) not in self._streams:
            self._streams[*path, stream] = hashlib.blake2b(digest_size=16)
        self._streams[*path, stream].update(data)


def table_digest(table: pl.DataFrame) -> str:
    """20 hexadecimal digits over a table in canonical form (as `tables.check` returns it)."""
    content = Content()
    content.add(table)
    return content.hexdigest()


def version_id(
    frames: Mapping[str, str],
    resolved: Mapping[str, Any],
    judges: Mapping[str, str],
    form: int = FORMAT,
) -> str:
    """12 hexadecimal digits over the digests of tables and judges and the resolved recipe.

    `form` is the version's own, of which older ones digested their tables in another way.
    """
    return digest("version", form, dict(frames), dict(resolved), dict(judges))[:12]


def _kind(kind: Any) -> str:
    """The JSON Schema word for an Arrow type."""
    words = {
        "string": (pa.types.is_large_string, pa.types.is_string, pa.types.is_null),
        "number": (pa.types.is_floating,),
        "integer": (pa.types.is_integer,),
        "boolean": (pa.types.is_boolean,),
        "array": (pa.types.is_large_list, pa.types.is_list),
        "object": (pa.types.is_struct,),
    }
    return next(word for word, tests in words.items() if any(test(kind) for test in tests))


def _filled(column: Any, value: Any) -> Any:
    """With `value` where it is null. (One that pyarrow had to convert would import pandas.)"""
    if not column.null_count:
        return column
    return column.fill_null(pa.array(np.array([value])).cast(column.type)[0])


def _text(column: Any) -> tuple[Any, Any]:
    """The lengths of texts in bytes, and their bytes."""
    column = column.cast(pa.large_string())
    _, offsets, text = column.buffers()
    if not len(column):
        return b"", b""
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    said = b"" if text is None else memoryview(text)[int(ends[0]) : int(ends[-1])]
    return np.diff(ends).astype("<i8"), said


def _array(column: Any) -> np.ndarray[Any, Any]:
    """A column without nulls. (Not `to_numpy`, which imports pandas.)"""
    return np.from_dlpack(column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column)


def _bytes(column: Any, dtype: Any) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(_array(column).astype(dtype))


def _rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers to nine significant digits; by text, the one rounding that is equal everywhere."""
    once, place = np.unique(values.astype(np.float64), return_inverse=True)
    near = [float(f"{value:.{DIGITS - 1}e}") for value in once.tolist()]
    return (np.array(near, np.float64) + 0.0)[place]
