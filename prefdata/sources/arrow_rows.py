"""Parquet, Arrow and the Hub's datasets as chunks; only the wanted columns are read."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import polars as pl

from prefdata.disk.parquet import batches as parquet_batches
from prefdata.errors import SourceError
from prefdata.sources.chunk import BYTES, ROWS, Cells, Chunk, as_json
from prefdata.sources.spec import SourceSpec

PARQUET = ("parquet", "pq")


def arrow_chunks(batches: Iterable[Any]) -> Iterator[Chunk]:
    number = 0
    for batch in batches:
        frame = cast(pl.DataFrame, pl.from_arrow(batch))
        lines = list(range(number + 1, number + 1 + frame.height))
        number += frame.height
        columns: dict[str, Cells] = {name: frame[name] for name in frame.columns}
        columns |= as_objects(batch)
        yield Chunk(lines, columns, _row_of(frame), [])


def as_objects(batch: Any) -> dict[str, list[Any]]:
    """The columns of Arrow's JSON type, in which `datasets` keeps what has no one type, decoded."""
    kinds = {field.name: field.type for field in batch.schema}
    return {
        name: [_decoded(kind, cell) for cell in batch.column(name).to_pylist()]
        for name, kind in kinds.items()
        if _holds_json(kind)
    }


def _holds_json(kind: Any) -> bool:
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    return kind.equals(_pyarrow()[0].json_()) or any(map(_holds_json, inner))


def _decoded(kind: Any, cell: Any) -> Any:
    pa, _ = _pyarrow()
    if cell is None:
        return None
    if kind.equals(pa.json_()):
        return json.loads(cell)
    if pa.types.is_struct(kind):
        return {field.name: _decoded(field.type, cell[field.name]) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_decoded(kind.value_type, each) for each in cell]
    return cell


def _row_of(frame: pl.DataFrame) -> Callable[[int], str]:
    return lambda i: as_json(frame.row(i, named=True))


def _pyarrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet module, which have no types; loaded when a file needs them."""
    import pyarrow
    from pyarrow import parquet

    return cast(Any, pyarrow), cast(Any, parquet)


def file_batches(spec: SourceSpec, path: Path, suffix: str, wanted: Sequence[str]) -> Iterator[Any]:
    pa, parquet = _pyarrow()
    names = [name for name in dict.fromkeys(wanted) if name in arrow_names(spec, path, suffix)]
    try:
        if suffix in PARQUET:
            with parquet.ParquetFile(path) as file:
                size = _together(file.metadata.num_rows, parquet_bytes(spec, path))
                for batch in parquet_batches(file, size, names):
                    yield from _sliced(batch)  # what stands there once may be many rows' here
            return
        with _arrow(path) as (_, found):
            for batch in found:
                table = pa.Table.from_batches([batch]).select(names)
                yield from _sliced(table)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error


def _together(n: int, n_bytes: int) -> int:
    """How many of some rows, of so many bytes, are a chunk."""
    return max(1, min(ROWS, n * BYTES // max(1, n_bytes)))


def _sliced(rows: Any) -> Iterator[Any]:
    size = _together(rows.num_rows, rows.nbytes)
    return (rows.slice(at, size) for at in range(0, rows.num_rows, size))


def arrow_names(spec: SourceSpec, path: Path, suffix: str) -> list[str]:
    pa, parquet = _pyarrow()
    try:
        if suffix in PARQUET:
            return list(parquet.read_schema(path).names)
        with _arrow(path) as (schema, _):
            return list(schema.names)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error


def arrow_rows(spec: SourceSpec, path: Path, suffix: str) -> int:
    """How many rows a file has."""
    pa, parquet = _pyarrow()
    try:
        if suffix in PARQUET:
            return int(parquet.read_metadata(path).num_rows)
        with _arrow(path) as (_, batches):
            return sum(batch.num_rows for batch in batches)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error


def parquet_bytes(spec: SourceSpec, path: Path) -> int:
    """How many bytes a Parquet file is without its compression."""
    pa, parquet = _pyarrow()
    try:
        said = parquet.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{spec.where}: {path} cannot be read: {error}") from error
    return sum(said.row_group(at).total_byte_size for at in range(said.num_row_groups))


@contextmanager
def _arrow(path: Path) -> Generator[tuple[Any, Iterable[Any]]]:
    """The schema and the batches of an Arrow file or, where it is none, of an Arrow stream."""
    pa, _ = _pyarrow()
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


def hub_batches(spec: SourceSpec, wanted: Sequence[str]) -> Iterator[Any]:
    whole = _load_hub(spec, streaming=False)
    names = [name for name in whole.column_names if name in wanted]
    size = _together(len(whole), whole.data.nbytes)
    yield from whole.select_columns(names).with_format("arrow").iter(size)


def hub_bytes(spec: SourceSpec) -> int:
    """How many bytes a dataset is, which is fetched for that where it is not yet here."""
    return int(_load_hub(spec, streaming=False).data.nbytes)


def hub_rows(spec: SourceSpec) -> int:
    return len(_load_hub(spec, streaming=False))


def hub_names(spec: SourceSpec) -> list[str]:
    """The columns of a dataset's first row; nothing else of it is fetched."""
    first: dict[str, Any] | None = next(iter(_load_hub(spec, streaming=True)), None)
    return list(first or ())
