"""Where a build has its tables: in memory, or by shards on disk where they are too large for that.

Both give the same version. In memory all is at hand, and the shards of a stage can run at once; on
disk one shard at a time is in memory, and what a stage that sees all prompts needs of them.
"""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from prefdata import loop, sources, version
from prefdata import tables as t
from prefdata.counting import Counting, dropped, unscored
from prefdata.disk import streaming
from prefdata.disk.shards import Shards
from prefdata.errors import PrefdataError
from prefdata.loop import Run, Tables, run_shards, run_stage
from prefdata.people.store import Store
from prefdata.planning.plan import Plan, PlannedStage
from prefdata.planning.plan import folder as export_folder
from prefdata.stage import Ask
from prefdata.tables import Votes
from prefdata.version.writing import aside
from prefdata.watch import Advanced, Spilling, Watch, silent

# Bytes of sources, as they lie there, above which tables are held on disk, and that make a shard.
LARGE, SHARD = 256 << 20, 96 << 20
# Bytes of disk for each byte of sources until the version stands, for tables and for an export.
ROOM, ROOM_OF_EXPORT = 1.2, 1.2


class Holding(Protocol):
    """The tables of one build, from its sources to its version."""

    imported: sources.Imported
    read: dict[str, int]  # rows of the sources, by table

    def heights(self) -> dict[str, int]:
        """The rows of every table."""
        ...

    def few(self) -> Tables:
        """Tables of some prompts at least, to rehearse on."""
        ...

    def unscored(self) -> dict[str, int]:
        """The unscored rows of the sources, by reason."""
        ...

    def dropped(self) -> dict[str, int]:
        """Rows dropped by each stage."""
        ...

    def follow(
        self,
        stages: tuple[PlannedStage, ...],
        count: Counting,
        check: Callable[[], None],
        ask: Ask,
        run: Run | None,
    ) -> None:
        """Run the stages; see `prefdata.loop`. `check` raises where another may not begin."""
        ...

    def export(self, exports: tuple[PlannedStage, ...], ask: Ask) -> dict[str, int]:
        """Make the rows of the exports, and say how many each has."""
        ...

    def write(self, data: Path, name: str, **said: Any) -> version.Written:
        """Write the version, after which the tables may be gone; see `version.write`."""
        ...


class InMemory:
    """The tables as they are."""

    def __init__(
        self, planned: Plan, data: Path, *, strict: bool, limit: int | None, n: int
    ) -> None:
        recipe = planned.recipe
        self.imported = sources.read(recipe.sources, recipe.folder, strict=strict, limit=limit)
        self.read = {name: frame.height for name, frame in self.imported.tables.items()}
        self._n = n
        self._tables = start(planned, self.imported.tables, data)
        self._exports: Tables = {}

    def heights(self) -> dict[str, int]:
        return {name: frame.height for name, frame in self._tables.items()}

    def few(self) -> Tables:
        return self._tables

    def unscored(self) -> dict[str, int]:
        return unscored({}, self._tables)

    def dropped(self) -> dict[str, int]:
        return dropped(self._tables)

    def follow(
        self,
        stages: tuple[PlannedStage, ...],
        count: Counting,
        check: Callable[[], None],
        ask: Ask,
        run: Run | None,
    ) -> None:
        self._tables = loop.follow(
            stages,
            self._tables,
            ask=ask,
            run=count.runs(run or run_shards, check=check),
            n_shards=self._n,
            done=count.made,
        )

    def export(self, exports: tuple[PlannedStage, ...], ask: Ask) -> dict[str, int]:
        for stage in exports:
            self._exports[export_folder(stage)] = run_stage(stage, self._tables, ask)["rows"]
        return {view: rows.height for view, rows in self._exports.items()}

    def write(self, data: Path, name: str, **said: Any) -> version.Written:
        return version.write(data, name, tables=self._tables, exports=self._exports, **said)


