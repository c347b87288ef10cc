"""Parquet files that are read some rows at a time, in memory that does not grow with the file."""

from collections.abc import Iterator, Sequence
from typing import Any


def batches(file: Any, n_rows: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of an open `pyarrow.parquet.ParquetFile`, at most so many together.

    Each group of rows has a reader of its own: one of several holds what it has read of all.
    """
    for group in range(file.num_row_groups):
        yield from file.iter_batches(n_rows, row_groups=[group], columns=columns)
