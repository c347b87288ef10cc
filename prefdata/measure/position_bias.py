"""Whether what an annotator prefers depends on what it was shown first."""

import polars as pl

from prefdata.measure._means import means, with_groups
from prefdata.tables import Measures, Prompts, Votes

SCOPE = "all"

_KEY = ["annotator", "completion_a", "completion_b", "criterion", "draw"]


def position_bias(votes: Votes, prompts: Prompts | None = None) -> Measures:
    """Measure for each annotator how the order of showing moves its votes.

    - `first_shown_wins`: the mean preference for the completion shown first, over scored votes of
      known order; in [0, 1], a tie is 1/2. Without bias it is 1/2 where the orders are balanced.
    - `position_bias`: from comparisons voted on in both orders, the mean of the preference for the
      first shown in the one order plus that in the other, less 1; in [-1, 1]. How much better one
      side is cancels: 0 without bias, 1 for always the first, -1 for always the second.
    - `swap_consistency`: the share of the comparisons voted on in both orders with the same
      verdict (a, b or tie) in both; in [0, 1].
    - `tie_rate`: the share of scored votes that are ties (a preference of just 1/2); in [0, 1].
    - `unscored_share`: the share of votes without a preference; in [0, 1].

    A comparison is an annotator's on two completions, one criterion and one draw. `n` is the
    number of votes (`first_shown_wins`: scored and of known order; `tie_rate`: scored;
    `unscored_share`: all) or of comparisons scored in both orders. Of none the value is null. Votes
    on prompts of one group are not independent: `stderr`, and Wilson's interval `low` to `high`,
    are those of a mean over groups of prompts; of a single group there is neither.

    The subject is the annotator.

    Source: Zheng et al. (2023), Judging LLM-as-a-judge with MT-Bench and Chatbot Arena, for
    consistency under swapped positions.
    """
    order = pl.when("a_first").then("preference").otherwise(1 - pl.col("preference"))
    ordered = with_groups(votes, prompts).with_columns(
        subject=pl.col("annotator"),
        first=pl.when(pl.col("a_first").is_not_null()).then(order),
        tied=(pl.col("preference") == 0.5).cast(pl.Float64),
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
    every = ordered.select("subject").unique()
    made = [
        means(known, "first", "first_shown_wins", every),
        means(both, "bias", "position_bias", every, low=-1),
        means(both, "same", "swap_consistency", every),
        means(ordered, "tied", "tie_rate", every),
        means(ordered, "missing", "unscored_share", every),
    ]
    return Measures(pl.concat(made).sort("measure", "subject"))
