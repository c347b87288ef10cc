"""MACE: an annotator either knows and says the truth, or spams from a distribution of its own.

    P_j(label l | class k) = theta_j [l = k] + (1 - theta_j) xi_j(l)

Fitted by EM over the classes of items and over who knew and who spammed.

Source: Hovy, Berg-Kirkpatrick, Vaswani and Hovy (2013), "Learning Whom to Trust with MACE".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefdata.aggregate._em import FLOOR, Found, log_sum, maximise
from prefdata.aggregate._labels import (
    A,
    B,
    Fitted,
    Floats,
    Labels,
    Of,
    aggregated,
    at_least_0,
    labels_of_votes,
)
from prefdata.tables import Completions, Ratings, Scores, Strengths, Votes

# Annotators answer for many prompts.
SCOPE = "all"


@dataclass(frozen=True)
class Spamming:
    """Parameters are, for each annotator, log theta, log (1 - theta) and log xi.

    `prior` pseudo-answers are known, as many are spam, and as many spam each label; of `even`
    annotators A and B are spammed alike.
    """

    prior: float
    n_classes: int
    n_labels: int
    even: bool

    def split(self, parameters: Floats) -> tuple[Floats, Floats]:
        """log theta and log (1 - theta), and log xi, normalised."""
        logs = parameters.reshape(-1, 2 + self.n_labels)
        knows, spam = logs[:, :2], logs[:, 2:]
        return knows - log_sum(knows), spam - log_sum(spam)

    def confusion(self, parameters: Floats) -> Floats:
        knows, spam = self.split(parameters)
        random = np.repeat((knows[:, 1:] + spam)[:, None, :], self.n_classes, axis=1)
        k = np.arange(self.n_classes)
        random[:, k, k] = np.logaddexp(random[:, k, k], knows[:, :1])
        return random

    def estimate(self, counts: Floats, parameters: Floats | None) -> Floats:
        n, k = len(counts), self.n_classes
        if parameters is None:
            # Half of the answers are known, and all labels are spammed alike.
            parameters = np.tile(np.log([0.5, 0.5] + [1 / self.n_labels] * self.n_labels), n)
        knows, spam = self.split(parameters)
        agrees = np.einsum("jkk->jk", counts[:, :, :k])
        copied = agrees * np.exp(
            knows[:, :1] - np.logaddexp(knows[:, :1], knows[:, 1:] + spam[:, :k])
        )
        spammed = counts.sum(1)
        spammed[:, :k] = spammed[:, :k] - copied
        if self.even:
            spammed[:, :2] = spammed[:, :2].mean(1, keepdims=True)
        both = np.stack([copied.sum(1), spammed.sum(1)], 1) + self.prior
        shares = np.concatenate([_share(both), _share(spammed + self.prior)], 1)
        return np.log(np.maximum(shares, FLOOR)).ravel()

    def penalty(self, parameters: Floats) -> float:
        knows, spam = self.split(parameters)
        return self.prior * float(knows.sum() + spam.sum())


def _share(counts: Floats) -> Floats:
    whole = counts.sum(1, keepdims=True)
    return np.where(whole > 0, counts / np.where(whole > 0, whole, 1), 1 / counts.shape[1])


def fit_mace(
    labels: Labels,
    *,
    prior: float = 0.5,
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    where: str = "MACE",
) -> tuple[Found, Floats, Floats]:
    """What EM found, theta (annotators) and xi (annotators, labels).

    Raises `ConvergenceError` where a step still moves a posterior by more than `tolerance` after
    `max_iterations` steps.
    """
    even = labels.symmetric and not labels.turned.any()
    model = Spamming(prior, labels.n_classes, labels.n_labels, even)
    found = maximise(
        labels,
        model,
        class_prior=None,
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=where,
    )
    knows, spam = model.split(found.parameters)
    return found, np.exp(knows[:, 0]), np.exp(spam)


def mace(
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    completions: Completions | None = None,
    *,
    of: Of | None = None,
    position_effects: bool = True,
    abstentions: bool = False,
    prior: float = 0.5,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    estimator: str = "mace",
) -> tuple[Strengths, Scores]:
    """Aggregate votes or ratings by how often each annotator is found to know the truth.

        P_j(label l | class k) = theta_j [l = k] + (1 - theta_j) xi_j(l)

    with all classes equally likely. On votes an item is two completions and its class which of
    them is better; a tie is a label that only spam gives, a soft preference its parts of two. With
    `position_effects` xi is on the places, so an annotator who names the first out of habit spams;
    a vote of unknown order is half of one in either order. On ratings an item is a completion on
    one criterion and the classes are the grades that occur, of which there may be 25. Exchanging a
    and b exchanges the result.

    - `strengths`: on votes the mean of P(preferred) over the completions that it was compared with,
      in [0, 1]; on ratings the posterior mean grade, in [0, 1], averaged over criteria by weight,
      `stderr` being the posterior's standard deviation.
    - `scores`: on votes for each compared two `preference`, P(the smaller completion_id is better),
      in [0, 1], without `stderr`, being a posterior itself; on ratings `grade/<criterion>`, the
      most probable grade, in [0, 1]. For each annotator `competence`, theta, in [0, 1], and on
      votes `position_effect`, how much more often it names the first than the second, in [-1, 1].
      On ratings these are means over criteria.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `of`: "votes" or "ratings"; default those that are there, an error where both are.
    - `position_effects`: whether spam may depend on the place where a completion was shown; votes
      only. Without it both places are spammed alike.
    - `abstentions`: whether an unscored vote or rating is a label too, which only spam gives;
      default left out.
    - `prior`: pseudo-answers that are known, that are spam, and spam of each label, 0 or above; 0
      is maximum likelihood.
    - `criteria`: the criteria that count; default all. Votes on several criteria are of one truth.
    - `weights`: votes that one vote on a criterion counts for, or the weight of a criterion's
      ratings in the mean; default 1 each.
    - `tolerance`: how far the last step may still move a posterior.
    - `max_iterations`: EM steps before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where EM does not stand still; `RecipeError` for a criterion without
    rows, a weight or a prior out of range, more than 25 grades, or votes and ratings without `of`;
    `TableError` where the prompt of a completion cannot be found.
    """
    at_least_0(f"aggregate.{estimator}", {"prior": prior})

    def fit(labels: Labels, where: str) -> Fitted:
        found, competence, spam = fit_mace(
            labels, prior=prior, tolerance=tolerance, max_iterations=max_iterations, where=where
        )
        values = {"competence": competence}
        if labels.turned.any():
            values["position_effect"] = (1 - competence) * (spam[:, A] - spam[:, B])
        return Fitted(found.posterior, values, {})

    def read_votes(votes: Votes) -> Labels:
        return labels_of_votes(
            votes, criteria, weights, positions=position_effects, abstentions=abstentions
        )

    return aggregated(
        votes,
        ratings,
        completions,
        of=of,
        read_votes=read_votes,
        fit=fit,
        criteria=criteria,
        weights=weights,
        abstentions=abstentions,
        estimator=estimator,
    )
