"""From a recipe to a version: `prefdata.build`, with all its effects in their places."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import sources, version
from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.loop import Run, Tables, follow, run_stage
from prefdata.models.edge import Edge, Progress
from prefdata.models.ledger import Ledger
from prefdata.plan import Plan, PlannedStage, plan
from prefdata.recipe import Recipe
from prefdata.stage import Ask
from prefdata.watch import Asking, Imported, Made, Started, Watch, silent


@dataclass(frozen=True)
class Built:
    """What a build came to. `is_new` is false where the version was there already."""

    name: str
    id: str
    path: str
    is_new: bool
    tables: dict[str, int]
    dropped: dict[str, int]
    unscored: dict[str, dict[str, int]]
    quarantined: int
    requests: dict[str, int]
    tokens: dict[str, int]
    cost: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def data_folder(data: str | Path | None = None) -> Path:
    """Where ledger, builds and versions lie: `data`, else PREFDATA_DATA, else `data/` of the
    project (the nearest folder upwards with a pyproject.toml) or of the current folder."""
    named = data or os.environ.get("PREFDATA_DATA")
    if named:
        return Path(named).expanduser().resolve()
    here = Path.cwd()
    project = next((f for f in (here, *here.parents) if (f / "pyproject.toml").is_file()), here)
    return project / "data"


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
    if not isinstance(recipe, Recipe):
        recipe = Recipe.load(recipe, changes=changes)
    elif changes:
        raise RecipeError("changes apply to a recipe's file; change a Recipe in Python itself")
    planned = plan(recipe)
    imported = sources.read(recipe.sources, recipe.folder, strict=strict, limit=limit)
    counts = {name: frame.height for name, frame in imported.tables.items()}
    watch(Imported(counts, imported.quarantined.height, tuple(map(str, imported.audit))))
    folder = data_folder(data)
    log = _Log(planned, watch)
    with Edge(
        recipe.models, Ledger(folder / "ledger"), fresh=fresh, budget=budget, watch=log.asking
    ) as edge:
        tables = _with_pairs(planned, imported.tables)
        tables = follow(
            planned.stages,
            tables,
            ask=ask or edge,
            run=log.started(run),
            n_shards=n_shards,
            done=log.made,
        )
    tables = version.assign_splits(tables, recipe.splits, recipe.seed)
    exports = {
        stage.use.partition(".")[2]: run_stage(stage, tables, ask or edge)["rows"]
        for stage in planned.exports
    }
    written = version.write(
        folder,
        recipe.name,
        tables=tables,
        exports=exports,
        plan=planned,
        imported=imported,
        counts=log.counts,
    )
    return Built(
        name=recipe.name,
        id=written.id,
        path=str(written.path),
        is_new=written.is_new,
        tables={name: frame.height for name, frame in tables.items()},
        dropped=log.dropped(tables),
        unscored=log.unscored,
        quarantined=imported.quarantined.height,
        requests={k: getattr(edge.counts, k) for k in ("asked", "cached", "failed")},
        tokens={"in": edge.counts.tokens_in, "out": edge.counts.tokens_out},
        cost=edge.counts.cost,
    )
