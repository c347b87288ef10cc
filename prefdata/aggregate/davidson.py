"""Davidson's model: Bradley-Terry strengths from votes of which some are ties.

    P(i better) : P(tie) : P(j better) = exp(d / 2) : nu : exp(-d / 2),    d = theta_i - theta_j

Source: Davidson (1970), "On Extending the Bradley-Terry Model to Accommodate Ties in Paired
Comparison Experiments".
"""

from collections.abc import Mapping, Sequence

import numpy as np

from prefdata.aggregate import _ties
from prefdata.aggregate._graph import Floats
from prefdata.aggregate._ties import Counts, Fit, Slopes
from prefdata.tables import Completions, Scores, Strengths, Votes

# The parameter is that of all prompts.
SCOPE = "all"


def law(apart: Floats, log_nu: float, wins: Floats, ties: Floats, losses: Floats) -> Slopes:
    """The log likelihood and its derivatives by the difference and log nu."""
    half = apart / 2
    whole = np.logaddexp(np.logaddexp(half, -half), log_nu)
    better, worse = np.exp(half - whole), np.exp(-half - whole)
    tie = np.exp(log_nu - whole)
    votes = wins + ties + losses
    slope = (better - worse) / 2
    return Slopes(
        value=wins * half - losses * half + ties * log_nu - votes * whole,
        by_difference=(wins - losses) / 2 - votes * slope,
        by_parameter=ties - votes * tie,
        curvature=votes * ((better + worse) / 4 - slope**2),
        mixed=-votes * slope * tie,
        of_parameter=votes * tie * (1 - tie),
    )


def fit_davidson(
    counts: Counts,
    *,
    n_items: int,
    prior: float = 0.1,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
    where: str = "Davidson",
) -> Fit:
    """Strengths and log nu (`parameter`) of greatest likelihood, with the prior of `davidson`."""
    return _ties.fit(
        counts,
        law,
        0.0,
        n_items=n_items,
        prior=prior,
        tolerance=tolerance,
        max_iterations=max_iterations,
        where=where,
    )


def davidson(
    votes: Votes,
    completions: Completions | None = None,
    *,
    prior: float = 0.1,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    max_iterations: int = 200,
    estimator: str = "davidson",
) -> tuple[Strengths, Scores]:
    """Estimate strengths on the log scale where ties have a parameter of their own.

        P(a better) : P(tie) : P(b better) = exp(d / 2) : nu : exp(-d / 2),  d = theta_a - theta_b

    by maximum likelihood with a weak prior; nu is common to all votes. A preference of 1/2 is a
    tie, another between 0 and 1 its part of a win and the rest of a loss. Unscored votes are left
    out. Between the two that are not tied, P(a better) / P(b better) = exp(d), as without ties.

    - `strengths`: theta, of mean 0 over the completions that votes connect, and its standard error
      from the inverse observed information on that scale.
    - `scores`: for each compared two `preference`, P(a better) + P(tie) / 2 of the smaller
      completion_id, in [0, 1], with the error that the difference's error leaves, and `tie`,
      P(tie), in [0, 1]; and `nu`, above 0, about the annotator `rule:` with the estimator's name.

    Standard errors are null where votes connect more than 10,000 completions.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `prior`: wins, and as many losses, that each completion has against an opponent of strength 0
      before any vote, and ties, and as many decisions, of two of equal strength. It keeps a
      completion that always wins, and nu where nothing or everything is tied, finite. 0 is maximum
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
        fit_davidson,
        law,
        named="nu",
        prior=prior,
        criteria=criteria,
        weights=weights,
        max_iterations=max_iterations,
        estimator=estimator,
    )
