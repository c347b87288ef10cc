"""Rao and Kupper's model: Bradley-Terry strengths where small differences are seen as ties.

    P(i better) = sigmoid(d - ln t),    P(j better) = sigmoid(-d - ln t),    d = theta_i - theta_j
    P(tie) = (t^2 - 1) sigmoid(d - ln t) sigmoid(-d - ln t),                 t > 1

Source: Rao and Kupper (1967), "Ties in Paired-Comparison Experiments: A Generalization of the
Bradley-Terry Model"; the form is that of Liu et al. (2025), "Improving Video Generation with Human
Feedback".
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import expit, log_expit

from prefdata.aggregate import _ties
from prefdata.aggregate._graph import Floats
from prefdata.aggregate._ties import Counts, Fit, Slopes
from prefdata.tables import Completions, Scores, Strengths, Votes

# The parameter is that of all prompts.
SCOPE = "all"

# ln t of t = 2: a third of the votes on two of equal strength are ties.
START = float(np.log(2))


def law(apart: Floats, threshold: float, wins: Floats, ties: Floats, losses: Floats) -> Slopes:
    """The log likelihood and its derivatives by the difference and ln t, which is above 0."""
    if threshold <= 0:
        none = np.zeros_like(apart)
        return Slopes(np.full_like(apart, -np.inf), none, none, none, none, none)
    not_worse, not_better = wins + ties, losses + ties
    up, down = expit(threshold - apart), expit(threshold + apart)
    of_up, of_down = not_worse * up * (1 - up), not_better * down * (1 - down)
    rest = -np.expm1(-2 * threshold)
    log_ties = 2 * threshold + np.log(rest)
    falls = not_worse * log_expit(apart - threshold) + not_better * log_expit(-apart - threshold)
    return Slopes(
        value=falls + ties * log_ties,
        by_difference=not_worse * up - not_better * down,
        by_parameter=ties * 2 / rest - not_worse * up - not_better * down,
        curvature=of_up + of_down,
        mixed=of_down - of_up,
        of_parameter=of_up + of_down + ties * 4 * np.exp(-2 * threshold) / rest**2,
    )


def fit_rao_kupper(
    counts: Counts,
    *,
    n_items: int,
    prior: float = 0.1,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
    where: str = "Rao-Kupper",
) -> Fit:
    """Strengths and ln t (`parameter`) of greatest likelihood, with the prior of `rao_kupper`."""
    return _ties.fit(
        counts,
        law,
        START,
        n_items=n_items,
        prior=prior,
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=where,
    )


def rao_kupper(
    votes: Votes,
    completions: Completions | None = None,
    *,
    prior: float = 0.1,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    max_iterations: int = 200,
    estimator: str = "rao_kupper",
) -> tuple[Strengths, Scores]:
    """Estimate strengths on the log scale where small differences are seen as ties.

        P(a better) = sigmoid(d - ln t),   P(b better) = sigmoid(-d - ln t),   d = theta_a - theta_b

    and the rest is P(tie), by maximum likelihood with a weak prior; the threshold t above 1 is
    common to all votes. A preference of 1/2 is a tie, another between 0 and 1 its part of a win
    and the rest of a loss. Unscored votes are left out. Dropping ties instead would make strengths
    too large, counting each as half a win too small.

    - `strengths`: theta, of mean 0 over the completions that votes connect, and its standard error
      from the inverse observed information on that scale.
    - `scores`: for each compared two `preference`, P(a better) + P(tie) / 2 of the smaller
      completion_id, in [0, 1], with the error that the difference's error leaves, and `tie`,
      P(tie), in [0, 1]; and `threshold`, t, above 1, about the annotator `rule:` with the
      estimator's name.

    Standard errors are null where votes connect more than 10,000 completions.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `prior`: wins, and as many losses, that each completion has against an opponent of strength 0
      before any vote, and ties, and as many decisions, of two of equal strength. It keeps a
      completion that always wins, and t where nothing or everything is tied, finite. 0 is maximum
      likelihood.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `max_iterations`: Newton steps before giving up.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `ConvergenceError` where there is no optimum or it was not reached; `RecipeError` for a
    criterion without votes, a weight not above 0 or a prior below 0; `TableError` where the prompt
    of a completion cannot be found.
    """
    return _ties.aggregated(
        votes,
        completions,
        fit_rao_kupper,
        law,
        named="threshold",
        prior=prior,
        criteria=criteria,
        weights=weights,
        max_iterations=max_iterations,
        estimator=estimator,
    )
