"""The share of votes that each completion wins, with what the number of votes leaves open."""

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl
from scipy.special import betainc

from prefdata.aggregate._criteria import weigh
from prefdata.aggregate._tally import about, preferences, shares, tally, with_prompts
from prefdata.errors import RecipeError
from prefdata.tables import SIDES, Completions, Scores, Strengths, Votes, pair_ids

Ties = Literal["halves", "left_out"]
Abstentions = Literal["left_out", "halves"]

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def majority_vote(
    votes: Votes,
    completions: Completions | None = None,
    *,
    prior: float = 1.0,
    ties: Ties = "halves",
    abstentions: Abstentions = "left_out",
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    estimator: str = "majority_vote",
) -> tuple[Strengths, Scores]:
    """Aggregate the votes on each two completions on their own.

    The votes on a and b are taken as draws with an unknown share q for a, and q has the prior
    Beta(prior, prior). With `wins` for a (a tie is half a win, a soft preference its part) and
    `losses`, the posterior is Beta(wins + prior, losses + prior):

        P(a preferred) = (wins + prior) / (wins + losses + 2 prior)

    which is above 1/2 exactly where the majority is for a. An unscored vote is an abstention,
    left out by default: it is no tie, as who abstains says nothing of the two.

    - `scores`: for each compared two, score `preference`, P(the smaller completion_id wins) in
      (0, 1), and the posterior's standard deviation as `stderr`; `majority`, the posterior
      probability P(q > 1/2) that more of all possible votes are for it than against it, in [0, 1];
      `ties` and `abstentions`, the shares of ties among the scored and of the unscored among all
      votes on the two by weight, in [0, 1].
    - `strengths`: the mean of P(preferred) over the completions that it was compared with, each
      counting once however many votes it got; in (0, 1), 1/2 is as often won as lost. This is the
      Borda share, not the log scale: a margin is a difference of shares. `stderr` is that of the
      mean of independent posteriors.

    `completions` is read for the prompts of completions that have only votes across prompts.

    Options:
    - `prior`: pseudo-votes for each side, above 0. 1 is the uniform prior.
    - `ties`: "halves" counts a tie as half a vote for each, "left_out" as none.
    - `abstentions`: "left_out" counts an unscored vote as none, "halves" as half a vote for each.
      Two on which all abstain have scores only with "halves".
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
        tally(_counted(votes, ties, abstentions), criteria, weights)
        .with_columns(value=(pl.col("wins") + prior) / votes_of_pair)
        .with_columns(stderr=(value * (1 - value) / (votes_of_pair + 1)).sqrt())
    )
    strengths = with_prompts(shares(pairs), votes, completions, estimator)
    subject = pair_ids(pairs["completion_a"], pairs["completion_b"])
    wins, losses = (pairs[name].to_numpy() + prior for name in ("wins", "losses"))
    # The regularised incomplete beta function, from the side on which it is exact.
    for_a = betainc(losses, wins, 0.5)
    said = pairs.join(_said(votes, criteria, weights), on=SIDES, how="left", maintain_order="left")
    rows = [
        about("pair", subject, "majority", for_a, estimator),
        about("pair", subject, "ties", said["ties"].to_numpy(), estimator),
        about("pair", subject, "abstentions", said["abstentions"].to_numpy(), estimator),
    ]
    return strengths, Scores(pl.concat([preferences(pairs, estimator), *rows]))


def _counted(votes: Votes, ties: Ties, abstentions: Abstentions) -> Votes:
    """Votes with ties taken out, or abstentions made halves, as wanted."""
    preference = pl.col("preference")
    if ties == "left_out":
        votes = Votes(votes.filter(preference.ne_missing(0.5)))
    if abstentions == "halves":
        votes = Votes(votes.with_columns(preference.fill_null(0.5)))
    return votes


def _said(
    votes: Votes, criteria: Sequence[str] | None, weights: Mapping[str, float] | None
) -> pl.DataFrame:
    """The shares of ties and of abstentions on each two."""
    preference, weight = pl.col("preference"), pl.col("weight")
    scored = weight.filter(preference.is_not_null()).sum()
    tied = weight.filter(preference == 0.5).sum()
    return (
        weigh(votes, criteria, weights)
        .sort(*SIDES, "weight")
        .group_by(SIDES, maintain_order=True)
        .agg(
            ties=pl.when(scored > 0).then(tied / scored).otherwise(0.0),
            abstentions=1 - scored / weight.sum(),
        )
    )
