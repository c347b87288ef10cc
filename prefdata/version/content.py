"""What a table says, apart from how it is stored: the digest that a version's id is made of.

Each column is written in one canonical form, whatever polars or the platform hold it in: little
endian; text as lengths and UTF-8; lists as lengths and their elements; a null as a zero in the
column's mask; a number rounded to nine significant digits, correctly, through its decimal form.
Rows stand in the order of their key, columns in the order of their names. A column that is all
null and a table without rows say nothing, so a new optional column leaves old ids as they are.
"""

# pyright: basic, reportAttributeAccessIssue=false
# pyarrow has no types

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from prefdata.tables import digest

FORMAT = 1
DIGITS = 9


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


def table_digest(table: pl.DataFrame) -> str:
    """20 hexadecimal digits over a table in canonical form (as `tables.check` returns it)."""
    into = hashlib.blake2b(digest_size=10)
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    for name in sorted(arrow.column_names):
        column: Any = arrow.column(name).combine_chunks()
        if column.null_count < len(column):
            into.update(f"{name}\n".encode())
            _feed(into, column)
    return into.hexdigest()


def version_id(
    frames: Mapping[str, str], resolved: Mapping[str, Any], judges: Mapping[str, str]
) -> str:
    """12 hexadecimal digits over the digests of tables and judges and the resolved recipe."""
    return digest("version", FORMAT, dict(frames), dict(resolved), dict(judges))[:12]


def _feed(into: _Hash, column: Any) -> None:
    """One Arrow array, and what it is made of, into a hash."""
    kind = column.type
    into.update(f"{_kind(kind)} {len(column)} {column.null_count}\n".encode())
    if column.null_count:
        into.update(_bytes(column.is_valid(), np.uint8))
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        into.update(_bytes(_filled(column.value_lengths(), 0), "<i8"))
        _feed(into, column.flatten())
    elif pa.types.is_struct(kind):
        fields = {kind.field(at).name: part for at, part in enumerate(column.flatten())}
        for name in sorted(fields):
            into.update(f"{name}\n".encode())
            _feed(into, fields[name])
    elif _kind(kind) == "string":
        _feed_text(into, _filled(column, ""))
    elif _kind(kind) == "number":
        into.update(np.ascontiguousarray(_rounded(_array(_filled(column, 0.0)))).astype("<f8"))
    else:
        filled = _filled(column, False if _kind(kind) == "boolean" else 0)
        into.update(_bytes(filled, np.uint8 if _kind(kind) == "boolean" else "<i8"))


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


def _feed_text(into: _Hash, column: Any) -> None:
    column = column.cast(pa.large_string())
    _, offsets, text = column.buffers()
    if not len(column):
        return
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    into.update(np.diff(ends).astype("<i8"))
    if text is not None:
        into.update(memoryview(text)[int(ends[0]) : int(ends[-1])])


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
