"""What moves an annotator's votes besides what the others think of the two completions.

Of annotator j and comparison u with differences x_u of traits (a less b),

    P(j prefers a) = sigmoid(a_j theta_u + c_j z + b_j . x_u),   z = 1 if a was shown first, else -1

and theta_u is what the k of n others who prefer a say about the sides. Few votes are a noisy
statement: taken as they are they leave some of the quality to whatever goes along with it, as
length often does. So theta_u has the distribution that a logistic model with a random effect gives
it after the others' votes,

    theta_u ~ Normal(g . x_u, t^2),   k ~ Binomial(n, sigmoid(theta_u)),

with g and t at the maximum of their likelihood, and a, c, b maximise the likelihood of j's votes
averaged over it. What the others have in common counts as quality: b is the effect beyond theirs.
Where gold is given, theta_u is gold's verdict (1, 0 or -1).

With s_g the score of group g of G groups of prompts, H the information and C the derivative of the
score by the first step's parameters, whose score and information are r_g and A, the errors are

    G / (G - 1)  sum_g i_g i_g',   i_g = H^-1 (s_g + C A^-1 r_g)

Source: Carroll et al. 2006, "Measurement Error in Nonlinear Models" (a covariate known by noisy
repeats); Murphy and Topel 1985 (errors after a first step); Liang and Zeger 1986 (groups).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize, special

from prefdata.errors import RecipeError, nearest
from prefdata.measure._means import COLUMNS, ONE_GROUP, student

Floats = NDArray[Any]
# The log-likelihood at some parameters, and each row's score.
Scored = Callable[[Floats], tuple[float, Floats]]
SPECIAL: Any = special
OPTIMIZE: Any = optimize

UNIT = ["completion_a", "completion_b", "criterion"]
# Standard normal nodes, fine enough for the posterior of some hundred votes.
NODES = np.linspace(-4.5, 4.5, 31)
NODE_WEIGHTS = -(NODES**2) / 2 - np.log(np.exp(-(NODES**2) / 2).sum())
# Spread of the weak priors on standardised effects, and on the logarithm of t.
WIDE, WIDE_LOG = 10.0, 2.0
BLOCK = 1 << 16
SEPARATED = "the effects explain every vote: they are only known to be large"
NO_OTHERS = "no others' votes: quality is not held constant"
STILL = "no comparison differs in it"
ONE_OTHER = "at most one other vote a comparison: how far quality spreads is assumed"


@dataclass(frozen=True)
class Seen:
    """An annotator's votes: preference, traits (rows, K), place, others' k of n, and group.

    `first` marks one row of each comparison; `verdict` is gold's, or None.
    """

    y: Floats
    x: Floats
    place: Floats
    k: Floats
    n: Floats
    group: NDArray[np.int64]
    first: NDArray[np.bool_]
    verdict: Floats | None = None

    def __getitem__(self, at: Any) -> "Seen":
        columns: tuple[Any, ...]
        columns = (self.y, self.x, self.place, self.k, self.n, self.group, self.first)
        y, x, place, k, n, group, first = (column[at] for column in columns)
        return Seen(
            y,
            x,
            place,
            k,
            n,
            group,
            first,
            verdict=None if self.verdict is None else self.verdict[at],
        )

    def blocks(self) -> Iterator[tuple[slice, "Seen"]]:
        for start in range(0, len(self.y), BLOCK):
            at = slice(start, start + BLOCK)
            yield at, self[at]


@dataclass(frozen=True)
class Effects:
    """The traits' effects and their errors; NaN where no vote could show them."""

    value: Floats
    stderr: Floats
    n_groups: int
    separated: bool


def fit_effects(seen: Seen) -> Effects:
    """The effects of the traits on the votes."""
    # Traits of any scale are one to the priors.
    scale = np.sqrt((seen.x**2).mean(0))
    scale = np.where(scale > 1e-12, scale, 1.0)
    seen = Seen(
        seen.y, seen.x / scale, seen.place, seen.k, seen.n, seen.group, seen.first, seen.verdict
    )
    n_groups = int(seen.group.max()) + 1
    known = seen[seen.first & (seen.n > 0)]
    others = seen.verdict is None and len(known.y) > 0
    n_traits = seen.x.shape[1]
    moved = np.abs(seen.x).max(0) > 1e-12
    active = np.concatenate(
        [[others or seen.verdict is not None], [bool(np.any(seen.place))], moved]
    )

    def first_scores(spread: Floats) -> tuple[float, Floats]:
        return _first_step(known, spread)

    spread, inner = np.zeros(n_traits + 1), 1 / np.r_[np.full(n_traits, WIDE), WIDE_LOG] ** 2
    bread = np.zeros((n_traits + 1, n_traits + 1))
    if others:
        spread, bread = _maximum(first_scores, spread, inner)

    def scores(found: Floats, by: Floats) -> tuple[float, Floats]:
        whole = np.zeros(len(active))
        whole[active] = found
        likelihood, each = _second_step(seen, whole, by if others else None)
        return likelihood, each[:, active]

    start = np.zeros(int(active.sum()))
    if not active.any():
        nothing = np.full(n_traits, np.nan)
        return Effects(nothing, nothing, n_groups, False)
    found, inverse = _maximum(lambda b: scores(b, spread), start, np.full(len(start), WIDE**-2))
    _, each = scores(found, spread)
    influence = _by_group(each, seen.group, n_groups)
    if others:
        cross = _slope(lambda by: scores(found, by)[1].sum(0), spread)
        before = _by_group(first_scores(spread)[1], known.group, n_groups)
        influence = influence + before @ bread @ cross.T
    influence = influence @ inverse
    covariance = influence.T @ influence * n_groups / max(n_groups - 1, 1)
    value, error = (np.full(len(active), np.nan) for _ in range(2))
    value[active], error[active] = found, np.sqrt(np.diag(covariance))
    whole = np.where(active, value, 0.0)
    left = _left(seen, whole, spread if others else None)
    if n_groups < 2 or left < 0.01:
        error[:] = np.nan
    return Effects(value[2:] / scale, error[2:] / scale, n_groups, left < 0.01)


