"""What came of each stage of a build, counted, and told to whoever watches."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from prefdata import tables as t
from prefdata.loop import Run, Tables
from prefdata.models.edge import Progress
from prefdata.plan import PlannedStage
from prefdata.stage import Ask
from prefdata.watch import Asking, Made, Started, Watch


@dataclass
class Counting:
    """Keeps count of a build and tells whoever watches."""

    stages: Sequence[PlannedStage]
    watch: Watch
    running: str = ""
    since: float = 0.0
    calls: dict[int, Progress] = field(default_factory=dict[int, Progress])
    unscored: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    missing: dict[str, int] = field(default_factory=dict[str, int])
    nothing_made: dict[str, str] = field(default_factory=dict[str, str])
    funnel: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    spent: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def runs(self, run: Run, *, check: Callable[[], None]) -> Run:
        """`run`, announced; `check` raises where the build is to stop before another stage."""

        def announced(stage: PlannedStage, shards: Sequence[Tables], ask: Ask) -> Sequence[Tables]:
            check()
            self.running, self.since, self.calls = stage.name, time.monotonic(), {}
            index = 1 + [each.name for each in self.stages].index(stage.name)
            self.watch(Started(stage.name, index, len(self.stages)))
            return run(stage, shards, ask)

        return announced

    def asking(self, progress: Progress) -> None:
        """Sum a stage's calls: its shards may ask at once, and it may ask in several rounds."""
        self.calls[progress.call] = progress
        calls = list(self.calls.values())
        if unsent := sum(call.unsent for call in calls):
            self.missing[self.running] = unsent
        self.watch(
            Asking(
                stage=self.running,
                done=sum(call.done for call in calls),
                total=sum(call.total for call in calls),
                cached=sum(call.cached for call in calls),
                failed=sum(call.failed for call in calls),
                unsent=sum(call.unsent for call in calls),
                tokens_in=sum(call.tokens_in for call in calls),
                tokens_out=sum(call.tokens_out for call in calls),
                cost=sum(call.cost for call in calls),
                awaited=sum(call.awaited for call in calls),
                by=" and ".join(sorted({call.by for call in calls if call.by})),
            )
        )

    def made(self, stage: PlannedStage, before: Tables, after: Tables) -> None:
        """Count what a stage made: rows in and out, dropped, unscored by reason."""
        rows = {name: after[name].height for name in stage.contract.writes}
        reasons = unscored(before, after)
        if reasons:
            self.unscored[stage.name] = reasons
        self.funnel += [_flow(stage, name, before, after) for name in rows if name != "dropped"]
        self._spend(stage.name)
        gone = dropped(after).get(stage.name, 0)
        nothing = _nothing(stage, before, after)
        if nothing:
            self.nothing_made[stage.name] = nothing
        seconds = time.monotonic() - self.since
        self.watch(Made(stage.name, rows, gone, reasons, seconds, nothing))

    def _spend(self, stage: str) -> None:
        """Keep what a stage asked: requests, how many the ledger answered, tokens and cost."""
        calls = list(self.calls.values())
        if calls:
            self.spent[stage] = {
                "requests": sum(call.total for call in calls),
                "cached": sum(call.cached for call in calls),
                "tokens_in": sum(call.tokens_in for call in calls),
                "tokens_out": sum(call.tokens_out for call in calls),
                "cost": sum(call.cost for call in calls),
            }


def _flow(stage: PlannedStage, name: str, before: Tables, after: Tables) -> dict[str, Any]:
    """Rows of a table that went into a stage, came out and were dropped: in = out + dropped.

    Into a stage that reads the table go the rows that were there and those that it adds; into one
    that does not, the rows that it made and those that it could not make.
    """
    was = before.get(name, t.empty(name))
    new = after[name].join(was, on=t.schema(name).key, how="anti", nulls_equal=True).height
    mine = (pl.col("stage") == stage.name) & (pl.col("table") == name)
    lost = after["dropped"].filter(mine).height if "dropped" in after else 0
    is_read = name in stage.contract.sees
    flow = (was.height + new, after[name].height) if is_read else (new + lost, new)
    counts = {"table": name, "in": flow[0], "out": flow[1], "dropped": lost}
    return {"stage": stage.name, "use": stage.use, **counts}


def _nothing(stage: PlannedStage, before: Tables, after: Tables) -> str:
    """Why a stage made nothing of the votes, ratings or rankings that it was given; else empty."""
    seen = [name for name in stage.contract.sees if name in t.VALUES and name in before]
    given = {name: before[name] for name in seen if before[name].height}
    made = [name for name in stage.contract.writes if name != "dropped"]
    new = (
        after[name].join(
            before.get(name, t.empty(name)), on=t.schema(name).key, how="anti", nulls_equal=True
        )
        for name in made
    )
    if not given or any(rows.height for rows in new):
        return ""
    rows = " and ".join(f"{frame.height:,} {name}" for name, frame in given.items())
    if any(frame[t.VALUES[name]].count() for name, frame in given.items()):
        return f"nothing was made of {rows}"
    why = pl.concat([frame.select("unscored") for frame in given.values()])["unscored"]
    return f"nothing was made of {rows}: all are unscored, most because of {why.mode().sort()[0]!r}"


def dropped(tables: Tables) -> dict[str, int]:
    """Rows dropped by each stage."""
    rows = tables.get("dropped", t.empty("dropped"))
    return dict(rows.group_by("stage").len().sort("stage").iter_rows())


def unscored(before: Tables, after: Tables) -> dict[str, int]:
    """Reasons of the unscored rows that are new, with their counts."""
    new = [
        after[name]
        .join(before.get(name, t.empty(name)), on=t.schema(name).key, how="anti", nulls_equal=True)
        .select("unscored")
        for name in t.VALUES
        if name in after
    ]
    reasons = pl.concat([pl.DataFrame(schema={"unscored": pl.String}), *new]).drop_nulls()
    return dict(reasons.group_by("unscored").len().sort("unscored").iter_rows())
