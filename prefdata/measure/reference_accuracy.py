"""How often an annotator prefers the completion that is known to be right.

Where a check (`annotate.exact_match`, a verifier) passes one completion of a pair and fails the
other, the right preference is known without asking anyone. For each annotator

    accuracy = mean over its votes on such pairs of  P(it prefers the one that passes)

so a tie counts one half and a coin has 0.5. A pair counts once, by the mean of the votes on it.
Pairs on prompts of one group are not independent: the standard error and Wilson's interval are
those of a mean over groups of prompts.

Source: the "verifiable reference" evaluation of judges, as in RewardBench and LLMBar.
"""

import polars as pl

from prefdata.measure._means import means, with_groups
from prefdata.tables import Measures, Prompts, Ratings, Votes

SCOPE = "all"


def reference_accuracy(
    votes: Votes,
    ratings: Ratings,
    prompts: Prompts | None = None,
    *,
    check: str = "rule:exact_match",
) -> Measures:
    """Rows `reference_accuracy`, in [0, 1], with an annotator as subject; n counts pairs.

    Unscored votes count for nothing. An annotator without a vote on such a pair has no row.
    `stderr`, `low` and `high` are over groups of prompts.

    Options:
    - `check`: the annotator of `ratings` that knows what is right: a rating of 1 passes, 0 fails.
    """
    passed = (
        ratings.filter(pl.col("annotator") == check)
        .drop_nulls("rating")
        .group_by("completion_id")
        .agg(right=pl.col("rating").mean())
    )
    decided = (
        votes.drop_nulls("preference")
        .join(passed, left_on="completion_a", right_on="completion_id")
        .join(passed, left_on="completion_b", right_on="completion_id", suffix="_b")
        .filter((pl.col("right") - pl.col("right_b")).abs() == 1)
        .with_columns(
            hit=pl.when(pl.col("right") == 1)
            .then(pl.col("preference"))
            .otherwise(1 - pl.col("preference"))
        )
    )
    by_pair = (
        with_groups(decided, prompts)
        .group_by("annotator", "completion_a", "completion_b", "group")
        .agg(pl.col("hit").sort().mean())
        .rename({"annotator": "subject"})
    )
    return Measures(means(by_pair, "hit", "reference_accuracy"))
