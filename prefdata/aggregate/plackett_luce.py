"""Plackett-Luce strengths from rankings: each place goes to one of those left by their strengths.

    P(c1 before c2 before ... before cK) = prod_s exp(theta_cs) / sum_{t >= s} exp(theta_ct)

A ranking with ties is all orders that it leaves open, with equal weights that sum to 1, so a
ranking of two is a Bradley-Terry vote and a tied one half a vote for each.

Source: Luce (1959), "Individual Choice Behavior"; Plackett (1975), "The Analysis of Permutations";
Hunter (2004), "MM algorithms for generalized Bradley-Terry models", for when an optimum exists.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, prod

import numpy as np
import polars as pl
from scipy.special import expit, log_expit

from prefdata.aggregate import _graph
from prefdata.aggregate._ascent import ascend
from prefdata.aggregate._criteria import weigh
from prefdata.aggregate._graph import Floats, Ints
from prefdata.aggregate._tally import preferences
from prefdata.errors import ConvergenceError, RecipeError, TableError
from prefdata.tables import Rankings, Scores, Strengths

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"

# A tie of six, or two ties of three and one of five, leaves as many orders open or fewer.
MOST_ORDERS = 5_000


@dataclass(frozen=True)
class Orders:
    """Rankings of one length without ties: `items` (rankings, places), best first, by `weight`."""

    items: Ints
    weight: Floats

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Every two places, the better first."""
        k = self.items.shape[1]
        return ((s, t) for s in range(k) for t in range(s + 1, k))


@dataclass(frozen=True)
class RankFit:
    """Strengths of mean 0 in each component; `anchor` is the prior's opponent's strength."""

    strengths: Floats
    anchor: Floats
    component: Ints
    log_density: float
    residual: float


def fit_plackett_luce(
    orders: Sequence[Orders],
    *,
    n_items: int,
    prior: float = 0.1,
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    where: str = "Plackett-Luce",
) -> RankFit:
    """Maximise the likelihood of rankings, each item having `prior` wins and losses against 0.

    Raises `ConvergenceError` where a part of the gradient is above ten times `tolerance` after
    `max_iterations` iterations, and with prior 0 where some items are never behind others.
    """
    better, worse = _compared(orders)
    component = _graph.components(better, worse, n_items)
    if prior == 0:
        ones = np.ones(len(better))
        found = _graph.one_sided(better, worse, ones, 0 * ones, component)
        if found is not None:
            raise ConvergenceError(
                f"{where} with prior 0 has no finite optimum: some items are never behind others, "
                f"first in the component of items {found[2]}; residual inf after 0 iterations; "
                "give a prior above 0"
            )

    def climb(theta: Floats) -> tuple[float, Floats]:
        against = log_expit(theta) + log_expit(-theta)
        density, gradient = prior * float(against.sum()), -prior * np.tanh(theta / 2)
        for each in orders:
            x = theta[each.items]
            left = _log_left(x)
            density += float(each.weight @ (x - left).sum(1))
            # An item's chance to be taken at each place up to its own.
            taken = np.exp(x + np.logaddexp.accumulate(-left, axis=1))
            pull = each.weight[:, None] * (1 - taken)
            gradient = gradient + np.bincount(each.items.ravel(), pull.ravel(), n_items)
        return density, gradient

    theta, residual = ascend(
        climb,
        np.zeros(n_items),
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=where,
    )
    strengths, mean = _graph.centred(theta, component)
    return RankFit(strengths, -mean, component, climb(theta)[0], residual)


def standard_errors(
    fit: RankFit, orders: Sequence[Orders], *, prior: float = 0.1
) -> tuple[Floats, Ints, Ints, Floats]:
    """Errors of strengths; and every two that were ranked together, with their difference's."""
    n = len(fit.strengths)
    theta = fit.strengths - fit.anchor
    keys: list[Ints] = [np.zeros(0, np.int64)]
    of_pairs: list[Floats] = [np.zeros(0)]
    for each in orders:
        x = theta[each.items]
        # The information of one place is that of every two left there: p_a p_b of them.
        squared = np.logaddexp.accumulate(-2 * _log_left(x), axis=1)
        for s, t in each.pairs():
            low, high = np.sort(each.items[:, [s, t]], axis=1).T
            keys.append(low * n + high)
            of_pairs.append(each.weight * np.exp(x[:, s] + x[:, t] + squared[:, s]))
    key, row = np.unique(np.concatenate(keys), return_inverse=True)
    of_two = np.bincount(row, np.concatenate(of_pairs), len(key)).astype(np.float64, copy=False)
    one, other = np.divmod(key, max(n, 1))
    of_prior = 2 * prior * expit(theta) * expit(-theta)
    of_item, apart, _ = _graph.standard_errors(fit.component, one, other, of_two, of_prior)
    return of_item, one, other, apart


def _log_left(x: Floats) -> Floats:
    """At each place, the logarithm of the summed exp of those from there on."""
    return np.logaddexp.accumulate(x[:, ::-1], axis=1)[:, ::-1]


