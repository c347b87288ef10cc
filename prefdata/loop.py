"""The one loop: a plan's stages in order, over shards of prompts, by two rules.

1. A table that the stage did not read is added to: an equal row again changes nothing, the same key
   with other content is a `TableError`.
2. A table that the stage read is replaced, and every key that is gone is recorded in `dropped`,
   with what depended on it. The verbs in `ADDING` take nothing away: such a stage returns a table
   that it read with all of its rows (`tables.union`), or it is a `TableError`.

`follow` takes its effects as arguments: `ask` answers requests, `run` runs a stage over its shards.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import polars as pl

from prefdata import tables as t
from prefdata.disk.shards import owners, prompts_of, shard_of
from prefdata.errors import PrefdataError, TableError
from prefdata.planning.plan import PlannedStage
from prefdata.stage import Ask, drive
from prefdata.tables import Tables

# The verbs whose stages add to what they read and take nothing away.
ADDING = ("generate", "annotate", "aggregate", "estimate", "order", "measure")

# Runs a stage on shards, which may be read only when they are taken up, and gives what it made of
# each in their order.
Run = Callable[[PlannedStage, Sequence[Tables], Ask], Iterable[Tables]]
Done = Callable[[PlannedStage, Tables, Tables], None]


def follow(
    stages: Sequence[PlannedStage],
    tables: Tables,
    *,
    ask: Ask,
    run: "Run | None" = None,
    n_shards: int = 1,
    done: Done | None = None,
) -> Tables:
    """Run the stages in order and return all tables.

    `done(stage, before, after)` is called after each stage. Results do not depend on `n_shards`.
    """
    for stage in stages:
        seen = {name: tables[name] for name in stage.contract.sees if name in tables}
        parts = 1 if stage.contract.needs_all else n_shards
        made = list((run or run_shards)(stage, shards(seen, tables, parts), ask))
        after = settle(stage, tables, made)
        if done is not None:
            done(stage, tables, after)
        tables = after
    return tables


def run_shards(stage: PlannedStage, shards: Sequence[Tables], ask: Ask) -> Iterator[Tables]:
    """Run a stage on one shard after the other."""
    return (run_stage(stage, shard, ask) for shard in shards)


def run_stage(stage: PlannedStage, tables: Tables, ask: Ask) -> Tables:
    """Run a stage on one shard and return the tables that it made, checked."""
    with named(stage):
        made = drive(stage.function(*arguments(stage, tables), **stage.options), ask)
    return results(stage, made)


def arguments(stage: PlannedStage, tables: Tables) -> list[pl.DataFrame | None]:
    """The tables in the order of the stage's signature; of optional ones None where none is."""
    needed = (tables.get(name) for name in stage.contract.reads)
    present = [
        t.empty(n) if f is None else f for n, f in zip(stage.contract.reads, needed, strict=True)
    ]
    return [*present, *(tables.get(name) for name in stage.contract.reads_if_there)]


@contextmanager
def named(stage: PlannedStage) -> Generator[None]:
    """Errors that name the stage's place."""
    try:
        yield
    except PrefdataError as error:
        raise type(error)(f"{stage.place}: {_said(stage, error)}") from error
    except Exception as error:
        raise PrefdataError(f"{stage.place} failed: {type(error).__name__}: {error}") from error


def results(stage: PlannedStage, made: Any) -> Tables:
    """What a stage returned, by table and checked."""
    returned = type(made).__name__
    writes = stage.contract.writes
    tables: tuple[Any, ...] = cast(Any, made) if isinstance(made, tuple) else (made,)
    if len(tables) != len(writes) or not all(isinstance(r, pl.DataFrame) for r in tables):
        raise TableError(
            f"{stage.place} returned {returned}; its signature promises "
            f"{', '.join(writes)} as polars.DataFrame"
        )
    return {name: _checked(stage, name, frame) for name, frame in zip(writes, tables, strict=True)}


def _checked(stage: PlannedStage, name: str, frame: pl.DataFrame) -> pl.DataFrame:
    if name == "rows":  # an export answers for its own dataset type
        return frame
    if name == "dropped":
        frame = frame.with_columns(pl.lit(stage.name).alias("stage"))
    return t.check(name, frame, where=stage.place)


