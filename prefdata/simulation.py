"""How well each way of routing would have done on a dataset that has people's and models' votes.

People's votes are hidden from the routers and shown where a row is routed. Routers that learn from
people's votes do so on one half of the prompt groups and are tried on the other, and then the other
way round: what those votes cost is not in their curves, and `taught` says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.aggregate._annotators import is_by, votes_by
from prefdata.errors import RecipeError, counted, nearest
from prefdata.estimate._evidence import folds
from prefdata.measure._means import with_groups
from prefdata.recipe import find_stage
from prefdata.route._curve import Curve, Known, curve, reached
from prefdata.route._groups import prompt_of
from prefdata.route._people import verdicts
from prefdata.route._signals import code
from prefdata.route.features import TEXTS, VOTES
from prefdata.stage import contract, drive
from prefdata.tables import SIDES, Votes

Tables = Mapping[str, pl.DataFrame]
BASELINE = "random"


@dataclass(frozen=True)
class Router:
    """A stage with its options; `taught` where it learns from people's votes."""

    name: str
    use: str
    options: Mapping[str, Any]
    taught: bool = False


ROUTERS: tuple[Router, ...] = (
    Router(BASELINE, "route.random", {}),
    Router("uncertainty", "route.uncertainty", {}),
    Router("disagreement", "route.disagreement", {}),
    Router("swap_inconsistency", "route.disagreement", {"of": "orders"}),
    Router("expected_gain", "route.expected_gain", {}),
    Router("group_regret", "route.group_regret", {}, taught=True),
    Router("performance_predictor", "route.performance_predictor", {}, taught=True),
)


def chosen(names: Sequence[str]) -> list[Router]:
    """The routers of these names, all if there is none, and the lot before them."""
    known = {router.name: router for router in ROUTERS}
    for name in names:
        if name not in known:
            raise RecipeError(f"simulate-routing: no router {name!r}; {nearest(name, known)}")
    wanted = names or known
    return [known[name] for name in dict.fromkeys([BASELINE, *wanted])]


