"""From a recipe to a version: `prefdata.build`, with all its effects in their places."""

import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import sources, version
from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.forecast import Forecast, forecast
from prefdata.loop import Run, Tables, follow, run_shards, run_stage
from prefdata.models.edge import Edge, Progress
from prefdata.models.ledger import Ledger
from prefdata.plan import Plan, PlannedStage, plan
from prefdata.recipe import Recipe
from prefdata.stage import Ask
from prefdata.tables import Votes
from prefdata.version.stored import data_folder
from prefdata.watch import Asking, Imported, Made, Started, Watch, silent

UNSCORED_TABLES = ("ratings", "votes", "rankings")


@dataclass(frozen=True)
class Built:
    """What a build came to. `is_new` is false where the version was there already."""

    name: str
    id: str
    path: str
    is_new: bool
    tables: dict[str, int]
    exports: dict[str, int]
    dropped: dict[str, int]
    unscored: dict[str, dict[str, int]]
    quarantined: int
    requests: dict[str, int]
    tokens: dict[str, int]
    cost: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def build(
    recipe: Recipe | str | Path,
    *,
    data: str | Path | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    n_shards: int = 1,
    fresh: bool = False,
    strict: bool = False,
    budget: float | None = None,
    ask: Ask | None = None,
    run: Run | None = None,
    watch: Watch = silent,
) -> Built:
    """Build a recipe (bundled name, path or `Recipe`) into a version and say what came of it.

    `changes` are "key=value" strings on the recipe, `limit` takes the first prompts of each
    source, `fresh` asks again what the ledger knows, `strict` makes a bad source row an error,
    `budget` is in USD. `ask` and `run` replace the models and the way stages are run.

    Raises a `PrefdataError`: `RecipeError` before anything is spent.
    """
    _heed_ctrl_c()
    if not isinstance(recipe, Recipe):
        recipe = Recipe.load(recipe, changes=changes)
    elif changes:
        raise RecipeError("changes apply to a recipe's file; change a Recipe in Python itself")
    planned = plan(recipe)
    imported = sources.read(recipe.sources, recipe.folder, strict=strict, limit=limit)
    counts = {name: frame.height for name, frame in imported.tables.items()}
    watch(Imported(counts, imported.quarantined.height, tuple(map(str, imported.audit))))
    folder = data_folder(data)
    log = _Log(planned.stages, watch)
    with Edge(
        recipe.models, Ledger(folder / "ledger"), fresh=fresh, budget=budget, watch=log.asking
    ) as edge:
        tables = follow(
            planned.stages,
            _start(planned, imported.tables),
            ask=ask or edge,
            run=log.runs(run or run_shards),
            n_shards=n_shards,
            done=log.made,
        )
        exports = {
            stage.use.partition(".")[2]: run_stage(stage, tables, ask or edge)["rows"]
            for stage in planned.exports
        }
    requests = {name: getattr(edge.counts, name) for name in ("asked", "cached", "failed")}
    tokens = {"in": edge.counts.tokens_in, "out": edge.counts.tokens_out}
    written = version.write(
        folder,
        recipe.name,
        tables=tables,
        exports=exports,
        recipe_text=recipe.text or recipe.to_toml(),
        resolved=planned.resolved,
        judges={name: judge.to_toml() for name, judge in planned.judges.items()},
        counts={
            "stages": log.funnel,
            "unscored": log.unscored,
            "requests": requests,
            "tokens": tokens,
            "cost": edge.counts.cost,
            "sources": imported.rows,
            "audit": [str(finding) for finding in imported.audit],
        },
        quarantined=imported.quarantined.iter_rows(named=True),
        splits=recipe.splits,
        seed=recipe.seed,
        description=recipe.description,
        licenses={spec.name: spec.licence for spec in recipe.sources.specs if spec.licence},
    )
    return Built(
        name=recipe.name,
        id=written.id,
        path=str(written.path),
        is_new=written.is_new,
        tables={name: frame.height for name, frame in tables.items()},
        exports={view: rows.height for view, rows in exports.items()},
        dropped=_dropped(tables),
        unscored=log.unscored,
        quarantined=imported.quarantined.height,
        requests=requests,
        tokens=tokens,
        cost=edge.counts.cost,
    )


def _heed_ctrl_c() -> None:
    """Have Ctrl-C end a wait for a model that does not answer, as Python itself would.

    Importing polars installs a handler after which the system goes on with what it interrupted.
    """
    if hasattr(signal, "siginterrupt"):
        signal.siginterrupt(signal.SIGINT, True)


