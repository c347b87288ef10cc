"""Whether what an annotator prefers depends on what it was shown first."""

import polars as pl

from prefdata.tables import Measures, Votes

SCOPE = "all"

_KEY = ["annotator", "completion_a", "completion_b", "criterion", "draw"]


def position_bias(votes: Votes) -> Measures:
    """Measure for each annotator how the order of showing moves its votes.

    - `first_shown_wins`: the mean preference for the completion shown first, over scored votes of
      known order; in [0, 1], a tie is 1/2. Without bias it is 1/2 where the orders are balanced.
    - `position_bias`: from comparisons voted on in both orders, the mean of the preference for the
      first shown in the one order plus that in the other, less 1; in [-1, 1]. How much better one
      side is cancels: 0 without bias, 1 for always the first, -1 for always the second.
    - `swap_consistency`: the share of the comparisons voted on in both orders with the same
      verdict (a, b or tie) in both; in [0, 1].
    - `unscored_share`: the share of votes without a preference; in [0, 1].

    A comparison is an annotator's on two completions, one criterion and one draw. `n` is the
    number of votes (`first_shown_wins`: scored and of known order; `unscored_share`: all) or of
    comparisons scored in both orders. Of none the value is null. `stderr` is binomial,
    sqrt(p (1 - p) / n), and that of a mean for `position_bias`.

    The subject is the annotator.

    Source: Zheng et al. (2023), Judging LLM-as-a-judge with MT-Bench and Chatbot Arena, for
    consistency under swapped positions.
    """
    order = pl.when("a_first").then("preference").otherwise(1 - pl.col("preference"))
    ordered = votes.with_columns(
        first=pl.when(pl.col("a_first").is_not_null()).then(order),
        missing=pl.col("preference").is_null().cast(pl.Float64),
    )
    known = ordered.filter(pl.col("first").is_not_null())
    shown = [known.filter(pl.col("a_first") == flag) for flag in (True, False)]
    both = shown[0].join(shown[1], on=_KEY, suffix="_swapped")
    verdict, swapped = ((pl.col(p) - 0.5).sign() for p in ("preference", "preference_swapped"))
    both = both.with_columns(
        bias=pl.col("first") + pl.col("first_swapped") - 1,
        same=(verdict == swapped).cast(pl.Float64),
    )
    every = votes.select("annotator").unique()
    made = [
        _mean(known, "first", "first_shown_wins", every),
        _mean(both, "bias", "position_bias", every),
        _mean(both, "same", "swap_consistency", every),
        _mean(ordered, "missing", "unscored_share", every),
    ]
    return Measures(pl.concat(made).sort("measure", "subject"))


def _mean(frame: pl.DataFrame, column: str, measure: str, annotators: pl.DataFrame) -> pl.DataFrame:
    """The mean of a column for each annotator; a share has a binomial error."""
    n, value = pl.len(), pl.col(column).mean()
    if measure == "position_bias":
        error = pl.when(n > 1).then(pl.col(column).std() / n.sqrt())
    else:
        error = (value * (1 - value) / n).sqrt()
    means = (
        frame.sort(column)
        .group_by("annotator", maintain_order=True)
        .agg(value=value, stderr=error, n=n.cast(pl.Int64))
    )
    return annotators.join(means, on="annotator", how="left").select(
        pl.lit(measure).alias("measure"),
        pl.col("annotator").alias("subject"),
        "value",
        "stderr",
        pl.col("n").fill_null(0),
    )
