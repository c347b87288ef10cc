"""What is in a version beside its texts: tables and exports, digested, shown and written.

From frames here, from shards on disk in `streamed`: both give the same digests and the same tables.
"""

# pyright: reportMissingTypeStubs=false

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, cast

import polars as pl
import pyarrow.parquet as pq

from prefdata.errors import TableError, VersionError, nearest
from prefdata.stage import Saving
from prefdata.tables import TABLES, Rows, check, references
from prefdata.version import arrow
from prefdata.version.content import table_digest
from prefdata.version.noise import noise
from prefdata.version.splits import TRAIN, assign_splits, part

Frames = Mapping[str, pl.DataFrame]


class Contents(Protocol):
    """The tables and exports of a version that is written."""

    @property
    def sampled(self) -> Mapping[str, int] | None:
        """How many `prompts` `of` how many are shown, where it is not all of them."""
        ...

    def digests(self) -> dict[str, tuple[int, str]]:
        """Rows and digest of every table that has rows, in the order of the pipeline."""
        ...

    def shapes(self) -> dict[str, Any]:
        """The columns of each export and its rows by split."""
        ...

    def noise(self) -> dict[str, Any]: ...

    def shown(self) -> Frames:
        """The tables that the card and the report are drawn from."""
        ...

    def fill(self, folder: Path) -> None:
        """Write tables and exports into a new version's folder."""
        ...


class Whole:
    """Tables and exports as frames."""

    sampled = None

    def __init__(
        self,
        tables: Frames,
        exports: Frames,
        savings: Mapping[str, Saving],
        splits: Mapping[str, float],
        seed: int,
    ) -> None:
        self._frames = assigned(checked(tables), splits, seed)
        refuse_dangling(self._frames)
        self._exports, self._savings, self._splits, self._seed = exports, savings, splits, seed
        self._parted: dict[str, dict[str, pl.DataFrame]] = {}

    def digests(self) -> dict[str, tuple[int, str]]:
        return {name: (table.height, table_digest(table)) for name, table in self._frames.items()}

    def shapes(self) -> dict[str, Any]:
        for view, rows in self._exports.items():
            by_split = part(rows, self._frames, self._splits, self._seed)
            self._parted[view] = saved(by_split, self._savings[view])
        return {view: shape(each) for view, each in self._parted.items()}

    def noise(self) -> dict[str, Any]:
        return noise(self._frames)

    def shown(self) -> Frames:
        return self._frames

    def fill(self, folder: Path) -> None:
        for name, table in self._frames.items():
            table.write_parquet(folder / f"{name}.parquet", compression="zstd")
        for view, splits in self._parted.items():
            write_view(folder / view, splits, self._savings[view])


def write_view(folder: Path, splits: Mapping[str, pl.DataFrame], saving: Saving) -> None:
    """An export with what it has beside its Arrow folder."""
    arrow.write(folder, splits)
    _also(folder, splits, saving)


Lost = tuple[str, str, str, str, pl.Series]


def dangling(frames: Frames) -> list[Lost]:
    """What rows refer to that is not there: table, column, the other table, its key and the ids."""
    lost: list[Lost] = []
    for name, table in frames.items():
        for column, other, key in references(name):
            there = frames[other][key] if other in frames else pl.Series(key, [], pl.String)
            said = table[column].drop_nulls().unique()
            gone = said.filter(~said.is_in(there.implode())).sort()
            if gone.len():
                lost.append((name, column, other, key, gone))
    return lost


def refuse_lost(lost: Iterable[Lost]) -> None:
    for name, column, other, _, ids in lost:
        raise TableError(
            f"table {name}, column {column}: refers to {ids.len()} {other} that are not "
            f"there, first {ids[0]!r}; a stage that removes rows of {other} has to leave "
            "those that others refer to"
        )


def refuse_dangling(frames: Frames) -> None:
    """`TableError` if a row refers to a row that no table has."""
    refuse_lost(dangling(frames))


def checked(frames: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The tables that have rows, in canonical form and in the order of the pipeline."""
    unknown = [name for name in frames if name not in TABLES]
    if unknown:
        raise VersionError(f"there is no table {unknown[0]!r}; {nearest(unknown[0], TABLES)}")
    rows = {name: frames[name] for name in TABLES if name in frames and frames[name].height}
    return {name: check(name, table, where="version") for name, table in rows.items()}


def assigned(
    frames: dict[str, pl.DataFrame], splits: Mapping[str, float], seed: int
) -> dict[str, pl.DataFrame]:
    made = assign_splits(frames, splits, seed)
    changed = {name: t for name, t in made.items() if t is not frames.get(name)}
    kept = {name: t for name, t in frames.items() if name not in changed} | checked(changed)
    return {name: kept[name] for name in TABLES if name in kept}


def shape(splits: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    columns = next(iter(splits.values())).columns
    return {"columns": columns, "splits": {name: rows.height for name, rows in splits.items()}}


class Saved:
    """The file that a split is saved as beside its Arrow folder, if any; rows may come in pieces.

    All pieces have the columns of the first, of which there is at least one.
    """

    def __init__(self, folder: Path, split: str, saved_as: str) -> None:
        self._path, self._as = folder / f"{split}.{saved_as}", saved_as
        self._open = ExitStack()
        self._into: Any = None

    def __enter__(self) -> "Saved":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, rows: pl.DataFrame) -> None:
        if self._as == "jsonl":
            self._into = self._into or self._open.enter_context(self._path.open("wb"))
            rows.write_ndjson(self._into)
        elif self._as == "parquet":
            table = cast(Any, rows).to_arrow(compat_level=pl.CompatLevel.oldest())
            if self._into is None:
                new = pq.ParquetWriter(self._path, table.schema, compression="zstd")
                self._into = self._open.enter_context(new)
            self._into.write_table(table)


def _also(folder: Path, splits: Mapping[str, pl.DataFrame], saving: Saving) -> None:
    """What an export has beside its Arrow folder."""
    for name, rows in splits.items():
        with Saved(folder, name, saving.saved_as) as file:
            file.add(rows)
    for name, text in saving.beside({split: Rows(rows) for split, rows in splits.items()}).items():
        (folder / name).write_text(text, encoding="utf-8")


def saved(splits: Mapping[str, pl.DataFrame], saving: Saving) -> dict[str, pl.DataFrame]:
    """The splits as they are saved: that for training may be parted by a column."""
    train, column = splits[TRAIN], saving.parted_by
    named = {TRAIN: train}
    if column and not train.is_empty():
        parts = train.partition_by(column, as_dict=True)
        named = {f"{column}_{value}": rows for (value,), rows in sorted(parts.items())}
    others = {name: rows for name, rows in splits.items() if name != TRAIN}
    return {**named, **{name: saving.held_out(Rows(rows)) for name, rows in others.items()}}
