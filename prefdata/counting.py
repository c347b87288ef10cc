"""What came of each stage of a build, counted, and told to whoever watches."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from prefdata import tables as t
from prefdata.loop import Run
from prefdata.models.edge import Progress
from prefdata.planning.plan import PlannedStage
from prefdata.stage import Ask
from prefdata.tables import Tables
from prefdata.watch import Asking, Made, Started, Watch


class Timing:
    """Seconds since it was made, of the clock and of this process's processors."""

    def __init__(self) -> None:
        self._clock, self._busy = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._clock

    @property
    def busy(self) -> float:
        return time.process_time() - self._busy


@dataclass
class Seen:
    """What was counted of the running stage so far."""

    flows: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    rows: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    given: Counter[str] = field(default_factory=Counter[str])
    why: Counter[str] = field(default_factory=Counter[str])
    new: int = 0
    scored: int = 0
    gone: int = 0

    @property
    def nothing(self) -> str:
        """Why a stage made nothing of the votes, ratings or rankings it was given; else empty."""
        given = {name: n for name, n in self.given.items() if n}
        if not given or self.new:
            return ""
        rows = " and ".join(f"{n:,} {name}" for name, n in given.items())
        if self.scored:
            return f"nothing was made of {rows}"
        why = min(self.why, key=lambda reason: (-self.why[reason], reason))
        return f"nothing was made of {rows}: all are unscored, most because of {why!r}"


@dataclass
class Counting:
    """Keeps count of a build and tells whoever watches."""

    stages: Sequence[PlannedStage]
    watch: Watch
    running: str = ""
    since: Timing = field(default_factory=Timing)
    calls: dict[int, Progress] = field(default_factory=dict[int, Progress])
    unscored: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    missing: dict[str, int] = field(default_factory=dict[str, int])
    nothing_made: dict[str, str] = field(default_factory=dict[str, str])
    funnel: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    spent: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    busy: dict[str, float] = field(default_factory=dict[str, float])
    seen: Seen = field(default_factory=Seen)

    def runs(self, run: Run, *, check: Callable[[], None]) -> Run:
        """`run`, announced; `check` raises where the build is to stop before another stage."""

        def announced(stage: PlannedStage, shards: Sequence[Tables], ask: Ask) -> Iterable[Tables]:
            check()
            self.begin(stage)
            return run(stage, shards, ask)

        return announced

    def begin(self, stage: PlannedStage) -> None:
        self.running, self.since, self.calls = stage.name, Timing(), {}
        index = 1 + [each.name for each in self.stages].index(stage.name)
        self.watch(Started(stage.name, index, len(self.stages)))

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
        self.saw(stage, before, after)
        self.done(stage)

    def saw(self, stage: PlannedStage, before: Tables, after: Tables) -> None:
        """Count what a stage made of a part of the tables."""
        seen = self.seen
        for name in dict.fromkeys((*stage.contract.writes, *t.VALUES)):
            new = _new(name, before, after)
            if name in t.VALUES:
                seen.reasons.update(_by_reason(new))
            if name in stage.contract.writes and name != "dropped":
                seen.flows.setdefault(name, Counter()).update(
                    _flow(stage, name, before, after, new.height)
                )
                seen.new += new.height
        for name in stage.contract.writes:
            seen.rows[name] += after[name].height
        for name in stage.contract.sees:
            if name in t.VALUES and name in before:
                seen.given[name] += before[name].height
                seen.scored += before[name][t.VALUES[name]].count()
                seen.why.update(_by_reason(before[name]))
        seen.gone += dropped(after).get(stage.name, 0)

    def done(self, stage: PlannedStage) -> None:
        """Keep and tell what was seen of a stage."""
        seen, self.seen = self.seen, Seen()
        reasons = dict(sorted(seen.reasons.items()))
        if reasons:
            self.unscored[stage.name] = reasons
        who = {"stage": stage.name, "use": stage.use}
        self.funnel += [{**who, "table": name, **flow} for name, flow in seen.flows.items()]
        self._spend(stage.name)
        nothing = seen.nothing
        if nothing:
            self.nothing_made[stage.name] = nothing
        self.took(stage.name, self.since)
        seconds = self.seconds[stage.name]
        self.watch(Made(stage.name, dict(seen.rows), seen.gone, reasons, seconds, nothing))

    def took(self, part: str, since: Timing) -> None:
        """Keep how long a part of the build took."""
        self.seconds[part], self.busy[part] = since.seconds, since.busy

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


def _new(name: str, before: Tables, after: Tables) -> pl.DataFrame:
    """The rows that were not there before."""
    if name not in after:
        return t.empty(name)
    key = t.schema(name).key
    return after[name].join(before.get(name, t.empty(name)), on=key, how="anti", nulls_equal=True)


def _by_reason(rows: pl.DataFrame) -> dict[str, int]:
    return dict(rows.drop_nulls("unscored").group_by("unscored").len().iter_rows())


def _flow(
    stage: PlannedStage, name: str, before: Tables, after: Tables, new: int
) -> dict[str, int]:
    """Rows of a table that went into a stage, came out and were dropped: in = out + dropped.

    Into a stage that reads the table go the rows that were there and those that it adds; into one
    that does not, the rows that it made and those that it could not make.
    """
    was = before[name].height if name in before else 0
    mine = (pl.col("stage") == stage.name) & (pl.col("table") == name)
    lost = after["dropped"].filter(mine).height if "dropped" in after else 0
    is_read = name in stage.contract.sees
    flow = (was + new, after[name].height) if is_read else (new + lost, new)
    return {"in": flow[0], "out": flow[1], "dropped": lost}


def dropped(tables: Tables) -> dict[str, int]:
    """Rows dropped by each stage."""
    rows = tables.get("dropped", t.empty("dropped"))
    return dict(rows.group_by("stage").len().sort("stage").iter_rows())


def unscored(before: Tables, after: Tables) -> dict[str, int]:
    """Reasons of the unscored rows that are new, with their counts."""
    reasons: Counter[str] = Counter()
    for name in t.VALUES:
        reasons.update(_by_reason(_new(name, before, after)))
    return dict(sorted(reasons.items()))