def _compared(orders: Sequence[Orders]) -> tuple[Ints, Ints]:
    """Who stood directly before whom in some order."""
    none = np.zeros(0, np.int64)
    before = [none, *(each.items[:, :-1].ravel() for each in orders)]
    behind = [none, *(each.items[:, 1:].ravel() for each in orders)]
    return np.concatenate(before), np.concatenate(behind)


def plackett_luce(
    rankings: Rankings,
    *,
    prior: float = 0.1,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    estimator: str = "plackett_luce",
) -> tuple[Strengths, Scores]:
    """Estimate strengths on the log scale from rankings, whole or of some completions only.

    Each place goes to one of the completions that are left, with probabilities in proportion to
    exp(theta), by maximum likelihood with a weak prior. A ranking with ties stands for all orders
    that it leaves open, each by an equal part. Rankings of two are Bradley-Terry's votes. Unscored
    rankings are left out; a ranking of one completion says nothing.

    - `strengths`: theta, of mean 0 over the completions that rankings connect, and its standard
      error from the inverse observed information on that scale.
    - `scores`: for every two completions ranked together `preference`, P(the smaller completion_id
      is ranked before the other) = sigmoid(theta_a - theta_b), in [0, 1], with standard error.

    Standard errors are null where rankings connect more than 10,000 completions.

    Options:
    - `prior`: wins, and as many losses, that each completion has against an opponent of strength
      0 before any ranking. 0 is maximum likelihood.
    - `criteria`: the criteria whose rankings count; default all.
    - `weights`: rankings that one ranking on a criterion counts for; default 1 each.
    - `tolerance`: the gradient, in places, that may be left.
    - `max_iterations`: iterations before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where there is no optimum or it was not reached; `RecipeError` for a
    criterion without rankings, a weight not above 0 or a prior below 0; `TableError` for a ranking
    that names a completion twice, has not one rank for each, or whose ties leave more than 5,000
    orders open.
    """
    where = f"aggregate.{estimator}"
    if not 0 <= prior < float("inf"):
        raise RecipeError(f"{where}: prior is {prior}; give 0 or a number above")
    known = weigh(rankings, criteria, weights).filter(pl.col("ranking").is_not_null())
    places = pl.col("ranking").list
    wrong = known.filter(
        (places.n_unique() != places.len()) | (places.len() != pl.col("ranks").list.len())
    )
    if wrong.height:
        first = wrong.select("prompt_id", "ranking", "ranks").row(0)
        raise TableError(
            f"{where}: {wrong.height} rankings name a completion twice or have not one rank for "
            f"each; first {first}"
        )
    named = known.select("prompt_id", completion_id="ranking").explode("completion_id")
    named = named.drop_nulls().unique().sort("completion_id")
    ids = named["completion_id"]
    orders = list(_orders(known, ids, where))
    found = fit_plackett_luce(
        orders,
        n_items=len(ids),
        prior=prior,
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=where,
    )
    of_item, one, other, apart = standard_errors(found, orders, prior=prior)
    strengths = named.select(
        "completion_id",
        pl.lit(estimator).alias("estimator"),
        "prompt_id",
        strength=pl.Series(found.strengths, dtype=pl.Float64),
        stderr=pl.Series(of_item, dtype=pl.Float64).fill_nan(None),
    )
    value = expit(found.strengths[one] - found.strengths[other])
    pairs = pl.DataFrame(
        {
            "completion_a": ids.gather(one),
            "completion_b": ids.gather(other),
            "value": value,
            "stderr": value * (1 - value) * apart,
        }
    )
    return Strengths(strengths), preferences(pairs, estimator)


def _orders(known: pl.DataFrame, ids: pl.Series, where: str) -> Iterator[Orders]:
    """Rankings by the pattern of their ties, as the orders that these leave open."""
    ranks = pl.col("ranks")
    pattern = ranks.cast(pl.List(pl.String)).list.join(",").alias("pattern")
    rows = known.filter(ranks.list.len() > 1).select("ranking", "weight", pattern)
    rows = rows.with_columns(names=pl.col("ranking").list.join(",")).sort(
        "pattern", "names", "weight"
    )
    for (shape,), same in rows.group_by("pattern", maintain_order=True):
        each = np.array([int(rank) for rank in str(shape).split(",")])
        tied = [np.flatnonzero(each == rank).tolist() for rank in np.unique(each)]
        n_orders = prod(factorial(len(group)) for group in tied)
        if n_orders > MOST_ORDERS:
            raise TableError(
                f"{where}: ranks {each.tolist()} leave {n_orders} orders open, more than "
                f"{MOST_ORDERS}; give such rankings as votes and use aggregate.davidson"
            )
        items = _graph.numbers(same["ranking"].explode(), ids).reshape(same.height, len(each))
        opened = [
            [place for group in order for place in group]
            for order in product(*(permutations(group) for group in tied))
        ]
        weight = same["weight"].to_numpy() / n_orders
        yield Orders(items[:, np.array(opened)].reshape(-1, len(each)), np.repeat(weight, n_orders))