def estimate(
    recipe: Recipe | str | Path,
    *,
    data: str | Path | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    strict: bool = False,
) -> tuple[Plan, dict[str, int], list[Forecast]]:
    """What `build` would run: the plan, the rows of the sources and what each stage would ask.

    Asks nothing, spends nothing, writes nothing.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.load(recipe, changes=changes)
    planned = plan(recipe)
    imported = sources.read(recipe.sources, recipe.folder, strict=strict, limit=limit)
    with Ledger(data_folder(data) / "ledger") as ledger:
        asked = forecast(planned, _start(planned, imported.tables), find=ledger.find)
    return planned, {name: frame.height for name, frame in imported.tables.items()}, asked


def _start(planned: Plan, imported: Tables) -> Tables:
    """The tables before the first stage: imported pairs are pairs unless a stage makes some."""
    paired = any("pairs" in stage.contract.writes for stage in planned.stages)
    if not planned.recipe.sources.pairs or paired:
        return imported
    votes = Votes(imported["votes"])
    return {**imported, "pairs": sources.as_pairs(votes)}


@dataclass
class _Log:
    """Keeps count of a build and tells whoever watches."""

    stages: Sequence[PlannedStage]
    watch: Watch
    running: str = ""
    since: float = 0.0
    calls: dict[int, Progress] = field(default_factory=dict[int, Progress])
    unscored: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    funnel: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def runs(self, run: Run) -> Run:
        """`run`, announced."""

        def announced(stage: PlannedStage, shards: Sequence[Tables], ask: Ask) -> Sequence[Tables]:
            self.running, self.since, self.calls = stage.name, time.monotonic(), {}
            index = 1 + [each.name for each in self.stages].index(stage.name)
            self.watch(Started(stage.name, index, len(self.stages)))
            return run(stage, shards, ask)

        return announced

    def asking(self, progress: Progress) -> None:
        """Sum a stage's calls: its shards may ask at once, and it may ask in several rounds."""
        self.calls[progress.call] = progress
        calls = list(self.calls.values())
        self.watch(
            Asking(
                stage=self.running,
                done=sum(call.done for call in calls),
                total=sum(call.total for call in calls),
                cached=sum(call.cached for call in calls),
                failed=sum(call.failed for call in calls),
                tokens_in=sum(call.tokens_in for call in calls),
                tokens_out=sum(call.tokens_out for call in calls),
                cost=sum(call.cost for call in calls),
            )
        )

    def made(self, stage: PlannedStage, before: Tables, after: Tables) -> None:
        """Count what a stage made: rows in and out, dropped, unscored by reason."""
        rows = {name: after[name].height for name in stage.contract.writes}
        reasons = _unscored(before, after)
        if reasons:
            self.unscored[stage.name] = reasons
        self.funnel += [_flow(stage, name, before, after) for name in rows if name != "dropped"]
        dropped = _dropped(after).get(stage.name, 0)
        self.watch(Made(stage.name, rows, dropped, reasons, time.monotonic() - self.since))


def _flow(stage: PlannedStage, name: str, before: Tables, after: Tables) -> dict[str, Any]:
    """Rows of a table that went into a stage, came out and were dropped: in = out + dropped.

    What goes into a stage that adds rows is what it made or could not make.
    """
    was = before[name].height if name in before else 0
    replaced = name in (*stage.contract.reads, *stage.contract.reads_if_there)
    out = after[name].height - (0 if replaced else was)
    mine = (pl.col("stage") == stage.name) & (pl.col("table") == name)
    lost = after["dropped"].filter(mine).height if "dropped" in after else 0
    flow = {"table": name, "in": out + lost, "out": out, "dropped": lost}
    return {"stage": stage.name, "use": stage.use, **flow}


def _dropped(tables: Tables) -> dict[str, int]:
    """Rows dropped by each stage."""
    dropped = tables.get("dropped", t.empty("dropped"))
    return dict(dropped.group_by("stage").len().sort("stage").iter_rows())


def _unscored(before: Tables, after: Tables) -> dict[str, int]:
    """Reasons of the unscored rows that are new, with their counts."""
    new = [
        after[name]
        .join(before.get(name, t.empty(name)), on=t.schema(name).key, how="anti", nulls_equal=True)
        .select("unscored")
        for name in UNSCORED_TABLES
        if name in after
    ]
    reasons = pl.concat([pl.DataFrame(schema={"unscored": pl.String}), *new]).drop_nulls()
    return dict(reasons.group_by("unscored").len().sort("unscored").iter_rows())
