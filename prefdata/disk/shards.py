"""The tables of a build on disk, parted by prompt, for what is too large to be held at once.

All that is about one prompt is in one shard; what is about none (principles, measures, scores of
annotators) is common to all. Tables do not depend on the number of shards, nor does a version's id;
the order in which exports have their rows does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import tables as t
from prefdata.tables import Tables
from prefdata.whole import writable

# Whose rows are about no prompt.
COMMON = ("principles", "measures")
# Of scores, the subjects that are about one prompt.
OF_PROMPTS = ("pair", "completion", "prompt")
# What else than a prompt's id tells the prompt of a row, by table.
REFERS = {
    "scores": "subject_id",
    "rationales": "pair_id",
    "assignments": "completion_a",
    "annotations": "completion_a",
}


def shard_of(prompt_id: pl.Expr, n: int) -> pl.Expr:
    """The shard of each prompt, from the digits of its id; null where there is no prompt."""
    return prompt_id.str.slice(0, 8).str.to_integer(base=16, dtype=pl.Int64) % n


# The tables whose rows are about one prompt each, and their keys, to which others refer.
OWNERS = {"prompts": "prompt_id", "completions": "completion_id", "pairs": "pair_id"}


def prompts_of(
    name: str, frame: pl.DataFrame, owners: Callable[[pl.DataFrame], pl.DataFrame]
) -> pl.Series:
    """The prompt of each row of a table; null where it has none.

    `owners` tells the prompts of some `id`s of prompts, completions and pairs.
    """
    if "prompt_id" in frame.columns:
        return frame["prompt_id"]
    if name not in REFERS:
        return pl.Series("prompt_id", [None] * frame.height, pl.String)
    ids = frame.select(id=REFERS[name])
    found = ids.join(owners(ids.unique()), on="id", how="left", maintain_order="left")
    return found["prompt_id"]


def owners(tables: Mapping[str, pl.DataFrame | pl.LazyFrame], ids: pl.DataFrame) -> pl.DataFrame:
    """The prompts of some `id`s of prompts, completions and pairs, as (id, prompt_id)."""
    found = [
        tables.get(name, t.empty(name))
        .lazy()
        .select(pl.col(key).alias("id"), pl.col("prompt_id").alias("prompt_id"))
        .join(ids.lazy(), on="id", how="semi")
        .collect(engine="streaming")
        for name, key in OWNERS.items()
    ]
    return pl.concat(found).unique("id")


class Shards:
    """`n` shards of tables below a folder, and what is common to them.

    What is put stands in for what was there. A table's rows are those of its schema, but of what is
    not a table of ours (the rows of an export) any.
    """

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        self.n = n
        self._rows: dict[str, dict[int, int]] = {}
        self._files: dict[tuple[str, int], Path] = {}
        self._written = 0
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def names(self) -> list[str]:
        return list(self._rows)

    def rows(self, name: str) -> int:
        """How many rows a table has in all."""
        return sum(self._rows.get(name, {}).values())

    def own_rows(self, name: str, at: int) -> int:
        """How many rows of a table a shard has of its own."""
        return self._rows.get(name, {}).get(at, 0)

    def heights(self) -> dict[str, int]:
        return {name: self.rows(name) for name in self._rows}

    @property
    def common(self) -> int:
        """The number under which the rows stand that are about no prompt."""
        return self.n

    def put(self, at: int, tables: Mapping[str, pl.DataFrame]) -> None:
        """Set down the rows of a shard, or of what is common."""
        for name, frame in tables.items():
            old = self._files.pop((name, at), None)
            self._rows.setdefault(name, {})[at] = frame.height
            if frame.height or name not in t.TABLES:
                self._written += 1
                path = self.folder / f"{name}-{at}-{self._written}.parquet"
                with writable(self.folder):
                    frame.write_parquet(path, compression="lz4", statistics=False)
                self._files[name, at] = path
            if old is not None:
                old.unlink()

    def take(self, at: int, name: str) -> pl.DataFrame:
        """A shard's own rows of a table, which need no room on the disk from then on."""
        frame = self._read(name, at)
        path = self._files.pop((name, at), None)
        if path is not None:
            path.unlink()
        return frame

    def own(self, at: int, names: Iterable[str]) -> Tables:
        """A shard's own rows of the tables that are there."""
        return {name: self._read(name, at) for name in names if name in self._rows}

    def get(self, at: int, names: Iterable[str]) -> Tables:
        """A shard's rows of the tables that are there, with what is common."""
        return {
            name: _sorted(name, [self._read(name, at), self._read(name, self.common)])
            for name in names
            if name in self._rows
        }

    def each(self, names: Iterable[str]) -> Sequence[Tables]:
        """What `get` gives of every shard, read when it is taken up and as often."""
        return _Each(self, tuple(names))

    def whole(self, names: Iterable[str]) -> Tables:
        """All rows of the tables that are there."""
        return {
            name: _sorted(name, [self._read(name, at) for at in range(self.n + 1)])
            for name in names
            if name in self._rows
        }

    def scan(self, name: str) -> pl.LazyFrame:
        """All rows of a table, unread: for a few of its columns."""
        files = [path for (of, _), path in self._files.items() if of == name]
        return pl.scan_parquet(files) if files else self._empty(name).lazy()

    def crossing(self, names: Iterable[str]) -> bool:
        """Whether some of the tables have rows across prompts, which no shard can hold."""
        return any(
            self._rows.get(name, {}).get(self.common, 0) > 0
            for name in names
            if "prompt_id" in t.schema(name).columns
        )

    def _read(self, name: str, at: int) -> pl.DataFrame:
        path = self._files.get((name, at))
        return self._empty(name) if path is None else pl.read_parquet(path)

    def _empty(self, name: str) -> pl.DataFrame:
        if name in t.TABLES:
            return t.empty(name)
        path = next((path for (of, _), path in self._files.items() if of == name), None)
        return pl.DataFrame() if path is None else pl.read_parquet(path, n_rows=0)


class _Each(Sequence[Tables]):
    def __init__(self, shards: Shards, names: tuple[str, ...]) -> None:
        self._shards, self._names = shards, names

    def __len__(self) -> int:
        return self._shards.n

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < self._shards.n:
            raise IndexError(f"there is no shard {at} of {self._shards.n}")
        return self._shards.get(at, self._names)


def _sorted(name: str, frames: list[pl.DataFrame]) -> pl.DataFrame:
    some = [frame for frame in frames if frame.height] or frames[:1]
    if len(some) == 1:
        return some[0]
    whole = pl.concat(some)
    return whole.sort(*t.schema(name).key) if name in t.TABLES else whole


def parted(name: str, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What a shard made of a table: the rows that are its own, and those that are common."""
    if name in COMMON:
        return frame.clear(), frame
    if name == "scores":
        own = pl.col("subject").is_in(OF_PROMPTS)
    elif "prompt_id" in frame.columns:
        own = pl.col("prompt_id").is_not_null()
    else:
        return frame, frame.clear()
    return frame.filter(own), frame.filter(~own)
