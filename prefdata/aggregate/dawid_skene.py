"""Dawid-Skene: each annotator has a confusion matrix, P(label | true class), fitted with the truth.

Labels of an item are independent given its class. EM alternates the posterior of every item's class
and the confusion matrices; the posterior density rises with every step.

Source: Dawid and Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM
algorithm"; one coin after Zhang, Chen, Zhou and Jordan (2014).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prefdata.aggregate._em import FLOOR, Found, log_sum, maximise
from prefdata.aggregate._labels import (
    TIE,
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

Matrix = Literal["full", "one_coin"]


@dataclass(frozen=True)
class Confusion:
    """Confusion matrices with `prior` (classes, labels) pseudo-labels.

    Cells of one `group` (classes, labels) have one probability, the same in each row that has it.
    """

    group: Floats
    prior: Floats
    shape: tuple[int, int, int]

    def confusion(self, parameters: Floats) -> Floats:
        logs = parameters.reshape(self.shape)
        return logs - log_sum(logs)

    def estimate(self, counts: Floats, parameters: Floats | None) -> Floats:
        flat = (counts + self.prior).reshape(len(counts), len(self.group))
        mean = (flat @ self.group).reshape(self.shape)
        share = mean / np.maximum(mean.sum(2, keepdims=True), FLOOR)
        return np.log(np.maximum(share, FLOOR)).ravel()

    def penalty(self, parameters: Floats) -> float:
        return float((self.confusion(parameters) * self.prior).sum())


def fit_dawid_skene(
    labels: Labels,
    *,
    matrix: Matrix = "full",
    prior: float = 0.5,
    right: float = 1.0,
    class_prior: float | None = 1.0,
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    where: str = "Dawid-Skene",
) -> Found:
    """The posterior of each item's class and the annotators' log confusion matrices.

    Raises `ConvergenceError` where a step still moves a posterior by more than `tolerance` after
    `max_iterations` steps.
    """
    tied = labels.symmetric and not labels.turned.any()
    shape = len(labels.annotators), labels.n_classes, labels.n_labels
    pseudo = prior + right * np.eye(labels.n_classes, labels.n_labels)
    model = Confusion(_mean_of_groups(labels, matrix, tied), pseudo, shape)
    return maximise(
        labels,
        model,
        class_prior=class_prior,
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=where,
    )


def _mean_of_groups(labels: Labels, matrix: Matrix, tied: bool) -> Floats:
    """The linear map from a matrix' cells to the means over cells that must be equal."""
    k, n = labels.n_classes, labels.n_labels
    truth, label = np.divmod(np.arange(k * n), n)
    if matrix == "one_coin":
        of_class = np.where(label == truth, -1, -2)
        group = np.where(label < k, of_class, label)
    else:
        group = truth * n + label
        if tied:
            turn = np.arange(max(k, n))
            turn[[A, B]] = B, A
            group = np.minimum(group, turn[truth] * n + turn[label])
    same = (group[:, None] == group[None, :]).astype(np.float64)
    return same / same.sum(1, keepdims=True)


