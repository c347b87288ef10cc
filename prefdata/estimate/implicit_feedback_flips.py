"""Votes, clicks and accepts: what was not voted for may have been liked all the same.

A user u likes completion i with probability p = sigmoid(x_u . y_i + b_u + c_i + m), of low rank. A
liking is seen with probability 1 - e only, and what is seen was liked:

    P(seen) = p (1 - e),       P(not seen) = (1 - p) + p e

so that of what was not seen, P(liked | not seen) = p e / (p e + 1 - p). Fitted is the likelihood
of what was seen, with normal priors on x, y, b and c and a Beta(2, 8) prior on e, without which e
and m could not be told apart where no p comes near 1. Negatives are then those unlikely to be
hidden likings, instead of whatever was not voted for.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, log_expit

from prefdata import tables
from prefdata.errors import ConvergenceError, RecipeError
from prefdata.tables import Measures, Pairs, Ratings, Scores

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
OPTIMIZE: Any = optimize

BETA = (2.0, 8.0)
# The offsets of users and completions are freer than the vectors.
OFFSETS = 0.1
STARTS = (0.05, 0.3)
NAME = "implicit_feedback_flips"


class Fit(NamedTuple):
    """`z`: log-odds of liking, a row each; `rate`: e; `loss`: less the log posterior."""

    z: Floats
    rate: float
    loss: float


def implicit_feedback_flips(
    ratings: Ratings,
    pairs: Pairs | None = None,
    *,
    criterion: str | None = None,
    rank: int = 4,
    precision: float = 0.15,
    seed: int = 0,
) -> tuple[Ratings, Scores, Measures]:
    """Ratings of `rule:implicit_feedback_flips/<user>`: P(the user likes the completion).

    A scored rating of a person above 1/2 is a liking that was seen: its probability is 1. One of
    1/2 or less is something that was shown and not voted for. What was given stays beside them.

    A pair of an annotator's own (`pairs.annotator`) whose rejected side was not voted for gets the
    score `implicit_flip`, the probability that it was liked none the less, and that the pair's
    label means nothing. The measure `flip_rate` of subject "implicit feedback" is e.

    - `criterion`: the criterion of the ratings that count; default all, as one.
    - `rank`: dimensions of users and completions; at least 1.
    - `precision`: of the prior on the vectors; larger is smoother. Above 0.
    - `seed`: of the starting vectors; the better of two starts is kept.

    Raises `RecipeError` for a rank or precision out of range, and `ConvergenceError`.

    Source: Yu, Qin (2020), Sampler Design for Implicit Feedback Data by Noisy-label Robust
    Learning. The prior and the single rate are own.
    """
    if rank < 1 or precision <= 0:
        raise RecipeError(
            f"estimate.{NAME}: rank = {rank}, precision = {precision}; expected at least 1 and "
            "above 0"
        )
    seen = _seen(ratings, criterion)
    if seen.is_empty():
        return ratings, Scores(tables.empty("scores")), Measures(tables.empty("measures"))
    users, items = (_numbers(seen[each]) for each in ("annotator", "completion_id"))
    voted = seen["voted"].to_numpy()
    fit = fit_implicit_feedback(users, items, voted, rank=rank, precision=precision, seed=seed)
    liked = seen.with_columns(p=pl.Series(np.where(voted, 1.0, hidden(fit.z, fit.rate))))
    return _rated(ratings, liked), _flips(pairs, liked), _measure(fit.rate, seen.height)


def hidden(z: Floats, rate: float) -> Floats:
    """P(liked | not seen)."""
    p = expit(z)
    return p * rate / (p * rate + 1 - p)


def fit_implicit_feedback(
    users: Ints,
    items: Ints,
    voted: NDArray[np.bool_],
    *,
    rank: int = 4,
    precision: float = 0.15,
    rate: float | None = None,
    seed: int = 0,
) -> Fit:
    """The most probable parameters; `rate` fixes e, with 0 for votes taken at their word."""
    n_users, n_items = int(users.max()) + 1, int(items.max()) + 1
    problem = _Problem(users, items, voted, (n_users, n_items, rank), precision, rate)
    draw = np.random.default_rng(seed)
    size = (n_users + n_items) * rank
    fits: list[Fit] = []
    for start in STARTS if rate is None else (0.0,):
        odds = np.log(max(start, 1e-9) / (1 - start))
        begin = np.r_[draw.normal(scale=0.1, size=size), np.zeros(n_users + n_items + 1), odds]
        found = OPTIMIZE.minimize(
            problem, begin, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "maxfun": 4000}
        )
        if found.nit >= 2000:
            residual = float(np.abs(found.jac).max())
            raise ConvergenceError(
                f"estimate.{NAME}: residual {residual:.3g} after {found.nit} iterations; give a "
                "larger precision or a lower rank"
            )
        z, log_odds = problem.parts(found.x)[-1], found.x[-1]
        fits.append(Fit(z, float(expit(log_odds)) if rate is None else rate, float(found.fun)))
    return min(fits, key=lambda fit: fit.loss)


class _Problem:
    """Less the log posterior and its gradient, over one vector of all parameters."""

    def __init__(
        self,
        users: Ints,
        items: Ints,
        voted: NDArray[np.bool_],
        shape: tuple[int, int, int],
        precision: float,
        rate: float | None,
    ) -> None:
        self.users, self.items, self.voted = users, items, voted
        self.n_users, self.n_items, self.rank = shape
        self.precision, self.rate = precision, rate

    def parts(self, x: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Vectors of users and items, offsets of both, and z of each row."""
        ends = np.cumsum(
            [self.n_users * self.rank, self.n_items * self.rank, self.n_users, self.n_items]
        )
        a, b, c, d, rest = np.split(x, ends)
        a, b = a.reshape(self.n_users, self.rank), b.reshape(self.n_items, self.rank)
        z = np.einsum("nk,nk->n", a[self.users], b[self.items])
        return a, b, c, d, z + c[self.users] + d[self.items] + rest[0]

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        a, b, c, d, z = self.parts(x)
        odds = x[-1] if self.rate is None else -1e9 if self.rate == 0 else _logit(self.rate)
        e, keep = float(expit(odds)), float(log_expit(-odds))
        yes, no = log_expit(z), log_expit(-z)
        unseen = np.logaddexp(no, yes + log_expit(odds))
        likelihood = np.where(self.voted, yes + keep, unseen).sum()
        slope = np.where(self.voted, np.exp(no), (e - 1) * np.exp(yes + no - unseen))
        of_odds = np.where(self.voted, -e, e * (1 - e) * np.exp(yes - unseen)).sum()
        prior = -self.precision / 2 * ((a**2).sum() + (b**2).sum())
        prior -= self.precision * OFFSETS / 2 * ((c**2).sum() + (d**2).sum())
        if self.rate is None:
            more, less = BETA[0] - 1, BETA[1] - 1
            prior += more * float(log_expit(odds)) + less * keep
            of_odds += more * (1 - e) - less * e
        else:
            of_odds = 0.0
        gradient = np.r_[
            (self._sums(self.users, slope, b[self.items], a)).ravel(),
            (self._sums(self.items, slope, a[self.users], b)).ravel(),
            np.bincount(self.users, slope, self.n_users) - self.precision * OFFSETS * c,
            np.bincount(self.items, slope, self.n_items) - self.precision * OFFSETS * d,
            slope.sum(),
            of_odds,
        ]
        return -float(likelihood + prior), -gradient

    def _sums(self, at: Ints, slope: Floats, other: Floats, own: Floats) -> Floats:
        sums = [np.bincount(at, slope * column, len(own)) for column in other.T]
        return np.stack(sums, 1) - self.precision * own


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def _seen(ratings: Ratings, criterion: str | None) -> pl.DataFrame:
    """Each person's word on each completion: voted for if ever."""
    own = ratings.filter(pl.col("annotator").str.starts_with("human:")).drop_nulls("rating")
    if criterion is not None:
        own = own.filter(pl.col("criterion") == criterion)
    return (
        own.group_by("annotator", "completion_id", "prompt_id")
        .agg(voted=(pl.col("rating") > 0.5).any())
        .sort("annotator", "completion_id")
    )


