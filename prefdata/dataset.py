"""From a recipe to a version: `prefdata.build`, with all its effects in their places."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefdata import sources
from prefdata.counting import Counting, Timing
from prefdata.errors import PrefdataError, RecipeError
from prefdata.holding import Room, hold, start
from prefdata.loop import Run
from prefdata.models.account import Counts
from prefdata.models.clients import Opens
from prefdata.models.edge import Edge
from prefdata.models.experience import Experience
from prefdata.models.ledger import Ledger
from prefdata.models.purse import Purse
from prefdata.models.tokens import BYTES_A_TOKEN, counter
from prefdata.planning.forecast import Forecast, forecast
from prefdata.planning.plan import Plan, plan
from prefdata.planning.plan import folder as export_folder
from prefdata.planning.refusals import of_roles, to_ask, unbounded, unpriced
from prefdata.planning.rehearsal import rehearse
from prefdata.recipe import Recipe
from prefdata.stage import Ask, saving
from prefdata.stopping import Stopped, graceful
from prefdata.telemetry import traced
from prefdata.version.stored import data_folder
from prefdata.watch import Imported, Watch, silent
from prefdata.watchdog import watchdog

# Prompts on which a build is rehearsed before anything is asked.
REHEARSED = 50
# Rows of each large source from which a plan is made, and by how much the number of prompts that
# follows from them may be wrong: the first rows need not be like the others.
PLANNED, GUESSED = 20_000, 0.25
# Answers of the ledger from which a plan learns how long replies are.
LEARNED = 5000


@dataclass(frozen=True)
class Built:
    """What a build came to. `is_new` is false where the version was there already.

    `partial`, where a limit ended the asking: its `reason`, the requests `missing` by stage, and
    how to `go_on`. `nothing_made` says of each stage that made no row of the votes, ratings or
    rankings that it was given, why.
    """

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
    partial: dict[str, Any] | None = None
    nothing_made: dict[str, str] = field(default_factory=dict[str, str])

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
    max_requests: int | None = None,
    purse: Purse | None = None,
    ask: Ask | None = None,
    run: Run | None = None,
    opens: Opens | None = None,
    watch: Watch = silent,
    on_disk: bool | None = None,
) -> Built:
    """Build a recipe (bundled name, path or `Recipe`) into a version and say what came of it.

    `changes` are "key=value" strings on the recipe, `limit` takes so many prompts, the first,
    `fresh` asks again what the ledger knows, `strict` makes a bad source row an error. `budget` (in
    USD) and `max_requests` are not exceeded, by default the recipe's: what could not be asked is
    then missing, and the version is marked `partial`. A `purse` is spent from in the place of both,
    as by builds that are tries of one run. `ask` replaces the models, `run` the way
    stages are run, `opens` the way a model's client is opened.
    Sources of more than 256 MiB (of a limit, its share) are held by shards on disk, of which one at
    a time is in memory, or as many as `run` takes up at once; or `on_disk` says so. The version is
    the same.

    Raises a `PrefdataError`: `RecipeError` before anything is spent.
    """
    refuse_limits(n_shards=n_shards, budget=budget, max_requests=max_requests)
    planned = _planned(recipe, changes, limit)
    recipe, folder = planned.recipe, data_folder(data)
    purse = purse or purse_for(recipe, budget, max_requests)
    began = Timing()
    with (
        traced(recipe.name, watch) as watch,
        hold(
            planned,
            folder,
            strict=strict,
            limit=limit,
            n_shards=n_shards,
            on_disk=on_disk,
            watch=watch,
        ) as held,
    ):
        imported = held.imported
        watch(Imported(held.read, imported.quarantined.height, tuple(map(str, imported.audit))))
        count = Counting(planned.stages, watch)
        count.took("sources", began)
        if unread := held.unscored():
            count.unscored["sources"] = unread
        with (
            Ledger(folder / "ledger") as ledger,
            Edge(
                recipe.specs,
                ledger,
                fresh=fresh,
                purse=purse,
                watch=count.asking,
                opens=opens,
            ) as edge,
            _stoppable(edge, ledger, watch),
            watchdog(edge.clients, watch, lambda: count.running),
        ):
            expected = forecast(
                planned,
                held.few(),
                find=ledger.find,
                sample=REHEARSED,
                n_prompts=held.read.get("prompts"),
            )
            held.refuse_room(round(BYTES_A_TOKEN * sum(each.tokens_out for each in expected)))
            if ask is None:
                edge.prepare(to_ask(planned, expected))
                if purse.is_budgeted:
                    for error in unbounded(planned, expected):
                        raise error
            check = edge.clients.refuse_stopped
            held.follow(planned.stages, count, check, ask or edge, run)
            began = Timing()
            rows = held.export(planned.exports, ask or edge)
            count.took("exports", began)
        requests = edge.counts.requests
        partial = _partial(count.missing, edge.limit, edge.advice)
        tokens = {"in": edge.counts.tokens_in, "out": edge.counts.tokens_out}
        tables, gone = held.heights(), held.dropped()
        written = held.write(
            folder,
            recipe.name,
            savings={export_folder(each): saving(each.function) for each in planned.exports},
            recipe_text=recipe.text or recipe.to_toml(),
            resolved=planned.resolved,
            judges={name: judge.to_toml() for name, judge in planned.judges.items()},
            judge_digests={name: judge.digest for name, judge in planned.judges.items()},
            juries={jury.name: jury.to_toml() for stage in planned.stages for jury in stage.juries},
            counts={
                "stages": count.funnel,
                "unscored": count.unscored,
                "requests": requests,
                "tokens": tokens,
                "cost": edge.counts.cost,
                "spent": count.spent,
                "seconds": {what: round(spent, 3) for what, spent in count.seconds.items()},
                "busy": {what: round(spent, 3) for what, spent in count.busy.items()},
                "sources": imported.rows,
                "audit": [str(finding) for finding in imported.audit],
                **({"nothing_made": count.nothing_made} if count.nothing_made else {}),
            },
            quarantined=imported.quarantined.iter_rows(named=True),
            splits=recipe.splits,
            seed=recipe.seed,
            description=recipe.description,
            licenses={spec.name: spec.licence for spec in recipe.sources.specs if spec.licence},
            partial=partial,
        )
        return Built(
            name=recipe.name,
            id=written.id,
            path=str(written.path),
            is_new=written.is_new,
            tables=tables,
            exports=rows,
            dropped=gone,
            unscored=count.unscored,
            quarantined=imported.quarantined.height,
            requests=requests,
            tokens=tokens,
            cost=edge.counts.cost,
            partial=partial,
            nothing_made=count.nothing_made,
        )


def _partial(missing: Mapping[str, int], limit: str, advice: str) -> dict[str, Any] | None:
    """What a manifest says of a build that a limit ended."""
    if not missing:
        return None
    go_on = (
        "build the same recipe again without the limit or with a higher one; what was answered is "
        "in the ledger and is not asked again"
    )
    said = {"reason": limit, "missing": dict(missing), "go_on": go_on}
    return {**said, "advice": advice} if advice else said


@contextmanager
def _stoppable(edge: Edge, ledger: Ledger, watch: Watch) -> Generator[None]:
    """Ctrl-C ends the build gracefully, with `Stopped`, which says what was answered."""
    try:
        with graceful(edge.clients, watch):
            yield
    except (KeyboardInterrupt, PrefdataError) as error:
        if isinstance(error, PrefdataError) and not edge.clients.is_stopping:
            raise
        n = edge.counts.asked - edge.counts.failed
        answers = "1 request was answered" if n == 1 else f"{n:,} requests were answered"
        kept = f"; everything answered is kept in {ledger.folder}"
        up = edge.clients.given_up
        left = Counts(asked=up, failed=up, unsent=edge.unanswered - up)
        edge.counts.add(left)
        raise Stopped(f"{answers} in this run{kept}", edge.counts.requests) from error


@dataclass(frozen=True)
class Estimate:
    """The plan, the rows of the sources by table, and what each stage would ask.

    `share` of the sources was read for it, the first rows of large ones: the rest is scaled.
    """

    plan: Plan
    rows: dict[str, int]
    asked: list[Forecast]
    share: float = 1.0


def estimate(
    recipe: Recipe | str | Path,
    *,
    data: str | Path | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    fresh: bool = False,
    strict: bool = False,
    budget: float | None = None,
) -> Estimate:
    """What `build` would run, read and ask. Asks nothing, spends nothing, writes nothing.

    Of sources that a build would hold on disk the first `PLANNED` rows are read. `BudgetError`
    where a build with this budget would raise it.
    """
    refuse_limits(budget=budget)
    planned = _planned(recipe, changes, limit)
    recipe, folder = planned.recipe, data_folder(data)
    budget = recipe.budget if budget is None else budget
    imported = sources.read(
        recipe.sources,
        recipe.folder,
        strict=strict,
        limit=limit,
        first=PLANNED if Room.of(planned, limit).is_large else None,
    )
    n = imported.tables["prompts"].height
    factor = 1 / imported.share if limit is None else min(1 / imported.share, limit / max(n, 1))
    rows = {name: round(frame.height * factor) for name, frame in imported.tables.items()}
    with Ledger(folder / "ledger") as ledger:
        asked = forecast(
            planned,
            start(planned, imported.tables, folder),
            find=None if fresh else ledger.find,
            experience=Experience().see(ledger.sample(LEARNED)),
            count=counter,
            n_prompts=rows["prompts"],
            guess=GUESSED if factor > 1 else 0.0,
        )
    for error in unpriced(of_roles(planned, to_ask(planned, asked)), budget):
        raise error
    for error in () if budget is None else unbounded(planned, asked):
        raise error
    return Estimate(planned, rows, asked, 1 / factor)


def purse_for(recipe: Recipe, budget: float | None, max_requests: int | None) -> Purse:
    """What a build of a recipe may spend: as given, else as the recipe says."""
    return Purse.of(
        recipe.budget if budget is None else budget,
        recipe.max_requests if max_requests is None else max_requests,
    )


def refuse_limits(*, n_shards: Any = 1, budget: Any = None, max_requests: Any = None) -> None:
    """`RecipeError` for what is none of these, as a deployment's file may hold it."""
    if not _is_whole(n_shards) or n_shards < 1:
        raise RecipeError(f"n_shards is {n_shards!r}; it is a number of parts, at least 1")
    if max_requests is not None and (not _is_whole(max_requests) or max_requests < 0):
        raise RecipeError(f"max_requests is {max_requests!r}; it is a whole number, at least 0")
    is_amount = isinstance(budget, float) or _is_whole(budget)
    if budget is not None and not (is_amount and budget >= 0):  # what is no number is not
        raise RecipeError(f"budget is {budget!r}; it is an amount of USD, at least 0")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _planned(recipe: Recipe | str | Path, changes: Sequence[str], limit: int | None) -> Plan:
    """The plan of a recipe, rehearsed on no rows."""
    if not isinstance(recipe, Recipe):
        recipe = Recipe.load(recipe, changes=changes)
    elif changes:
        raise RecipeError("changes apply to a recipe's file; change a Recipe in Python itself")
    if limit is not None and (not _is_whole(limit) or limit < 1):
        raise RecipeError(f"limit is {limit!r}; it is a number of prompts, at least 1")
    planned = plan(recipe)
    rehearse(planned)
    return planned
