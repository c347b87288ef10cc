"""Crowd-BT: Bradley-Terry strengths from annotators who are right more often than others.

    P(k prefers i to j) = eta_k sigmoid(d) + (1 - eta_k) sigmoid(-d),   d = theta_i - theta_j

Strengths and log odds of eta climb the posterior density together.

Source: Chen, Bennett, Collins-Thompson and Horvitz (2013), "Pairwise Ranking Aggregation in a
Crowdsourced Setting".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import expit, log_expit

from prefdata.aggregate import _graph
from prefdata.aggregate._ascent import ascend
from prefdata.aggregate._graph import Floats, Ints
from prefdata.aggregate._labels import labels_of_votes
from prefdata.aggregate._tally import about, preferences, with_prompts
from prefdata.errors import RecipeError
from prefdata.tables import Completions, Scores, Strengths, Votes

# Annotators answer for many prompts.
SCOPE = "all"


@dataclass(frozen=True)
class CrowdFit:
    """Strengths of mean 0 in each component, reliabilities eta, and the density reached.

    `anchor` is the strength of the opponent that the prior stands for.
    """

    strengths: Floats
    anchor: Floats
    component: Ints
    reliability: Floats
    log_density: float
    residual: float


def fit_crowd_bt(
    winner: Ints,
    loser: Ints,
    annotator: Ints,
    weight: Floats,
    *,
    n_items: int,
    n_annotators: int,
    prior: float = 0.1,
    right: float = 4.0,
    wrong: float = 1.0,
    tolerance: float = 1e-4,
    max_iterations: int = 2000,
    where: str = "Crowd-BT",
) -> CrowdFit:
    """Maximise over strengths and log odds of eta ~ Beta, with `right` and `wrong` pseudo-votes.

    Starts at equal strengths and eta of the prior's mean, so that annotators are taken to be right
    until votes speak against it. Raises `ConvergenceError` where a part of the gradient is above
    ten times `tolerance` after `max_iterations` iterations.
    """

    def climb(x: Floats) -> tuple[float, Floats]:
        theta, odds = x[:n_items], x[n_items:]
        apart, log_right, log_wrong = (
            theta[winner] - theta[loser],
            log_expit(odds),
            log_expit(-odds),
        )
        agrees = log_right[annotator] + log_expit(apart)
        opposes = log_wrong[annotator] + log_expit(-apart)
        whole = np.logaddexp(agrees, opposes)
        # The posterior that the vote agrees with the strengths says where each parameter is drawn.
        agreed = np.exp(agrees - whole)
        by_apart = weight * (agreed - expit(apart))
        by_odds = weight * (agreed - expit(odds)[annotator])
        against = log_expit(theta) + log_expit(-theta)
        density = weight @ whole + prior * against.sum()
        density += right * log_right.sum() + wrong * log_wrong.sum()
        of_items = np.bincount(winner, by_apart, n_items) - np.bincount(loser, by_apart, n_items)
        of_annotators = np.bincount(annotator, by_odds, n_annotators)
        of_prior = right - (right + wrong) * expit(odds)
        gradient = [of_items - prior * np.tanh(theta / 2), of_annotators + of_prior]
        return float(density), np.concatenate(gradient)

    odds = np.full(n_annotators, np.log(right / wrong))
    # At equal strengths nothing tells who is right, but votes tell strengths.
    won = np.bincount(winner, weight, n_items) + 0.5
    lost = np.bincount(loser, weight, n_items) + 0.5
    start = np.concatenate([np.log(won / lost) / 2, odds])
    x, residual = ascend(
        climb, start, tolerance=tolerance, max_iterations=max_iterations, where=where
    )
    component = _graph.components(winner, loser, n_items)
    density = climb(x)[0] if len(x) else 0.0
    strengths, mean = _graph.centred(x[:n_items], component)
    return CrowdFit(strengths, -mean, component, expit(x[n_items:]), density, residual)


def crowd_bt(
    votes: Votes,
    completions: Completions | None = None,
    *,
    prior: float = 0.1,
    right: float = 4.0,
    wrong: float = 1.0,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 2000,
    estimator: str = "crowd_bt",
) -> tuple[Strengths, Scores]:
    """Estimate strengths on the log scale and how reliable each annotator is, from votes.

        P(k prefers a to b) = eta_k sigmoid(d) + (1 - eta_k) sigmoid(-d),   d = theta_a - theta_b

    eta 1 votes by the strengths, 1/2 at random, 0 against them. A tie is half a vote for each, a
    soft preference its parts. Unscored votes are left out. Exchanging a and b exchanges the result.

    - `strengths`: theta, of mean 0 over the completions that votes connect, and its standard error
      at the reliabilities found, from the expected information.
    - `scores`: for each compared two `preference`, sigmoid(theta_a - theta_b) of the smaller
      completion_id, what a reliable annotator is expected to say, in [0, 1], with standard error;
      and for each annotator `reliability`, eta, in [0, 1].

    Standard errors are null where votes connect more than 10,000 completions.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `prior`: wins, and as many losses, that each completion has against an opponent of strength 0
      before any vote; above 0.
    - `right`: pseudo-votes by each annotator that agree with the strengths, above 0.
    - `wrong`: pseudo-votes that do not, above 0. More right than wrong says which way up strengths
      are: turning all strengths and all reliabilities round explains votes as well.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `tolerance`: the gradient, in votes, that may be left.
    - `max_iterations`: iterations before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where the top is not reached; `RecipeError` for a criterion without
    votes, or a weight or a prior not above 0; `TableError` where the prompt of a completion cannot
    be found.
    """
    for name, value in (("prior", prior), ("right", right), ("wrong", wrong)):
        if not 0 < value < float("inf"):
            raise RecipeError(f"aggregate.{estimator}: {name} is {value}; give a number above 0")
    labels = labels_of_votes(votes, criteria, weights, ties="halves", positions=False)
    pairs = labels.items
    ids = pl.concat([pairs["completion_a"], pairs["completion_b"]]).unique().sort()
    one, other = (_graph.numbers(pairs[side], ids) for side in ("completion_a", "completion_b"))
    for_a = labels.label == 0
    a, b = one[labels.item], other[labels.item]
    found = fit_crowd_bt(
        np.where(for_a, a, b),
        np.where(for_a, b, a),
        labels.annotator,
        labels.weight,
        n_items=len(ids),
        n_annotators=len(labels.annotators),
        prior=prior,
        right=right,
        wrong=wrong,
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=f"aggregate.{estimator}",
    )
    value = expit(found.strengths[one] - found.strengths[other])
    of_item, of_difference, _ = _graph.standard_errors(
        found.component, one, other, _information(found, labels.item, labels.annotator,
        labels.weight, value), 2 * prior * _spread(found.strengths - found.anchor)
    )  # fmt: skip
    strengths = pl.DataFrame(
        {"completion_id": ids, "strength": found.strengths, "stderr": of_item},
        schema_overrides={"completion_id": pl.String},
    )
    scored = pairs.with_columns(
        value=pl.Series(value, dtype=pl.Float64), stderr=value * (1 - value) * of_difference
    )
    who = about("annotator", labels.annotators, "reliability", found.reliability, estimator)
    return (
        with_prompts(strengths, votes, completions, estimator),
        Scores(pl.concat([preferences(scored, estimator), who])),
    )


def _spread(theta: Floats) -> Floats:
    return expit(theta) * expit(-theta)


def _information(
    found: CrowdFit, pair: Ints, annotator: Ints, weight: Floats, value: Floats
) -> Floats:
    """The expected information of each pair's votes on its difference, reliabilities known."""
    eta, p = found.reliability[annotator], value[pair]
    says = eta * p + (1 - eta) * (1 - p)
    slope = (2 * eta - 1) * p * (1 - p)
    of_votes = weight * slope**2 / np.maximum(says * (1 - says), 1e-300)
    return np.bincount(pair, of_votes, len(value)).astype(np.float64, copy=False)
