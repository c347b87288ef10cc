"""The contents of a version from shards on disk, of which one at a time is in memory.

The rows of a table go into bins by the order of its key and are taken up bin by bin, so that its
file and its digest are those of the whole table. Where rows go across prompts, so that no shard has
them, or what an export has beside its rows needs all of them, these are held whole.
"""

# pyright: basic, reportAttributeAccessIssue=false
# pyarrow has no types

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from prefdata.disk.shards import Shards, owners, prompts_of
from prefdata.disk.spill import Spill
from prefdata.stage import Saving
from prefdata.tables import TABLES, check, empty, schema
from prefdata.version import arrow
from prefdata.version.content import Content
from prefdata.version.contents import (
    Frames,
    Lost,
    Saved,
    assigned,
    dangling,
    refuse_lost,
    saved,
    shape,
    write_view,
)
from prefdata.version.noise import noise
from prefdata.version.splits import TRAIN, part
from prefdata.whole import writable

SHOWN = 20_000  # prompts that the card and the report are drawn from
SAMPLED = 20_000  # keys of a shard by which the bins are parted


class Streamed:
    """The tables of shards and some exports among them; see `Contents`."""

    def __init__(
        self,
        shards: Shards,
        savings: Mapping[str, Saving],
        splits: Mapping[str, float],
        seed: int,
    ) -> None:
        self._shards, self._savings, self._splits, self._seed = shards, savings, splits, seed
        self._names = [name for name in TABLES if name in shards.names]
        self._folder = shards.folder / "version"
        with writable(shards.folder):
            self._folder.mkdir()
        self._is_whole = False
        self._shown: Frames = {}
        self._noise: dict[str, Any] = {}
        self._digests: dict[str, tuple[int, str]] = {}

    @property
    def sampled(self) -> Mapping[str, int] | None:
        n = self._shards.rows("prompts")
        return {"prompts": SHOWN, "of": n} if n > SHOWN else None

    def digests(self) -> dict[str, tuple[int, str]]:
        with writable(self._shards.folder):
            self._assign()
            names = [name for name in TABLES if self._shards.rows(name)]
            self._shown, self._noise = self._sample(names), self._noises()
            self._digests = {name: self._stored(name) for name in names}
        return self._digests

    def shapes(self) -> dict[str, Any]:
        with writable(self._shards.folder):
            return {view: self._written(view) for view in self._savings}

    def noise(self) -> dict[str, Any]:
        return self._noise

    def shown(self) -> Frames:
        return self._shown

    def fill(self, folder: Path) -> None:
        for path in self._folder.iterdir():
            path.rename(folder / path.name)

    def _noises(self) -> dict[str, Any]:
        found = noise(self._shards.whole(["measures"]))
        flipped = sum(
            noise(self._shards.get(at, ["pairs", "scores"])).get("flipped", 0)
            for at in range(self._shards.n)
        )
        return {**found, **({"flipped": flipped} if flipped else {})}

    def _sample(self, names: list[str]) -> Frames:
        if self.sampled is None:
            return self._shards.whole(names)
        names = [name for name in names if name != "dropped"]
        few: list[dict[str, pl.DataFrame]] = []
        n = 0
        for at in range(self._shards.n):
            few.append(_first(self._shards.own(at, names), SHOWN - n))
            n += few[-1]["prompts"].height
            if n >= SHOWN:
                break
        few.append(self._shards.own(self._shards.common, names))
        frames = {name: pl.concat([each[name] for each in few]) for name in names}
        if self._shards.rows("dropped"):
            why = self._shards.scan("dropped").select("stage", "table", "reason")
            frames["dropped"] = why.collect()
        return {name: frame for name, frame in frames.items() if frame.height}

    def _assign(self) -> None:
        """Assign splits and look for rows that refer to none, shard by shard."""
        shards = self._shards
        if self._crosses():
            self._is_whole = True
            frames = assigned(shards.whole(self._names), self._splits, self._seed)
            refuse_lost(dangling(frames))
            for name in self._names:
                for at in range(shards.n):
                    shards.put(at, {name: frames.get(name, empty(name)).clear()})
            shards.put(shards.common, frames)
            return
        common = shards.own(shards.common, self._names)
        lost: list[Lost] = []
        for at in range(shards.n):
            own = shards.own(at, self._names)
            frames = assigned(own, self._splits, self._seed)
            lost += dangling({**common, **frames})
            now = {**{name: frame.clear() for name, frame in own.items()}, **frames}
            shards.put(at, {name: f for name, f in now.items() if f is not own.get(name)})
        refuse_lost(self._nowhere(lost))

    def _crosses(self) -> bool:
        """Whether splits cannot be told shard by shard: rows go across prompts, or pairs came with
        splits of their own, of which all of a group have to be seen."""
        if self._shards.crossing(self._names):
            return True
        if self._splits or not self._shards.rows("pairs"):
            return False
        given = self._shards.scan("pairs").select(pl.col("split").is_not_null().any())
        return bool(given.collect().item())

    def _nowhere(self, lost: list[Lost]) -> Iterator[Lost]:
        """Of what a shard refers to and has not, what no other has either."""
        for name, column, other, key, ids in lost:
            there = self._shards.scan(other).select(key).filter(pl.col(key).is_in(ids.implode()))
            gone = ids.filter(~ids.is_in(there.collect()[key].implode()))
            if gone.len():
                yield name, column, other, key, gone

    def _stored(self, name: str) -> tuple[int, str]:
        """Write a table in the order of its key; its rows and digest."""
        shards, content, rows = self._shards, Content(), 0
        spill, ends = Spill(shards.folder / f"sorted-{name}"), self._ends(name)
        for at in range(shards.n + 1):
            # what the rows of exports are split by is wanted again
            kept = name in ("pairs", "prompts")
            frame = shards.own(at, [name])[name] if kept else shards.take(at, name)
            spill.add(name, frame, ends.search_sorted(_places(name, frame), side="right"))
        with ExitStack() as stack:
            writer: Any = None
            for at in range(len(ends) + 1):
                frame = check(name, spill.take(name, at), where="version")
                if frame.is_empty():
                    continue
                rows += frame.height
                content.add(frame)
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                if writer is None:
                    file = self._folder / f"{name}.parquet"
                    writer = stack.enter_context(
                        pq.ParquetWriter(file, table.schema, compression="zstd")
                    )
                writer.write_table(table)
        return rows, content.hexdigest()

    def _ends(self, name: str) -> pl.Series:
        """What parts the bins of a table, about as many as there are shards."""
        shards = self._shards
        fullest = max(range(shards.n + 1), key=lambda at: shards.own_rows(name, at))
        frame = shards.own(fullest, [name])[name]
        places = _places(name, frame.gather_every(max(1, frame.height // SAMPLED))).sort()
        n = min(shards.n, len(places))
        return places[[len(places) * at // n for at in range(1, n)]].unique().sort()

    def _written(self, view: str) -> dict[str, Any]:
        """Write an export, by shards where nothing needs all of its rows; its shape."""
        shards, saving = self._shards, self._savings[view]
        # all rows are wanted by what stands beside them, and by splits that are named by values
        plain = saving == Saving(saved_as=saving.saved_as, held_out=saving.held_out)
        if self._is_whole or not plain or shards.own_rows(view, shards.common):
            few = ["pair_id", "prompt_id", "split"], ["prompt_id", "group"]
            frames = {
                name: shards.scan(name).select(columns).collect()
                for name, columns in zip(("pairs", "prompts"), few, strict=True)
            }
            by_split = part(shards.whole([view])[view], frames, self._splits, self._seed)
            splits = saved(by_split, saving)
            write_view(self._folder / view, splits, saving)
            return shape(splits)
        columns = shards.own(0, [view])[view].schema
        with ExitStack() as stack:
            made: dict[str, arrow.Split] = {}
            also: dict[str, Saved] = {}
            for at in range(shards.n):
                frames = shards.own(at, ["pairs", "prompts"])
                rows = shards.take(at, view)
                by_split = saved(part(rows, frames, self._splits, self._seed), saving)
                for split, each in by_split.items():
                    if split not in made:
                        new = arrow.Split(self._folder / view, split, columns)
                        made[split] = stack.enter_context(new)
                        file = Saved(self._folder / view, split, saving.saved_as)
                        also[split] = stack.enter_context(file)
                    made[split].add(each.select(columns.names()))
                    also[split].add(each.select(columns.names()))
        names = [TRAIN, *sorted(made.keys() - {TRAIN})]
        arrow.said(self._folder / view, names)
        return {"columns": columns.names(), "splits": {name: made[name].height for name in names}}


def _places(name: str, frame: pl.DataFrame) -> pl.Series:
    """What orders the rows of a table as its key does, but for rows that are equal in it."""
    texts = [c for c in schema(name).key if frame.schema[c] == pl.String][:2]
    known = [pl.col(each).fill_null("") for each in texts]
    return frame.select(pl.concat_str(known, separator="\x00").alias("place")).to_series()


def _first(tables: dict[str, pl.DataFrame], n: int) -> dict[str, pl.DataFrame]:
    """The tables of a shard's first prompts."""
    prompts = tables["prompts"]["prompt_id"].head(n)
    if prompts.len() == tables["prompts"].height:
        return tables
    of = {name: prompts_of(name, each, partial(owners, tables)) for name, each in tables.items()}
    return {name: each.filter(of[name].is_in(prompts.implode())) for name, each in tables.items()}