def percent(said: str) -> list[float]:
    """Shares from percents parted by commas."""
    try:
        shares = [float(each) / 100 for each in said.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise RecipeError(f"simulate-routing: --at {said!r}; give percents, as in 5,10,20")
    return shares


@dataclass(frozen=True)
class Simulated:
    """The curve of each router, on rows with a label, a person's vote and a truth."""

    known: Known
    curves: Mapping[str, Curve]
    routers: Mapping[str, Router]
    price: float | None

    def at(self, share: float) -> int:
        """How many rows that share of them is."""
        return int(share * self.known.n + 1e-9)

    def to_json(self, shares: Sequence[float], accuracy: float | None) -> dict[str, Any]:
        """Rows, accuracies at some shares, areas, and the budget that reaches an accuracy."""
        random = self.curves[BASELINE]
        return {
            "rows": self.known.n,
            "label_accuracy": float(self.known.label.mean()),
            "person_accuracy": float(self.known.person.mean()),
            "routers": {
                name: {
                    "taught": self.routers[name].taught,
                    "area": each.area,
                    "area_low": each.area_low,
                    "area_high": each.area_high,
                    "at": [self._point(each, random, share) for share in shares],
                    "reaches": None if accuracy is None else self._budget(each, accuracy),
                }
                for name, each in self.curves.items()
            },
        }

    def _point(self, each: Curve, random: Curve, share: float) -> dict[str, Any]:
        k = self.at(share)
        values = {"accuracy": each.mean[k], "low": each.low[k], "high": each.high[k]}
        said = {name: float(value) for name, value in values.items()}
        above = bool(each.mean[k] > random.high[k])
        return {"share": share, "rows": k, **self._cost(k), **said, "above_random": above}

    def _budget(self, each: Curve, accuracy: float) -> dict[str, Any] | None:
        k = reached(each.mean, accuracy)
        return None if k is None else {"rows": k, "share": k / self.known.n, **self._cost(k)}

    def _cost(self, k: int) -> dict[str, float]:
        return {} if self.price is None else {"cost": k * self.price}


def simulate(
    frames: Tables,
    *,
    label: str,
    person: str,
    truth: str,
    routers: Sequence[Router] = ROUTERS,
    aggregate: str = "aggregate.reliability",
    aggregate_options: Mapping[str, Any] | None = None,
    draws: int = 200,
    seed: int = 0,
    price: float | None = None,
) -> Simulated:
    """Route the rows of tables with `votes` in every way.

    `label` is the annotator whose verdict a row has, `person` the one whose vote a routed row gets,
    `truth` those whose most frequent verdict is right: one by name or a kind as "human:*".
    `aggregate` makes the posterior from the models' votes alone.
    """
    votes = Votes(frames["votes"])
    kind = person.partition(":")[0]
    if label.partition(":")[0] == kind:
        raise RecipeError(
            f"simulate-routing: the label is of {label!r}, but routers see no votes of {kind}:*, "
            "who are asked; give a label of another kind of annotator"
        )
    rows = _rows(votes, frames, label, person, truth)
    hidden = votes.filter(~is_by(f"{kind}:*"))
    mine = hidden.join(rows.select(SIDES), on=SIDES, how="semi", maintain_order="left")
    shown = votes.filter(is_by(person)).join(rows.select(SIDES), on=SIDES, how="semi")
    kept = {**{name: frames[name] for name in ("prompts", "completions")}, "votes": mine}
    kept["scores"] = _run(aggregate, kept, aggregate_options or {})
    kept["scores"] = _run("route.features", kept, {})
    told = [name for name in (*TEXTS, *VOTES) if name in kept["scores"]["score"]]
    numbers = rows["group"].rank("dense").to_numpy().astype(np.int64) - 1
    known = Known(rows["label_right"].to_numpy(), rows["person_right"].to_numpy(), numbers)
    half = folds(numbers, 2, seed)
    curves: dict[str, Curve] = {}
    for router in routers:
        if router.taught:
            gain = np.full(rows.height, np.nan)
            for part in (0, 1):
                taught = shown.join(rows.filter(half != part).select(SIDES), on=SIDES, how="semi")
                given = {**kept, "votes": pl.concat([mine, taught])}
                learnt = _gains(router, given, rows, label, kind, seed, features=told)
                gain[half == part] = learnt[half == part]
        else:
            gain = _gains(router, kept, rows, label, kind, seed)
        curves[router.name] = curve(known, gain, draws=draws, seed=seed)
    return Simulated(known, curves, {each.name: each for each in routers}, price)


def _rows(votes: Votes, frames: Tables, label: str, person: str, truth: str) -> pl.DataFrame:
    """Sides, `group`, `label_right` and `person_right` of rows on which all three have spoken."""
    where = "simulate-routing"
    told = {"label": label, "person": person}
    rows = _most_frequent(votes_by(votes, truth, where))
    for name, annotator in told.items():
        own = verdicts(votes_by(votes, annotator, where), name)
        rows = rows.join(own, on=SIDES)
    if rows.is_empty():
        raise RecipeError(
            f"{where}: there is no row with a verdict of {label!r}, a vote of {person!r} and a "
            f"most frequent verdict of {truth!r}; `prefdata show` names the annotators"
        )
    prompts = frames.get("prompts")
    grouped = with_groups(prompt_of(rows, votes), prompts)  # pyright: ignore[reportArgumentType]
    # Where one side is always better, a tie is as good as a coin's toss.
    of_tie = 0.0 if (rows["truth"] == 0).any() else 0.5
    right = [
        pl.when(pl.col(name) == pl.col("truth"))
        .then(1.0)
        .when(pl.col(name) == 0)
        .then(of_tie)
        .otherwise(0.0)
        .alias(f"{name}_right")
        for name in told
    ]
    return grouped.select(*SIDES, "group", *right).sort(SIDES)


def _most_frequent(votes: pl.DataFrame) -> pl.DataFrame:
    """Sides and `truth`: the verdict that most annotators gave; two as frequent are none."""
    mean = pl.col("preference").mean()
    known = votes.drop_nulls("preference").sort(*SIDES, "annotator", "preference")
    own = known.group_by(*SIDES, "annotator", maintain_order=True).agg(code(mean).alias("code"))
    each = own.group_by(*SIDES, "code").len()
    most = pl.col("len") == pl.col("len").max()
    told = each.group_by(SIDES).agg(truth=pl.col("code").filter(most))
    return told.filter(pl.col("truth").list.len() == 1).with_columns(pl.col("truth").list.first())


def _gains(
    router: Router,
    frames: Tables,
    rows: pl.DataFrame,
    label: str,
    kind: str,
    seed: int,
    **more: Any,
) -> Any:
    """The gain of each row; NaN where the router gives none."""
    options: dict[str, Any] = {"budget": {"share": 1.0, "audit": 0.0}, "annotator": kind}
    options |= {"label": label, "seed": seed, **more, **router.options}
    known = contract(find_stage(router.use)).options
    own = {name: value for name, value in options.items() if name in known}
    assigned = _run(router.use, frames, own, "assignments")
    found = rows.join(assigned.select(*SIDES, "gain"), on=SIDES, how="left", maintain_order="left")
    return found["gain"].fill_null(float("nan")).to_numpy()


def _run(use: str, frames: Tables, options: Mapping[str, Any], table: str = "scores") -> Any:
    """One of the tables that a stage makes, without any model."""
    stage = find_stage(use)
    terms = contract(stage)
    made = drive(stage(*(frames.get(name) for name in terms.sees), **options), _nobody)
    found: Any = made[terms.writes.index(table)] if len(terms.writes) > 1 else made
    return tables.check(table, found, where=use)


def _nobody(requests: pl.DataFrame) -> Any:
    raise RecipeError(
        f"simulate-routing asks no model, but {counted(requests.height, 'request')} would be sent"
    )
