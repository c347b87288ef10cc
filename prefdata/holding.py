"""Where a build has its tables: in memory, or by shards on disk where they are too large for that.

Both give the same version. In memory all is at hand, and the shards of a stage can run at once; on
disk as many shards are in memory as run at once, by default one, and what a stage that sees all
prompts needs of them.
"""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prefdata import loop, sources, version
from prefdata import tables as t
from prefdata.counting import Counting, dropped, unscored
from prefdata.disk import streaming
from prefdata.disk.shards import Shards
from prefdata.errors import PrefdataError
from prefdata.loop import Run, run_shards, run_stage
from prefdata.people.store import Store
from prefdata.planning.plan import Plan, PlannedStage
from prefdata.planning.plan import folder as export_folder
from prefdata.stage import Ask, saving
from prefdata.tables import Tables, Votes
from prefdata.version.writing import aside
from prefdata.watch import Advanced, Spilling, Warned, Watch, silent
from prefdata.whole import writable

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

    def refuse_room(self, written: int) -> None:
        """`PrefdataError` where there is no room for so many bytes that models will write."""
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

    def refuse_room(self, written: int) -> None:
        pass  # memory is not asked

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


@dataclass(frozen=True)
class Room:
    """What a build has to hold on disk, where its sources have `size` bytes.

    `exports` counts those of the build, twice where one is saved as files too.
    """

    size: int
    exports: int

    @classmethod
    def of(cls, planned: Plan, limit: int | None = None) -> "Room":
        size = sources.size(planned.recipe.sources, planned.recipe.folder, limit)
        return cls(size, sum(1 + bool(saving(each.function).saved_as) for each in planned.exports))

    @property
    def is_large(self) -> bool:
        """Whether tables are held on disk, where nobody says so."""
        return self.size > LARGE

    def refuse(self, place: Path, *, there: int = 0, written: int = 0) -> tuple[int, int]:
        """The bytes that are needed and those that are free for it, of which some are `there`.

        `PrefdataError` where that is too little. The bytes that models will have `written` count
        as those of sources do.
        """
        free = shutil.disk_usage(place).free + there
        needed = round((ROOM + ROOM_OF_EXPORT * self.exports) * (self.size + written))
        if needed > free:
            of = f" and of about {written / 1e9:.1f} GB that models write" if written else ""
            raise PrefdataError(
                f"{place}: a build of sources of {self.size / 1e9:.1f} GB{of} holds its tables "
                f"there and writes its version there, about {needed / 1e9:.1f} GB in all; free are "
                f"{free / 1e9:.1f} GB. Make room (`prefdata gc` lists what can go), or give a "
                "folder on another disk by --data"
            )
        return needed, free


class OnDisk:
    """The tables by shards of prompts, in a folder beside the versions that is gone at the end."""

    def __init__(
        self,
        planned: Plan,
        data: Path,
        shards: Shards,
        room: Room,
        *,
        strict: bool,
        limit: int | None,
        watch: Watch,
    ) -> None:
        recipe = planned.recipe
        self._shards, self._room, self._watch = shards, room, watch
        self._place = data / "versions"
        self._tell_room()
        self.imported = sources.read_into(
            shards, recipe.sources, recipe.folder, strict=strict, limit=limit, tell=self._tell
        )
        self.read = shards.heights()
        for at in range(shards.n):
            shards.put(at, _paired(planned, shards.own(at, ["votes"])))
        for name, answers in _answered(planned, data).items():
            streaming.place(name, answers, shards)
        self._exports: list[str] = []

    def _warn(self, says: str) -> None:
        self._watch(Warned(says))

    def _tell(self, what: str, done: int, of: int) -> None:
        self._watch(Advanced(what, done, of))

    def heights(self) -> dict[str, int]:
        return {name: n for name, n in self._shards.heights().items() if name in t.TABLES}

    def few(self) -> Tables:
        return self._shards.get(0, self._shards.names)

    def refuse_room(self, written: int) -> None:
        if written:
            self._tell_room(written)

    def _tell_room(self, written: int = 0) -> None:
        folder = self._shards.folder
        there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        needed, free = self._room.refuse(self._place, there=there, written=written)
        self._watch(Spilling(self._shards.n, needed, free))

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
            warn=self._warn,
        )

    def export(self, exports: tuple[PlannedStage, ...], ask: Ask) -> dict[str, int]:
        self._exports = [export_folder(stage) for stage in exports]
        for stage, view in zip(exports, self._exports, strict=True):
            streaming.export(stage, self._shards, view, ask, self._warn)
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
    room = Room.of(planned, limit)
    if on_disk is None:
        on_disk = room.is_large
    if not on_disk:
        yield InMemory(planned, data, strict=strict, limit=limit, n=n_shards)
        return
    with ExitStack() as stack:
        with writable(data / "versions"):
            folder = stack.enter_context(aside(data / "versions"))
        shards = Shards(folder, max(n_shards, math.ceil(room.size / SHARD)))
        yield OnDisk(planned, data, shards, room, strict=strict, limit=limit, watch=watch)


def start(planned: Plan, imported: Tables, data: Path) -> Tables:
    """The tables before the first stage."""
    return {**imported, **_paired(planned, imported), **_answered(planned, data)}


def _paired(planned: Plan, imported: Tables) -> Tables:
    """Imported pairs, which are pairs unless a stage makes some."""
    if not planned.pairs_are_imported:
        return {}
    pairs, ties = sources.as_pairs(Votes(imported["votes"]))
    return {"pairs": pairs, **({"dropped": ties} if ties.height else {})}


def _answered(planned: Plan, data: Path) -> Tables:
    """What people answered, where a stage reads it."""
    if not any("annotations" in stage.contract.sees for stage in planned.stages):
        return {}
    return {"annotations": Store(data, planned.recipe.name).annotations()}
