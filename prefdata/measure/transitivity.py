"""Whether an annotator's preferences go round in circles."""

from collections.abc import Sequence

import polars as pl

from prefdata.aggregate._criteria import on_criteria
from prefdata.measure._means import means, side, with_groups
from prefdata.tables import Measures, Prompts, Votes

SCOPE = "all"

_NOTE = "a coin has 0.25"
_KEY = ["subject", "criterion"]


def transitivity(
    votes: Votes, prompts: Prompts | None = None, *, criteria: Sequence[str] | None = None
) -> Measures:
    """Measure how many threes of completions each annotator prefers in a circle.

    An annotator's verdict on two completions is the sign of its mean preference over orders and
    draws, less 1/2. Of three completions compared with each other on one criterion:

    - `cycle_rate`: of those with three verdicts and no tie, the share with a > b > c > a; in
      [0, 1]. Coins have 1/4; somebody with one quality in mind and no error has 0. n: such threes.
    - `tied_triples`: of all threes, the share with a tie among them; in [0, 1]. n: all threes.

    Strengths describe what is no circle: where `cycle_rate` is high, no aggregate on one scale does
    justice to an annotator, and `estimate.preference_embedding` may. The subject is the annotator;
    without a three its value is null. `stderr` and the interval are by groups of prompts.

    Options:
    - `criteria`: the criteria that count; default all.

    Raises `RecipeError` for a criterion that no vote is on.

    Source: Kendall and Babington Smith (1940), On the method of paired comparisons, for circular
    triads and their share among coins.
    """
    decided = (
        with_groups(on_criteria(votes, criteria), prompts)
        .drop_nulls("preference")
        .sort("annotator", "criterion", "completion_a", "completion_b", "preference")
        .group_by(
            "criterion", "group", pl.col("annotator").alias("subject"),
            one="completion_a", other="completion_b", maintain_order=True,
        )
        .agg(verdict=side(pl.col("preference")))
    )  # fmt: skip
    near = decided.rename({"one": "a", "other": "b", "verdict": "ab"})
    next_to = decided.select(*_KEY, b="one", c="other", bc="verdict")
    across = decided.select(*_KEY, a="one", c="other", ac="verdict")
    threes = near.join(next_to, on=[*_KEY, "b"]).join(across, on=[*_KEY, "a", "c"])
    ab, bc, ac = (pl.col(name) for name in ("ab", "bc", "ac"))
    is_tied = (ab * bc * ac) == 0
    threes = threes.with_columns(
        tied=is_tied.cast(pl.Float64),
        circle=pl.when(~is_tied).then(((ab == bc) & (ac == -ab)).cast(pl.Float64)),
    )
    every = votes.select(subject="annotator").unique()
    made = [
        means(threes, "circle", "cycle_rate", every, note=_NOTE),
        means(threes, "tied", "tied_triples", every),
    ]
    return Measures(pl.concat(made).sort("measure", "subject"))
