"""The share of votes that each completion wins, with what the number of votes leaves open."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.aggregate._tally import preferences, shares, tally, with_prompts
from prefdata.errors import RecipeError
from prefdata.tables import Completions, Scores, Strengths, Votes

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def majority_vote(
    votes: Votes,
    completions: Completions | None = None,
    *,
    prior: float = 1.0,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    estimator: str = "majority_vote",
) -> tuple[Strengths, Scores]:
    """Aggregate the votes on each two completions on their own.

    The votes on a and b are taken as draws with an unknown share q for a, and q has the prior
    Beta(prior, prior). With `wins` for a (a tie is half a win, a soft preference its part) and
    `losses`, the posterior is Beta(wins + prior, losses + prior):

        P(a preferred) = (wins + prior) / (wins + losses + 2 prior)

    which is above 1/2 exactly where the majority is for a. Unscored votes are left out.

    - `scores`: for each compared two, score `preference`, P(the smaller completion_id wins) in
      (0, 1), and the posterior's standard deviation as `stderr`.
    - `strengths`: the mean of P(preferred) over the completions that it was compared with, each
      counting once however many votes it got; in (0, 1), 1/2 is as often won as lost. This is the
      Borda share, not the log scale: a margin is a difference of shares. `stderr` is that of the
      mean of independent posteriors.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `prior`: pseudo-votes for each side, above 0. 1 is the uniform prior.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`; two results of
      one recipe need two names.

    Raises `RecipeError` for a criterion without votes, a weight or a prior not above 0;
    `TableError` where the prompt of a completion cannot be found.

    Source: Laplace (1774), the rule of succession; Borda (1784) for the shares.
    """
    if not 0 < prior < float("inf"):
        raise RecipeError(f"aggregate.majority_vote: prior is {prior}; give a number above 0")
    votes_of_pair = pl.col("wins") + pl.col("losses") + 2 * prior
    value = pl.col("value")
    pairs = (
        tally(votes, criteria, weights)
        .with_columns(value=(pl.col("wins") + prior) / votes_of_pair)
        .with_columns(stderr=(value * (1 - value) / (votes_of_pair + 1)).sqrt())
    )
    strengths = with_prompts(shares(pairs), votes, completions, estimator)
    return strengths, preferences(pairs, estimator)