def _said(stage: PlannedStage, error: Exception) -> str:
    """A stage's message without its own name, which its place has."""
    own = re.escape(stage.use)
    return re.sub(rf"^{own}:? ", "", str(error))


def settle(stage: PlannedStage, tables: Tables, made: Sequence[Tables]) -> Tables:
    """Bring what a stage made on its shards into the tables, by the two rules."""
    after = dict(tables)
    # What a stage says of dropped rows goes before the record of what is gone without a word.
    for name in sorted(stage.contract.writes, key=lambda name: name != "dropped"):
        parts = [shard[name] for shard in made]
        replaced = name in stage.contract.sees
        kept = [] if replaced or name not in after else [after[name]]
        after[name] = t.union(name, *kept, *parts, where=stage.place)
        if replaced and name in tables:
            lost = tables[name].join(
                after[name], on=t.schema(name).key, how="anti", nulls_equal=True
            )
            _refuse_loss(stage, name, lost)
            after = _record(after, name, lost, stage.name, stage.name)
            after = _cascade(after, name, lost, stage.name)
    return after


def _refuse_loss(stage: PlannedStage, name: str, lost: pl.DataFrame) -> None:
    if lost.height and stage.use.partition(".")[0] in ADDING:
        raise TableError(
            f"{stage.place} returned {name} without {lost.height} rows that it was given, first "
            f"{t.keys(name, lost)[0]!r}; a stage of this kind returns the union of what it read "
            "and what it made"
        )


def _record(tables: Tables, name: str, lost: pl.DataFrame, stage: str, reason: str) -> Tables:
    """Note lost rows in `dropped`, unless the stage has said itself why they went."""
    if lost.is_empty():
        return tables
    known = tables.get("dropped", t.empty("dropped"))
    rows = pl.DataFrame({"key": t.keys(name, lost)}).with_columns(
        pl.lit(name).alias("table"), pl.lit(stage).alias("stage"), pl.lit(reason).alias("reason")
    )
    new = rows.join(known, on=t.schema("dropped").key, how="anti")
    return {**tables, "dropped": t.union("dropped", known, new, where=stage)}


def _cascade(tables: Tables, name: str, lost: pl.DataFrame, stage: str) -> Tables:
    """Rows that refer to a lost row go with it, and so on down the pipeline."""
    gone = [(name, lost)] if lost.height else []
    while gone:
        name, lost = gone.pop(0)
        for dependent in tables:
            for column, table, key in t.references(dependent):
                if table != name:
                    continue
                ids, frame = lost.select(key), tables[dependent]
                orphans = frame.join(ids, left_on=column, right_on=key, how="semi")
                if orphans.is_empty():
                    continue
                left = frame.join(ids, left_on=column, right_on=key, how="anti")
                reason = f"its {column} was dropped"
                tables = _record({**tables, dependent: left}, dependent, orphans, stage, reason)
                gone.append((dependent, orphans))
    return tables


def shards(seen: Mapping[str, pl.DataFrame], tables: Tables, n: int) -> list[Tables]:
    """Split the tables that a stage reads into `n` parts by prompt.

    Every row of a prompt, and of what belongs to it, is in the same part; rows that belong to no
    prompt (annotators, principles) are in all. Tables with rows across prompts are not split.
    """
    crossing = any(
        frame["prompt_id"].null_count() > 0
        for frame in seen.values()
        if "prompt_id" in frame.columns
    )
    if n == 1 or crossing:
        return [dict(seen)]

    def home(name: str) -> pl.Series:
        prompts = prompts_of(name, seen[name], lambda ids: owners(tables, ids))
        return prompts.to_frame().select(shard_of(pl.col("prompt_id"), n)).to_series()

    placed = {name: home(name) for name in seen}
    return [
        {
            name: frame.filter((part == index).fill_null(True))
            for (name, frame), part in zip(seen.items(), placed.values(), strict=True)
        }
        for index in range(n)
    ]