def _numbers(names: pl.Series) -> Ints:
    return names.rank("dense").to_numpy().astype(np.int64) - 1


def _rated(ratings: Ratings, liked: pl.DataFrame) -> Ratings:
    user = pl.col("annotator").str.strip_prefix("human:")
    made = liked.select(
        "completion_id",
        "prompt_id",
        annotator=pl.concat_str(pl.lit(f"rule:{NAME}/"), user),
        criterion=pl.lit("liked"),
        draw=pl.lit(0, pl.Int64),
        rating="p",
    )
    where = f"estimate.{NAME}"
    return Ratings(tables.union("ratings", ratings, made, where=where))


def _flips(pairs: Pairs | None, liked: pl.DataFrame) -> Scores:
    if pairs is None:
        return Scores(tables.empty("scores"))
    unseen = liked.filter(~pl.col("voted"))
    doubted = pairs.join(
        unseen, left_on=["annotator", "rejected_id"], right_on=["annotator", "completion_id"]
    )
    made = doubted.select(
        subject_id="pair_id",
        subject=pl.lit("pair"),
        score=pl.lit("implicit_flip"),
        model=pl.lit(None, pl.String),
        value="p",
    )
    return Scores(tables.check("scores", made, where=f"estimate.{NAME}"))


def _measure(rate: float, n: int) -> Measures:
    row = {"measure": "flip_rate", "subject": "implicit feedback", "value": rate, "n": n}
    return Measures(tables.check("measures", pl.DataFrame([row]), where=f"estimate.{NAME}"))
