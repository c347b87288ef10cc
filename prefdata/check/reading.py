"""The rows of a file, a folder or a dataset of the Hub, by split, to be read in parts."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow
import pyarrow.parquet
from polars.io.plugins import register_io_source

from prefdata.disk import parquet
from prefdata.errors import SourceError
from prefdata.sources.arrow_rows import as_objects
from prefdata.version import arrow

pa, pq = cast(Any, pyarrow), cast(Any, pyarrow.parquet)

HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.-]+)?")
AT_ONCE = 20_000  # rows of an Arrow stream that are converted together


Batches = Callable[[list[str] | None], Iterator[Any]]


def _scan(schema: Any, batches: Batches) -> pl.LazyFrame:
    """Rows that pyarrow reads, one batch after the other; what polars scans itself runs ahead of
    whoever takes it in, and is held."""
    nothing = cast(pl.DataFrame, pl.from_arrow(schema.empty_table()))

    def read(
        columns: list[str] | None, wanted: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for part in _together(batches(columns)):
            frame = part if left is None else part.head(left)
            left = None if left is None else left - frame.height
            frame = frame.select(columns) if columns is not None else frame
            yield frame if wanted is None else frame.filter(wanted)
            if left == 0:
                return

    return register_io_source(read, schema=nothing.schema)


def _together(batches: Iterator[Any]) -> Iterator[pl.DataFrame]:
    """Record batches as frames of some thousand rows."""
    held: list[Any] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= AT_ONCE:
            yield cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches(held)))
            held = []
    if held:
        yield cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches(held)))


def _stream(path: Path) -> pl.LazyFrame:
    """An Arrow stream."""

    def batches(_: list[str] | None) -> Iterator[Any]:
        with pa.memory_map(str(path)) as data, pa.ipc.open_stream(data) as stream:
            yield from stream

    with pa.memory_map(str(path)) as data, pa.ipc.open_stream(data) as stream:
        return _scan(stream.schema, batches)


def scan_parquet(path: Path) -> pl.LazyFrame:
    """A Parquet file."""

    def batches(columns: list[str] | None) -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            yield from parquet.batches(file, AT_ONCE, columns)

    with pq.ParquetFile(path) as file:
        return _scan(file.schema_arrow, batches)


READERS: Mapping[str, Callable[[Path], pl.LazyFrame]] = {
    "jsonl": lambda path: pl.scan_ndjson(path, infer_schema_length=None),
    "ndjson": lambda path: pl.scan_ndjson(path, infer_schema_length=None),
    "json": lambda path: pl.read_json(path, infer_schema_length=None).lazy(),
    "csv": lambda path: pl.scan_csv(path, infer_schema_length=None),
    "parquet": scan_parquet,
    "arrow": _stream,
}


def frames_of(target: str) -> dict[str, pl.LazyFrame]:
    """The rows by split of a file, a folder or a dataset of the Hub, whatever columns it has.

    Files are not read before their rows are collected, but for what tells their columns.
    """
    path = Path(target).expanduser()
    if path.is_file():
        return {"train": _file(path)}
    if path.is_dir():
        return _folder(path)
    if HUB.fullmatch(target):
        return _hub(target)
    raise SourceError(
        f"{target!r} is neither a file, a folder nor a version, and no name of a Hub dataset "
        "(org/name or org/name:config)"
    )


def _file(path: Path) -> pl.LazyFrame:
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in READERS:
        raise SourceError(f"{path}: .{suffix} cannot be read; there is {', '.join(READERS)}")
    try:
        frame = READERS[suffix](path)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    return frame


def _folder(path: Path) -> dict[str, pl.LazyFrame]:
    """A `save_to_disk` of a DatasetDict or Dataset, or data files named by their split."""
    if (path / "dataset_dict.json").is_file():
        return {
            split: pl.concat([_file(each) for each in sorted((path / split).glob("*.arrow"))])
            for split in arrow.splits(path)
        }
    files = sorted(each for each in path.rglob("*") if each.suffix.lstrip(".") in READERS)
    if (path / "dataset_info.json").is_file():
        return {"train": pl.concat([_file(each) for each in files if each.suffix == ".arrow"])}
    found: dict[str, list[pl.LazyFrame]] = {}
    for each in files:
        if each.name not in ("dataset_info.json", "state.json"):
            split = re.split(r"[-_.]", each.name)[0]
            found.setdefault(split, []).append(_file(each))
    if not found:
        raise SourceError(f"{path} has no data files; there can be {', '.join(READERS)}")
    return {
        split: together(f"the files of {split} in {path}", parts) for split, parts in found.items()
    }


def together(what: str, frames: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Frames under each other, which may have columns that others have not."""
    try:
        whole = pl.concat(frames, how="diagonal_relaxed")
        whole.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"{what} are no one dataset, since a column has another type there: {error}; give the "
            "files one by one"
        ) from error
    return whole


def _hub(target: str) -> dict[str, pl.LazyFrame]:
    import datasets

    name, _, config = target.partition(":")
    try:
        loaded: Any = datasets.load_dataset(name, config or None)
    except Exception as error:
        # datasets raises whatever its file systems do
        raise SourceError(f"the Hub's dataset {target!r} cannot be loaded: {error}") from error
    frames: dict[str, pl.LazyFrame] = {}
    for split, part in loaded.items():
        rows = part.with_format("arrow")[:]
        frame = cast(pl.DataFrame, pl.from_arrow(rows))
        objects = pl.DataFrame(as_objects(rows), infer_schema_length=None, strict=False)
        frames[str(split)] = frame.with_columns(objects.get_columns()).lazy()
    return frames
