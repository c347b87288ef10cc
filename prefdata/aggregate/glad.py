"""GLAD: annotators have abilities, items have difficulties, and a label is right by both.

    P(label of item i by annotator j is right) = sigmoid(alpha_j beta_i)

wrong labels being equally likely. The marginal posterior density of alpha and log beta, the classes
of the items summed out, is climbed directly: by Fisher's identity its gradient is the one that EM's
second step would follow, at the posterior of the classes here.

Source: Whitehill, Ruvolo, Wu, Bergsma and Movellan (2009), "Whose Vote Should Count More: Optimal
Integration of Labels from Labelers of Unknown Expertise".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from prefdata.aggregate._ascent import ascend
from prefdata.aggregate._em import log_sum
from prefdata.aggregate._labels import (
    Fitted,
    Floats,
    Labels,
    Of,
    aggregated,
    labels_of_votes,
)
from prefdata.errors import RecipeError
from prefdata.tables import Completions, Ratings, Scores, Strengths, Votes

# Annotators answer for many prompts.
SCOPE = "all"


@dataclass(frozen=True)
class Glad:
    """Posterior of each item's class, abilities alpha, easiness beta and the density reached."""

    posterior: Floats
    ability: Floats
    easiness: Floats
    log_density: float
    residual: float


def fit_glad(
    labels: Labels,
    *,
    ability: float = 1.0,
    ability_deviation: float = 1.0,
    easiness: float = 1.0,
    easiness_deviation: float = 1.0,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
    where: str = "GLAD",
) -> Glad:
    """Maximise over alpha and log beta, normal around `ability` and around `easiness`.

    Classes are equally likely. Raises `ConvergenceError` where the gradient of a parameter is
    above `tolerance` after `max_iterations` iterations.
    """
    n, k, n_annotators = labels.n_items, labels.n_classes, len(labels.annotators)
    item, annotator, weight = labels.item, labels.annotator, labels.weight
    cell = item * k + labels.label
    others = np.log(k - 1) if k > 2 else 0.0

    def sides(x: Floats) -> tuple[float, Floats, Floats]:
        """The log density, the gradient and the posterior of the classes."""
        alpha, log_beta = x[:n_annotators], x[n_annotators:]
        beta = np.exp(np.minimum(log_beta, 50))[item]
        z = alpha[annotator] * beta
        wrong = -np.logaddexp(0, z) - others
        # Where a label is right instead of wrong its log probability is z (and `others`) larger.
        right = np.bincount(cell, weight * (z + others), n * k)
        logits = right.astype(np.float64, copy=False).reshape(n, k)
        whole = log_sum(logits)
        posterior = np.exp(logits - whole)
        more = weight * (posterior.ravel()[cell] - expit(z))
        away = (alpha - ability) / ability_deviation, (log_beta - easiness) / easiness_deviation
        density = float(weight @ wrong + whole.sum() - n * np.log(k))
        density -= float(away[0] @ away[0] + away[1] @ away[1]) / 2
        gradient = np.concatenate(
            [
                np.bincount(annotator, more * beta, n_annotators) - away[0] / ability_deviation,
                np.bincount(item, more * z, n) - away[1] / easiness_deviation,
            ]
        )
        return density, gradient, posterior

    start = np.concatenate([np.full(n_annotators, ability), np.full(n, easiness)])
    x, residual = ascend(
        lambda x: sides(x)[:2],
        start,
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=where,
    )
    density, _, posterior = sides(x)
    return Glad(posterior, x[:n_annotators], np.exp(x[n_annotators:]), density, residual)


def glad(
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    completions: Completions | None = None,
    *,
    of: Of | None = None,
    ability: float = 1.0,
    ability_deviation: float = 1.0,
    easiness: float = 1.0,
    easiness_deviation: float = 1.0,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
    estimator: str = "glad",
) -> tuple[Strengths, Scores]:
    """Aggregate votes or ratings by annotators' abilities and items' difficulties.

        P(label of item i by annotator j is right) = sigmoid(alpha_j beta_i)

    with all classes, and all wrong labels, equally likely. On votes an item is two completions and
    its class which of them is better; a tie is half a label for each, a soft preference its parts.
    On ratings an item is a completion on one criterion and the classes are the grades that occur,
    of which there may be 25. Unscored rows are left out. An annotator of negative ability is wrong
    more often than right, and its labels count for the other side. Exchanging a and b exchanges the
    result.

    Abilities and difficulties are points, so that P leaves out how little is known of them. By the
    default priors, which are the paper's, P after a single vote is sigmoid(e) = 0.94, where its
    mean over the priors is 0.77. Where items have few votes a lower `easiness` is less sure (with 0
    it is 0.73), and `aggregate.reliability` counts what is not known.

    - `strengths`: on votes the mean of P(preferred) over the completions that it was compared with,
      in [0, 1]; on ratings the posterior mean grade, in [0, 1], averaged over criteria by weight,
      `stderr` being the posterior's standard deviation.
    - `scores`: on votes for each compared two `preference`, P(the smaller completion_id is better),
      in [0, 1], without `stderr`, being a posterior itself, and `difficulty`, 1 / beta, above 0; on
      ratings `grade/<criterion>`, the most probable grade, in [0, 1], and `difficulty/<criterion>`.
      For each annotator `ability`, alpha: 0 guesses where classes are two. On ratings it is the
      mean over criteria.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `of`: "votes" or "ratings"; default those that are there, an error where both are.
    - `ability`: the mean of the normal prior of alpha.
    - `ability_deviation`: its standard deviation, above 0.
    - `easiness`: the mean of the normal prior of log beta.
    - `easiness_deviation`: its standard deviation, above 0.
    - `criteria`: the criteria that count; default all. Votes on several criteria are of one truth.
    - `weights`: votes that one vote on a criterion counts for, or the weight of a criterion's
      ratings in the mean; default 1 each.
    - `tolerance`: the largest gradient, in votes, that may be left.
    - `max_iterations`: iterations before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where the top is not reached; `RecipeError` for a criterion without
    rows, a weight or a deviation not above 0, more than 25 grades, or votes and ratings without
    `of`; `TableError` where the prompt of a completion cannot be found.
    """
    deviations = {"ability_deviation": ability_deviation, "easiness_deviation": easiness_deviation}
    for name, value in deviations.items():
        if not 0 < value < float("inf"):
            raise RecipeError(f"aggregate.{estimator}: {name} is {value}; give a number above 0")

    def fit(labels: Labels, where: str) -> Fitted:
        found = fit_glad(
            labels,
            ability=ability,
            ability_deviation=ability_deviation,
            easiness=easiness,
            easiness_deviation=easiness_deviation,
            tolerance=tolerance,
            max_iterations=max_iterations,
            where=where,
        )
        of_items = {"difficulty": 1 / found.easiness}
        return Fitted(found.posterior, {"ability": found.ability}, of_items)

    def read_votes(votes: Votes) -> Labels:
        return labels_of_votes(votes, criteria, weights, ties="halves", positions=False)

    return aggregated(
        votes,
        ratings,
        completions,
        of=of,
        read_votes=read_votes,
        fit=fit,
        criteria=criteria,
        weights=weights,
        estimator=estimator,
    )
