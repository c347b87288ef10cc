"""The one loop over tables that are on disk by shard: what `prefdata.loop` does, a shard at a time.

A stage runs on one shard after the other, or on some at once where `run` does so, and what it made
is settled there by the same two rules: they are about rows of one prompt. One that must see all
prompts (`SCOPE = "all"`) does it in parts where its file says how (`in_parts`), and else gets its
tables whole, as if nothing were on disk.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing

import polars as pl

from prefdata import tables as t
from prefdata.disk.shards import OWNERS, Shards, owners, parted, prompts_of, shard_of
from prefdata.loop import ADDING, Run, arguments, named, results, run_shards, settle
from prefdata.planning.plan import PlannedStage
from prefdata.stage import Ask, Parts, drive_parts
from prefdata.tables import Tables

Saw = Callable[[PlannedStage, Tables, Tables], None]
Tell = Callable[[str, int, int], None]
Warn = Callable[[str], None]
# Rows that are held in memory at once without a word.
FEW = 1_000_000


def follow(
    stages: Sequence[PlannedStage],
    shards: Shards,
    *,
    ask: Ask,
    run: "Run | None" = None,
    begin: Callable[[PlannedStage], None] = lambda stage: None,
    saw: Saw = lambda stage, before, after: None,
    done: Callable[[PlannedStage], None] = lambda stage: None,
    tell: Tell = lambda what, done, of: None,
    warn: Warn = lambda says: None,
) -> None:
    """Run the stages in order; the tables in `shards` are then those after the last.

    `begin` is called before a stage, `tell` after each shard of it, `saw` for each part of the
    tables that it changes with the rows before and after, and `done` after it. `warn` hears of
    tables that have to be in memory whole.
    """
    run_it = run or run_shards
    for stage in stages:
        begin(stage)
        if why_whole(stage, shards):
            seen = _whole(stage, shards, warn)
            [made] = run_it(stage, [seen], ask)
            _settle_whole(stage, shards, made, saw)
        else:
            with closing(_made(stage, shards, run_it, ask)) as made:
                _settle_each(stage, shards, made, saw, tell)
        done(stage)


def why_whole(stage: PlannedStage, shards: Shards) -> str:
    """Why a stage needs the whole of its tables in memory; "" where it does not."""
    sees = stage.contract.sees
    if stage.contract.needs_all and parts_of(stage) is None:
        return "it sees all prompts, and not a part of them at a time"
    if "dropped" in sees:
        return "it reads what was dropped"
    if shards.crossing(name for name in sees if name in t.TABLES):
        return "some rows go across prompts, as joint preferences do"
    return ""


def _whole(stage: PlannedStage, shards: Shards, warn: Warn) -> Tables:
    """All that a stage sees, of which it is told where it is much."""
    rows = sum(shards.rows(name) for name in stage.contract.sees)
    if rows > FEW:
        why = why_whole(stage, shards)
        warn(f"{stage.name}: {rows:,} rows are held in memory at once, since {why}")
    return shards.whole(stage.contract.sees)


def parts_of(stage: PlannedStage) -> "Parts[object] | None":
    """How a stage that needs all prompts does it in parts; None where it does not."""
    in_parts = getattr(sys.modules[stage.function.__module__], "in_parts", None)
    return None if in_parts is None else in_parts(**stage.options)


def _made(stage: PlannedStage, shards: Shards, run: Run, ask: Ask) -> Generator[Tables]:
    """What a stage makes of each shard, in their order."""
    seen = shards.each(stage.contract.sees)
    if not stage.contract.needs_all:
        yield from run(stage, seen, ask)
        return

    def given() -> Iterable[Sequence[pl.DataFrame | None]]:
        return (arguments(stage, shard) for shard in seen)

    steps = parts_of(stage)
    assert steps is not None
    with named(stage):
        made = drive_parts(steps, given)
    for _ in range(shards.n):
        with named(stage):
            each = next(made)
        yield results(stage, each)


def _settle_each(
    stage: PlannedStage, shards: Shards, made: Iterator[Tables], saw: Saw, tell: Tell
) -> None:
    names = touched(stage)
    if not stage.contract.needs_all:  # whose values say why nothing was made of them
        names = list(dict.fromkeys([*names, *(set(stage.contract.sees) & t.VALUES.keys())]))
    shared: dict[str, list[pl.DataFrame]] = {}
    was_shared = shards.own(shards.common, names)
    tell("shards", 0, shards.n)
    for at in range(shards.n):
        each = next(made)
        before = shards.get(at, names)
        after = settle(stage, before, [each])
        parts = {
            name: parted(name, frame)
            for name, frame in after.items()
            if frame is not before.get(name)
        }
        own = {name: mine for name, (mine, _) in parts.items()}
        was = {name: parted(name, frame)[0] for name, frame in before.items()}
        saw(stage, was, {**was, **own})
        shards.put(at, own)
        for name, (_, common) in parts.items():
            shared.setdefault(name, []).append(common)
        tell("shards", at + 1, shards.n)
    common = {name: t.union(name, *each, where=stage.place) for name, each in shared.items()}
    saw(stage, was_shared, {**was_shared, **common})
    shards.put(shards.common, common)


def _settle_whole(stage: PlannedStage, shards: Shards, made: Tables, saw: Saw) -> None:
    before = shards.whole(touched(stage))
    after = settle(stage, before, [made])
    saw(stage, before, after)
    for name, frame in after.items():
        if frame is not before.get(name):
            place(name, frame, shards)


def touched(stage: PlannedStage) -> list[str]:
    """The tables that a stage may change: those it writes, and what depends on rows it drops."""
    writes, sees = stage.contract.writes, stage.contract.sees
    names = dict.fromkeys([*writes, "dropped"])
    if stage.use.partition(".")[0] not in ADDING:
        gone = [name for name in writes if name in sees]
        while gone:
            lost = gone.pop()
            new = [n for n in t.TABLES if any(of == lost for _, of, _ in t.references(n))]
            gone += [name for name in new if name not in names]
            names |= dict.fromkeys(new)
    return list(names)


def place(name: str, frame: pl.DataFrame, shards: Shards) -> None:
    """Put all rows of a table, each into the shard of its prompt.

    What refers to no row that is there (a score of a pair that was dropped) is common to all.
    """
    mine, common = parted(name, frame)
    if name == "dropped":
        home = pl.int_range(mine.height, eager=True) % shards.n
    else:
        scanned = {each: shards.scan(each) for each in OWNERS}
        prompts = prompts_of(name, mine, lambda ids: owners(scanned, ids)).to_frame()
        home = prompts.select(shard_of(pl.col("prompt_id"), shards.n)).to_series()
    homeless = mine.filter(home.is_null())
    for at in range(shards.n):
        shards.put(at, {name: mine.filter((home == at).fill_null(False))})
    shards.put(shards.common, {name: pl.concat([common, homeless])})


def export(
    stage: PlannedStage, shards: Shards, view: str, ask: Ask, warn: Warn = lambda says: None
) -> None:
    """Make the rows of an export, by shards where it can; they are then the table `view`."""
    if why_whole(stage, shards):
        [made] = run_shards(stage, [_whole(stage, shards, warn)], ask)
        shards.put(shards.common, {view: made["rows"]})
        return
    for at, each in enumerate(_made(stage, shards, run_shards, ask)):
        shards.put(at, {view: each["rows"]})