def dawid_skene(
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    completions: Completions | None = None,
    *,
    of: Of | None = None,
    matrix: Matrix = "full",
    position_effects: bool = True,
    true_ties: bool = False,
    abstentions: bool = False,
    prior: float = 0.5,
    right: float = 1.0,
    class_prior: float = 1.0,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    estimator: str = "dawid_skene",
) -> tuple[Strengths, Scores]:
    """Aggregate votes or ratings by the errors that each annotator is found to make.

        P(class k of item i) ~ P(k) prod_j P_j(label of i by j | k)

    On votes an item is two completions and its class which of them is better; labels are a better,
    b better and a tie, soft preferences their parts. Both are equally likely before any vote, and
    exchanging a and b exchanges the result. With `position_effects` an annotator's matrix is that
    of the places: how often it names the first where the first is better, and the second where the
    second is; a vote of unknown order is half of one in either order. On ratings an item is a
    completion on one criterion and the classes are the grades that occur, of which there may be 25.

    - `strengths`: on votes the mean of P(preferred) over the completions that it was compared with,
      in [0, 1]; on ratings the posterior mean grade, in [0, 1], averaged over criteria by weight,
      `stderr` being the posterior's standard deviation.
    - `scores`: on votes for each compared two `preference`, P(the smaller completion_id is better)
      with half of P(equally good), in [0, 1]; it has no `stderr`, being a posterior itself. With
      `true_ties` also `tie`, P(equally good). On
      ratings `grade/<criterion>`, the most probable grade, in [0, 1]. For each annotator
      `estimated_accuracy`, the mean over classes of P(label is the class), in [0, 1]; on votes
      `position_effect`, how much more often it names the first than the second, in [-1, 1], mean
      over classes; with `abstentions` the share `abstention`, in [0, 1]. On ratings these are means
      over criteria.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `of`: "votes" or "ratings"; default those that are there, an error where both are.
    - `matrix`: "full" is a confusion matrix; "one_coin" one probability of being right, all wrong
      classes being equally likely and ties and abstentions independent of the truth.
    - `position_effects`: whether the place where a completion was shown may matter; votes only.
      Without, and with "one_coin", the order of showing is ignored.
    - `true_ties`: whether two completions may be equally good; votes only. A tie is then right
      where they are. Without, a tie is one more label, which says what its annotator makes of it.
    - `abstentions`: whether an unscored vote or rating is a label too, which says something where
      annotators abstain more often on one class; default left out.
    - `prior`: pseudo-labels in each cell of a confusion matrix; 0, with `right` and `class_prior`
      0, is maximum likelihood.
    - `right`: further pseudo-labels of each class that are right. They let a label of an annotator
      who gave hardly any others count as a vote, which it would not by itself.
    - `class_prior`: pseudo-items of each class, 0 or above, for the share of grades and of ties.
    - `criteria`: the criteria that count; default all. Votes on several criteria are of one truth.
    - `weights`: votes that one vote on a criterion counts for, or the weight of a criterion's
      ratings in the mean; default 1 each.
    - `tolerance`: how far the last step may still move a posterior.
    - `max_iterations`: EM steps before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Completions that share no annotator with the rest are fitted by the labels that they have: an
    annotator with few labels is taken for what the prior and the majority make of it.

    Raises `ConvergenceError` where EM does not stand still; `RecipeError` for a criterion without
    rows, a weight or a prior out of range, more than 25 grades, or votes and ratings without `of`;
    `TableError` where the prompt of a completion cannot be found.
    """
    pseudo_labels = {"prior": prior, "right": right, "class_prior": class_prior}
    at_least_0(f"aggregate.{estimator}", pseudo_labels)

    def fit(labels: Labels, where: str) -> Fitted:
        found = fit_dawid_skene(
            labels,
            matrix=matrix,
            prior=prior,
            right=right,
            class_prior=class_prior,
            tolerance=tolerance,
            max_iterations=max_iterations,
            where=where,
        )
        ties = {"tie": found.posterior[:, TIE]} if labels.symmetric and true_ties else {}
        return Fitted(found.posterior, _of_annotators(labels, found, abstentions), ties)

    def read_votes(votes: Votes) -> Labels:
        return labels_of_votes(
            votes,
            criteria,
            weights,
            true_ties=true_ties,
            positions=position_effects and matrix == "full",
            abstentions=abstentions,
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


def _of_annotators(labels: Labels, found: Found, abstentions: bool) -> dict[str, Floats]:
    """Accuracy, position effect (on votes in places) and abstention of each annotator."""
    probability = np.exp(found.confusion)
    right = np.einsum("jkk->jk", probability[:, :, : labels.n_classes]).mean(1)
    values = {"estimated_accuracy": right}
    if labels.turned.any():
        values["position_effect"] = (probability[:, :2, A] - probability[:, :2, B]).mean(1)
    if abstentions:
        values["abstention"] = probability[:, :, -1].mean(1)
    return values
