"""Which judge to ask about which pair next: the rule of `annotate.cascade`, apart from any asking.

It sees votes and prices only: no gold, and no more of a judge's name than which votes are its own.

What is to be known of a pair is which of the two the whole jury prefers. With x_j the mean vote of
member j on it, 1 for the one and -1 for the other, and w_j what `aggregate.reliability` lets a vote
of j count, an error that all share taken out, that is nearly the sign of

    y = sum_j w_j x_j.

The pilot, pairs drawn at random that all members judged, shows how votes go together: by the truth,
and by the errors that judges of one model or one prompt share. Taken as normal with that covariance
C, the votes S that a pair has tell how the others will go:

    y | S ~ Normal(mu, v),    mu = w' C_.S C_SS^-1 x_S,

v being what is seen on pairs of the pilot that were left out of C. With p the preference that the
aggregate finds in S alone, the whole jury would say otherwise with probability
Phi(-sign(p - 1/2) mu / sqrt(v)). That member is asked next whose vote takes most from the variance
of y for its price, given those who were asked: who only repeats others says nothing new.

Source: Krause, Singh, Guestrin 2008, "Near-Optimal Sensor Placements in Gaussian Processes" (asking
next what says most beside what is known); Schäfer and Strimmer 2005, "A shrinkage approach to
large-scale covariance matrix estimation".
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from prefdata.aggregate.reliability import reliability
from prefdata.tables import SIDES, Measures, Scores, Votes, digest, pair_ids

SPECIAL: Any = special
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

# The fewest pairs from which anything can be learnt about a jury.
FEWEST = 10
# Parts of the pilot, each foretold from the others.
PARTS = 5
# The share of all doubt that is left to later rounds, so that the budget goes where doubt is large.
LATER = 0.1
# Of the variance of a vote, what no other vote could say: it keeps matrices regular.
OWN = 1e-6


def next_calls(
    votes: Votes,
    pairs: pl.DataFrame,
    costs: Mapping[str, float],
    *,
    tolerance: float,
    pilot: float,
    step: int,
    budget: float,
    seed: int = 0,
) -> tuple[pl.DataFrame, float]:
    """The (pair, annotator) to ask next, and the share of pairs on which the whole jury is expected
    to say otherwise than the votes so far.

    Columns `completion_a`, `completion_b`, `annotator`; nothing more is asked when it is empty.
    `costs` has the price of a call of each annotator. First come all annotators on a `pilot` of the
    pairs. Then as many pairs are left alone as keeps the expected share at `tolerance`; about each
    of the others the next `step` annotators are asked. At most a share `budget` of all calls is
    asked, where the whole jury is least foreseen first.
    """
    pairs = pairs.select(SIDES).unique().sort(SIDES)
    names = sorted(costs)
    room = math.floor(budget * pairs.height * len(names))
    first = _pilot(pairs, max(FEWEST, math.ceil(pilot * pairs.height)), seed)
    first = first[: room // max(len(names), 1)]
    if votes.is_empty():
        everyone = np.tile(np.arange(len(names)), len(first))
        return _calls(pairs, names, first.repeat(len(names)), everyone), 0.5
    asked, said = _tables(votes, pairs, names)
    room = max(0, room - int(asked.sum()))
    _, scores, measures = reliability(votes)
    worth = _worth(scores, measures, names, votes.height / max(1, int(asked.sum())))
    cover = covariance(said[first])
    other = differs(said, asked, said[first], worth, posterior(scores, pairs))
    order = by_news(cover, worth, np.array([costs[name] for name in names]))
    doubtful = np.argsort(-other, kind="stable")
    # Those from here on may all be left alone together, or wait for a later round.
    rest = other[doubtful][::-1].cumsum()[::-1]
    doubtful = doubtful[rest > max(tolerance * pairs.height, LATER * other.sum())]
    left = ~asked[doubtful][:, order]
    pair, place = np.nonzero(left & (left.cumsum(1) <= step))
    wanted = _calls(pairs, names, doubtful[pair[:room]], order[place[:room]])
    return wanted, float(other.mean())


def _pilot(pairs: pl.DataFrame, n: int, seed: int) -> NDArray[np.int64]:
    """The pairs that all are asked about, by their ids and the seed."""
    place = [digest("pilot", seed, *each) for each in pairs.rows()]
    return np.argsort(np.array(place, dtype=str), kind="stable")[:n].astype(np.int64)


def _calls(pairs: pl.DataFrame, names: list[str], pair: Any, who: Any) -> pl.DataFrame:
    annotator = pl.Series("annotator", [names[at] for at in who], pl.String)
    return pairs[pair].with_columns(annotator).sort(*SIDES, "annotator")


def _tables(votes: Votes, pairs: pl.DataFrame, names: list[str]) -> tuple[Bools, Floats]:
    """(pairs, names): who was asked, and the mean vote from -1 to 1; unscored ones say nothing."""
    cells = votes.group_by(*SIDES, "annotator").agg(
        said=(2 * pl.col("preference") - 1).fill_null(0.0).sort().mean()
    )
    who = pl.DataFrame({"annotator": names}).with_row_index("who")
    cells = cells.join(pairs.with_row_index("pair"), on=SIDES).join(who, on="annotator")
    where = cells["pair"].to_numpy(), cells["who"].to_numpy()
    asked = np.zeros((pairs.height, len(names)), dtype=np.bool_)
    said = np.zeros(asked.shape)
    asked[where], said[where] = True, cells["said"].to_numpy()
    return asked, said


def posterior(scores: Scores, pairs: pl.DataFrame) -> Floats:
    """P(completion_a preferred) of each pair; 1/2 where there is no vote."""
    known = scores.filter(pl.col("score") == "preference").select("subject_id", "value")
    ids = pair_ids(pairs["completion_a"], pairs["completion_b"]).alias("subject_id")
    found = pl.DataFrame(ids).join(known, on="subject_id", how="left", maintain_order="left")
    return found["value"].fill_null(0.5).to_numpy()


def _worth(scores: Scores, measures: Measures, names: list[str], n: float) -> Floats:
    """What the mean of n votes of each counts in the whole jury's preference.

    A discrimination alpha (shared with copies; 0 if unknown) less kappa^2 A / (a + J kappa^2), with
    A their sum, J their number and a = pi^2 / (3 n) + tau^2, the variance of an own error, to which
    kappa^2 is that of the common one (Sherman and Morrison). Where all share an error, it is in the
    votes of those that see less of the truth too, and these are what it is told by.
    """
    of, value = ["subject_id", "model"], pl.col("value")
    alphas, copies = (
        scores.filter(pl.col("score") == name).select(*of, value.alias(name))
        for name in ("discrimination", "copies")
    )
    each = (pl.col("discrimination") / pl.col("copies")).sort().mean()
    known = alphas.join(copies, on=of).group_by("subject_id").agg(worth=each)
    found = pl.DataFrame({"subject_id": names}).join(
        known, on="subject_id", how="left", maintain_order="left"
    )
    alpha = found["worth"].fill_null(0.0).to_numpy()
    size = dict(measures.select("measure", "value").iter_rows())
    shared, own = (float(size.get(name) or 0.0) ** 2 for name in ("pair_error", "own_error"))
    alone = math.pi**2 / (3 * n) + own
    return alpha - shared * alpha.sum() / (alone + len(names) * shared)


def covariance(said: Floats) -> Floats:
    """Of votes (pairs, annotators) around 0, their correlations drawn to what one truth explains.

    Which completion is called a is of no meaning: a vote has mean 0. With r_ij the correlations and
    t_ij = l_i l_j those of one factor, the share of t is sum var(r_ij) / sum (r_ij - t_ij)^2.
    """
    n = len(said)
    scale = np.sqrt(np.maximum((said**2).mean(0), OWN)) if n else np.ones(said.shape[1])
    z = said / scale
    seen = z.T @ z / max(n, 1)
    load = _one_factor(seen)
    target = np.outer(load, load)
    apart = ~np.eye(len(seen), dtype=np.bool_)
    chance = ((z**2).T @ z**2 / max(n, 1) - seen**2) / max(n - 1, 1)
    away = ((seen - target)[apart] ** 2).sum()
    share = min(1.0, chance[apart].sum() / away) if away > 0 else 1.0
    made = share * target + (1 - share) * seen
    np.fill_diagonal(made, 1 + OWN)
    return made * np.outer(scale, scale)


def _one_factor(seen: Floats, steps: int = 20) -> Floats:
    """Loadings of the one factor that explains correlations best (principal factors)."""
    share = np.full(len(seen), 0.5)
    load = np.zeros(len(seen))
    for _ in range(steps):
        reduced = seen.copy()
        np.fill_diagonal(reduced, share)
        size, axes = np.linalg.eigh(reduced)
        load = axes[:, -1] * math.sqrt(max(size[-1], 0.0))
        load = np.clip(load * (1 if load.sum() >= 0 else -1), -0.99, 0.99)
        share = load**2
    return load


def differs(said: Floats, asked: Bools, pilot: Floats, worth: Floats, p: Floats) -> Floats:
    """P(the whole jury prefers another than p does), by pair.

    How far the whole is from what some votes foretell is seen on pairs of the pilot from which the
    foretelling was not learnt: where many annotators voted on few pairs, in the others it is small
    by chance.
    """
    made = np.empty(len(said))
    parts = np.arange(len(pilot)) % PARTS
    covers = [covariance(pilot[parts != part]) for part in range(PARTS)]
    cover = covariance(pilot)
    patterns, which = np.unique(asked, axis=0, return_inverse=True)
    for at, there in enumerate(patterns):
        rows = which.ravel() == at
        if there.all():
            made[rows] = 0
            continue
        away = [
            (pilot @ worth - pilot[:, there] @ _foretold(each, worth, there))[parts == part]
            for part, each in enumerate(covers)
        ]
        spread = math.sqrt(max(float((np.concatenate(away) ** 2).mean()), OWN))
        mean = said[rows][:, there] @ _foretold(cover, worth, there)
        made[rows] = SPECIAL.ndtr(-np.sign(p[rows] - 0.5) * mean / spread)
    return made


def _foretold(cover: Floats, worth: Floats, there: Bools) -> Floats:
    """What each of the votes that are there counts in the mean of y."""
    return np.linalg.solve(cover[np.ix_(there, there)], (cover @ worth)[there])


def by_news(cover: Floats, worth: Floats, cost: Floats) -> NDArray[np.int64]:
    """Annotators in the order of what each says of y beside those before it, for its price."""
    left: Floats = cover.copy()
    free = np.ones(len(cost), dtype=np.bool_)
    order: list[int] = []
    for _ in range(len(cost)):
        news = (left @ worth) ** 2 / np.maximum(np.diag(left), OWN) / cost
        best = int(np.argmax(np.where(free, news, -1)))
        order.append(best)
        free[best] = False
        own = max(float(left[best, best]), OWN)
        left = np.asarray(left - left[:, best, None] * left[best] / own)
    return np.array(order, dtype=np.int64)
