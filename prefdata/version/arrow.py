"""Frames as a folder that `datasets.load_from_disk` memory-maps, and back.

Written without `datasets`, whose import takes longer than most builds: a folder per split holding
Arrow streams, which polars (`read_ipc_stream`) and pyarrow (`ipc.open_stream`) read too. Lists are
named in the older of the two ways that `datasets` knows, so every release of it since 2.0 can read
them. Equal frames give equal bytes.
"""

# pyright: basic, reportAttributeAccessIssue=false
# pyarrow has no types

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from prefdata.errors import TableError

SHARD_BYTES = 500 << 20
BATCH_ROWS = 1000


def write(
    folder: Path, splits: Mapping[str, pl.DataFrame], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write a `DatasetDict` of the given splits, in files of about `shard_bytes`."""
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        shards = max(1, min(rows.height, math.ceil(rows.estimated_size() / shard_bytes)))
        size = max(1, math.ceil(rows.height / shards))
        with Split(folder, name, rows.schema, size) as split:
            split.add(rows)
    said(folder, list(splits))


def said(folder: Path, splits: Sequence[str]) -> None:
    """Say which splits a folder has, once they are written."""
    _json(folder / "dataset_dict.json", {"splits": list(splits)})


def splits(folder: Path) -> list[str]:
    """The names of the splits of a folder, in their order."""
    return json.loads((folder / "dataset_dict.json").read_text())["splits"]


def read(folder: Path, split: str | None = None, where: pl.Expr | None = None) -> pl.DataFrame:
    """The rows of one split, or of all, of a folder that `write` or `datasets` made.

    With `where` no more than one of its files is held whole.
    """
    files = [
        file
        for name in ([split] if split else splits(folder))
        for file in sorted((folder / name).glob("*.arrow"))
    ]
    rows = (pl.read_ipc_stream(file) for file in files)
    return pl.concat(rows if where is None else (each.filter(where) for each in rows))


class Split:
    """A split that is written, whose rows may come in pieces: a new file begins after `size` rows.

    Without a `size` the first rows say how many are about `SHARD_BYTES`.
    """

    def __init__(
        self, folder: Path, name: str, columns: Mapping[str, Any], size: int | None = None
    ) -> None:
        self._folder, self._name, self._size = folder / name, name, size
        self._folder.mkdir(parents=True)
        self._features = {column: _feature(dtype) for column, dtype in columns.items()}
        metadata = json.dumps({"info": {"features": self._features}})
        types = [(column, _type(dtype)) for column, dtype in columns.items()]
        self._schema = pa.schema(types).with_metadata({"huggingface": metadata})
        self._stream: Any = None
        self._rows = self._files = self.height = 0

    def __enter__(self) -> "Split":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
        elif self._stream is not None:
            self._stream.close()

    def add(self, rows: pl.DataFrame) -> None:
        # once, since of a slice all texts would be converted anew for each batch
        whole = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        size = self._size or _fitting(rows)
        start = 0
        while start < rows.height:
            if self._stream is None or self._rows >= size:
                self._stream = self._next()
            end = min(start + BATCH_ROWS, start + size - self._rows, rows.height)
            # taken, so that no byte depends on the buffers that these rows are a slice of
            batch = whole.take(pa.array(range(start, end)))
            self._stream.write_table(batch.cast(self._schema))
            self._rows += end - start
            start = end
        self.height += rows.height

    def close(self) -> None:
        stream = self._next() if self._stream is None else self._stream
        stream.close()
        files = [f"data-{at:05d}-of-{self._files:05d}.arrow" for at in range(self._files)]
        for at, file in enumerate(files):
            self._part(at).rename(self._folder / file)
        blank = {"citation": "", "description": "", "homepage": "", "license": ""}
        _json(self._folder / "dataset_info.json", {**blank, "features": self._features})
        state = {
            "_data_files": [{"filename": file} for file in files],
            # datasets caches what it computes under the fingerprint: it has to name the content
            "_fingerprint": _fingerprint(self._folder, files),
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": self._name,
        }
        _json(self._folder / "state.json", state)

    def _next(self) -> Any:
        """A new file, once the last one is whole."""
        if self._stream is not None:
            self._stream.close()
        self._files, self._rows = self._files + 1, 0
        return pa.ipc.new_stream(str(self._part(self._files - 1)), self._schema)

    def _part(self, at: int) -> Path:
        return self._folder / f"data-{at:05d}.arrow"


def _fitting(rows: pl.DataFrame) -> int:
    """How many rows like these fill a file."""
    return max(1, int(SHARD_BYTES * rows.height / max(rows.estimated_size(), 1)))


def _fingerprint(folder: Path, files: list[str]) -> str:
    into = hashlib.blake2b(digest_size=8)
    for file in files:
        with (folder / file).open("rb") as data:
            into.update(hashlib.file_digest(data, "blake2b").digest())
    return into.hexdigest()


def _json(path: Path, said: Any) -> None:
    path.write_text(json.dumps(said, indent=2), encoding="utf-8")


_PLAIN: dict[pl.DataType, tuple[str, Any]] = {
    pl.String(): ("string", pa.string()),
    pl.Int64(): ("int64", pa.int64()),
    pl.Float64(): ("float64", pa.float64()),
    pl.Boolean(): ("bool", pa.bool_()),
}


def _type(dtype: Any) -> Any:
    if isinstance(dtype, pl.List):
        return pa.list_(_type(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pa.struct([(field.name, _type(field.dtype)) for field in dtype.fields])
    return _plain(dtype)[1]


def _feature(dtype: Any) -> Any:
    if isinstance(dtype, pl.List):
        return [_feature(dtype.inner)]
    if isinstance(dtype, pl.Struct):
        return {field.name: _feature(field.dtype) for field in dtype.fields}
    return {"dtype": _plain(dtype)[0], "_type": "Value"}


def _plain(dtype: Any) -> tuple[str, Any]:
    if dtype not in _PLAIN:
        raise TableError(
            f"an export has a column of type {dtype}; it holds {list(_PLAIN)} and lists"
        )
    return _PLAIN[dtype]
