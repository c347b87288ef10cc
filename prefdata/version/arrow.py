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
from collections.abc import Mapping
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
    _json(folder / "dataset_dict.json", {"splits": list(splits)})
    for name, rows in splits.items():
        _write_split(folder / name, name, rows, shard_bytes)


def splits(folder: Path) -> list[str]:
    """The names of the splits of a folder, in their order."""
    return json.loads((folder / "dataset_dict.json").read_text())["splits"]


def read(folder: Path, split: str | None = None) -> pl.DataFrame:
    """The rows of one split, or of all, of a folder that `write` or `datasets` made."""
    files = [
        file
        for name in ([split] if split else splits(folder))
        for file in sorted((folder / name).glob("*.arrow"))
    ]
    return pl.concat([pl.read_ipc_stream(file) for file in files])


def _write_split(folder: Path, name: str, rows: pl.DataFrame, shard_bytes: int) -> None:
    folder.mkdir()
    features = {column: _feature(dtype) for column, dtype in rows.schema.items()}
    schema = pa.schema([(column, _type(dtype)) for column, dtype in rows.schema.items()])
    said = json.dumps({"info": {"features": features}})
    schema = schema.with_metadata({"huggingface": said})
    shards = max(1, min(rows.height, math.ceil(rows.estimated_size() / shard_bytes)))
    size = math.ceil(rows.height / shards)
    files = [f"data-{at:05d}-of-{shards:05d}.arrow" for at in range(shards)]
    # once, since of a slice all texts would be converted anew for each batch
    whole = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    for at, file in enumerate(files):
        end = min((at + 1) * size, rows.height)
        with pa.ipc.new_stream(str(folder / file), schema) as stream:
            for start in range(at * size, end, BATCH_ROWS):
                # taken, so that no byte depends on the buffers that these rows are a slice of
                batch = whole.take(pa.array(range(start, min(start + BATCH_ROWS, end))))
                stream.write_table(batch.cast(schema))
    blank = {"citation": "", "description": "", "homepage": "", "license": ""}
    _json(folder / "dataset_info.json", {**blank, "features": features})
    state = {
        "_data_files": [{"filename": file} for file in files],
        # datasets caches what it computes under the fingerprint: it has to name the content
        "_fingerprint": _fingerprint(folder, files),
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": name,
    }
    _json(folder / "state.json", state)


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