class OnDisk:
    """The tables by shards of prompts, in a folder beside the versions that is gone at the end."""

    def __init__(
        self,
        planned: Plan,
        data: Path,
        shards: Shards,
        *,
        strict: bool,
        limit: int | None,
        watch: Watch,
    ) -> None:
        recipe = planned.recipe
        self._shards, self._watch = shards, watch
        self.imported = sources.read_into(
            shards, recipe.sources, recipe.folder, strict=strict, limit=limit, tell=self._tell
        )
        self.read = shards.heights()
        self._start(planned, data)
        self._exports: list[str] = []

    def _tell(self, what: str, done: int, of: int) -> None:
        self._watch(Advanced(what, done, of))

    def _start(self, planned: Plan, data: Path) -> None:
        shards = self._shards
        for at in range(shards.n) if planned.pairs_are_imported else ():
            votes = shards.own(at, ["votes"])["votes"]
            shards.put(at, _paired(votes))
        if any("annotations" in stage.contract.sees for stage in planned.stages):
            answers = Store(data, planned.recipe.name).annotations()
            streaming.place("annotations", answers, shards)

    def heights(self) -> dict[str, int]:
        return {name: n for name, n in self._shards.heights().items() if name in t.TABLES}

    def few(self) -> Tables:
        return self._shards.get(0, self._shards.names)

    def unscored(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for name in t.VALUES:
            why = self._shards.scan(name).select("unscored").drop_nulls()
            found.update(dict(why.group_by("unscored").len().collect().iter_rows()))
        return dict(sorted(found.items()))

    def dropped(self) -> dict[str, int]:
        by = self._shards.scan("dropped").group_by("stage").len().sort("stage")
        return dict(by.collect().iter_rows())

    def follow(
        self,
        stages: tuple[PlannedStage, ...],
        count: Counting,
        check: Callable[[], None],
        ask: Ask,
        run: Run | None,
    ) -> None:
        def begin(stage: PlannedStage) -> None:
            check()
            count.begin(stage)

        streaming.follow(
            stages,
            self._shards,
            ask=ask,
            run=run,
            begin=begin,
            saw=count.saw,
            done=count.done,
            tell=self._tell,
        )

    def export(self, exports: tuple[PlannedStage, ...], ask: Ask) -> dict[str, int]:
        self._exports = [export_folder(stage) for stage in exports]
        for stage, view in zip(exports, self._exports, strict=True):
            streaming.export(stage, self._shards, view, ask)
        return {view: self._shards.rows(view) for view in self._exports}

    def write(self, data: Path, name: str, **said: Any) -> version.Written:
        return version.write_shards(data, name, shards=self._shards, exports=self._exports, **said)


@contextmanager
def hold(
    planned: Plan,
    data: Path,
    *,
    strict: bool,
    limit: int | None,
    n_shards: int = 1,
    on_disk: bool | None = None,
    watch: Watch = silent,
) -> Generator[Holding]:
    """Read the sources of a recipe to where there is room for them.

    `on_disk` None lets the sources' size decide: on disk, a shard is of `SHARD` of their bytes at
    most. In memory `n_shards` is how many of a stage's shards can run at once.
    """
    size = sources.size(planned.recipe.sources, planned.recipe.folder)
    if on_disk is None:
        on_disk = size > LARGE and limit is None
    if not on_disk:
        yield InMemory(planned, data, strict=strict, limit=limit, n=n_shards)
        return
    with aside(data / "versions") as folder:
        shards = Shards(folder, max(n_shards, math.ceil(size / SHARD)))
        watch(_spilling(shards, size, len(planned.exports)))
        yield OnDisk(planned, data, shards, strict=strict, limit=limit, watch=watch)


def _spilling(shards: Shards, size: int, n_exports: int) -> Spilling:
    """What the disk has to hold; `PrefdataError` where it cannot."""
    free = shutil.disk_usage(shards.folder).free
    needed = round((ROOM + ROOM_OF_EXPORT * n_exports) * size)
    if needed > free:
        raise PrefdataError(
            f"{shards.folder.parents[1]}: a build of sources of {size / 1e9:.1f} GB holds its "
            f"tables there and writes its version there, about {needed / 1e9:.1f} GB in all; free "
            f"are {free / 1e9:.1f} GB. Make room, or give a folder on another disk by --data"
        )
    return Spilling(shards.n, needed, free)


def start(planned: Plan, imported: Tables, data: Path) -> Tables:
    """The tables before the first stage.

    Imported pairs are pairs unless a stage makes some; what people answered is there for a stage
    that reads it.
    """
    tables = dict(imported)
    if planned.pairs_are_imported:
        tables |= _paired(imported["votes"])
    if any("annotations" in stage.contract.sees for stage in planned.stages):
        tables["annotations"] = Store(data, planned.recipe.name).annotations()
    return tables


def _paired(votes: pl.DataFrame) -> Tables:
    pairs, ties = sources.as_pairs(Votes(votes))
    return {"pairs": pairs, **({"dropped": ties} if ties.height else {})}