def _maximum(scores: Scored, start: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Where likelihood and prior are greatest, and the inverse of their information there."""
    many = max(len(scores(start)[1]), 1)

    def minus(at: Floats) -> tuple[float, Floats]:
        likelihood, each = scores(at)
        penalty = float((prior * at**2).sum()) / 2
        return (penalty - likelihood) / many, (prior * at - each.sum(0)) / many

    at: Floats = OPTIMIZE.minimize(minus, start, jac=True, method="BFGS", options={"gtol": 1e-6}).x
    information = np.diag(prior) - _slope(lambda b: scores(b)[1].sum(0), at)
    inverse = np.linalg.pinv((information + information.T) / 2, hermitian=True)
    step = inverse @ (scores(at)[1].sum(0) - prior * at)
    if np.abs(step).max(initial=0) < 1e-2:
        at = at + step
    return at, inverse


def _slope(function: Callable[[Floats], Floats], at: Floats, width: float = 1e-4) -> Floats:
    """The derivative of a vector by each parameter: (values, parameters)."""
    columns = [
        (function(at + width * e) - function(at - width * e)) / (2 * width) for e in np.eye(len(at))
    ]
    return np.stack(columns, 1)


def _by_group(each: Floats, group: NDArray[np.int64], n_groups: int) -> Floats:
    return np.stack([np.bincount(group, c, n_groups) for c in each.T], 1)


def _nodes(seen: Seen, spread: Floats | None) -> tuple[Floats, Floats]:
    """Values of theta and the logarithms of their weights by prior and others' votes."""
    if spread is None:
        verdict = np.zeros(len(seen.y)) if seen.verdict is None else seen.verdict
        return verdict[:, None], np.zeros((len(verdict), 1))
    theta = (seen.x @ spread[:-1])[:, None] + np.exp(spread[-1]) * NODES
    k, n = seen.k[:, None], seen.n[:, None]
    return theta, NODE_WEIGHTS + k * theta + n * SPECIAL.log_expit(-theta)


def _first_step(seen: Seen, spread: Floats) -> tuple[float, Floats]:
    likelihood, each = 0.0, np.empty((len(seen.y), len(spread)))
    for at, some in seen.blocks():
        theta, weight = _nodes(some, spread)
        total = SPECIAL.logsumexp(weight, 1)
        residual = np.exp(weight - total[:, None]) * (
            some.k[:, None] - some.n[:, None] * SPECIAL.expit(theta)
        )
        each[at, :-1] = residual.sum(1)[:, None] * some.x
        each[at, -1] = residual @ NODES * np.exp(spread[-1])
        likelihood += float(total.sum())
    return likelihood, each


def _second_step(seen: Seen, effects: Floats, spread: Floats | None) -> tuple[float, Floats]:
    likelihood, each = 0.0, np.empty((len(seen.y), len(effects)))
    for at, some in seen.blocks():
        theta, weight = _nodes(some, spread)
        design = np.column_stack([some.place, some.x])
        eta = effects[0] * theta + (design @ effects[1:])[:, None]
        y = some.y[:, None]
        after = weight + y * eta + SPECIAL.log_expit(-eta)
        total = SPECIAL.logsumexp(after, 1)
        residual = np.exp(after - total[:, None]) * (y - SPECIAL.expit(eta))
        each[at, 0] = (residual * theta).sum(1)
        each[at, 1:] = residual.sum(1)[:, None] * design
        likelihood += float((total - SPECIAL.logsumexp(weight, 1)).sum())
    return likelihood, each


def _left(seen: Seen, effects: Floats, spread: Floats | None) -> float:
    """How far the votes are from what the effects predict, in the mean."""
    apart = 0.0
    for _, some in seen.blocks():
        theta, weight = _nodes(some, spread)
        eta = effects[0] * theta + (some.place * effects[1] + some.x @ effects[2:])[:, None]
        share = np.exp(weight - SPECIAL.logsumexp(weight, 1)[:, None])
        apart += float(np.abs(some.y - (share * SPECIAL.expit(eta)).sum(1)).sum())
    return apart / len(seen.y)


def refuse_unknown(votes: pl.DataFrame, names: Sequence[str], where: str) -> None:
    known = votes["annotator"].unique().sort().to_list()
    for name in names:
        if known and name not in known:
            raise RecipeError(f"{where}: {name!r} has no vote; {nearest(name, known)}")


def with_others(
    votes: pl.DataFrame,
    gold: str | None,
    kin: pl.Expr | None = None,
    told: pl.Expr | None = None,
) -> pl.DataFrame:
    """Scored votes with `k` of `n` others who prefer a, and gold's `verdict`; sorted.

    Each other annotator counts once a comparison; `kin` labels annotators, and those of one label
    are no others to each other; `told` says whose votes tell of quality. With gold only comparisons
    that it voted on stay.
    """
    scored = votes.drop_nulls("preference")
    if gold is not None:
        said = scored.filter(pl.col("annotator") == gold).group_by(UNIT)
        verdict = said.agg(verdict=(2 * pl.col("preference").sort().mean() - 1).sign())
        scored = scored.filter(pl.col("annotator") != gold).join(verdict, on=UNIT)
    else:
        scored = scored.with_columns(verdict=pl.lit(None, pl.Float64))
    scored = scored.with_columns(kin=pl.col("annotator") if kin is None else kin)
    telling = scored if told is None else scored.filter(told)
    once = telling.group_by(*UNIT, "kin", "annotator").agg(p=pl.col("preference").sort().mean())
    own = once.group_by(*UNIT, "kin").agg(kin_k=pl.col("p").sort().sum(), kin_n=pl.len())
    total = once.group_by(UNIT).agg(all_k=pl.col("p").sort().sum(), all_n=pl.len())
    first = pl.col("a_first").cast(pl.Float64) * 2 - 1
    counts = pl.col("kin_k", "kin_n", "all_k", "all_n")
    return (
        scored.join(own, on=[*UNIT, "kin"], how="left")
        .join(total, on=UNIT, how="left")
        .with_columns(counts.fill_null(0).cast(pl.Float64))
        .with_columns(
            subject="annotator",
            place=first.fill_null(0.0),
            n=pl.col("all_n") - pl.col("kin_n"),
        )
        .with_columns(k=(pl.col("all_k") - pl.col("kin_k")).clip(0, pl.col("n")))
        .sort("annotator", *UNIT, "draw", "a_first")
    )


def toward(trait: str) -> pl.Expr:
    """The preference for the side with more of a trait; null where both have as much."""
    x, y = pl.col(trait), pl.col("preference")
    return pl.when(x > 0).then(y).when(x < 0).then(1 - y)


def effects_of(rows: pl.DataFrame, measures: Mapping[str, str]) -> pl.DataFrame:
    """Rows of `measures` for each subject: the effect of each column, all in one model.

    `measures` names the measure of each column of traits; "" is a trait only held constant.
    """
    made = [pl.DataFrame(schema=COLUMNS)]
    for mine in rows.partition_by("subject", maintain_order=True):
        group = mine["group"].rank("dense").cast(pl.Int64).to_numpy() - 1
        verdict = mine["verdict"]
        seen = Seen(
            y=mine["preference"].to_numpy(),
            x=mine.select(*measures).to_numpy(),
            place=mine["place"].to_numpy(),
            k=mine["k"].to_numpy(),
            n=mine["n"].to_numpy(),
            group=group,
            first=mine.select(pl.struct(UNIT).is_first_distinct()).to_series().to_numpy(),
            verdict=None if verdict.is_null().any() else verdict.to_numpy(),
        )
        found = fit_effects(seen)
        made.append(_stated(mine["subject"][0], seen, found, list(measures.values())))
    return pl.concat(made)


def _stated(subject: str, seen: Seen, found: Effects, names: list[str]) -> pl.DataFrame:
    t = float(student(pl.Series([float(found.n_groups)]))[0] or 0.0)
    frame = pl.DataFrame(
        {
            "measure": names,
            "value": found.value,
            "stderr": found.stderr,
            "note": [_note(seen, found, moving) for moving in (seen.x != 0).T],
            "n": np.count_nonzero(seen.x, axis=0),
        },
        schema_overrides={"note": pl.String},
    ).with_columns(pl.col("value", "stderr").fill_nan(None), pl.col("n").cast(pl.Int64))
    return frame.filter(pl.col("measure") != "").select(
        "measure",
        pl.lit(subject).alias("subject"),
        "value",
        "stderr",
        low=pl.col("value") - t * pl.col("stderr"),
        high=pl.col("value") + t * pl.col("stderr"),
        note="note",
        n="n",
    )


def _note(seen: Seen, found: Effects, moving: NDArray[np.bool_]) -> str | None:
    """What the effect of a trait rests on, by the votes that it may have moved."""
    if not moving.any():
        return STILL
    said: list[str] = []
    if found.n_groups < 2:
        said.append(ONE_GROUP)
    if found.separated:
        said.append(SEPARATED)
    if seen.verdict is None and seen.n[moving].max() == 0:
        said.append(NO_OTHERS)
    elif seen.verdict is None and seen.n[moving].max() < 2:
        said.append(ONE_OTHER)
    return "; ".join(said) or None
