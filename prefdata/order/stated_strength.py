"""The degree to which annotators say that one is better, for losses that use it.

A graded vote of p = P(a preferred) in equal steps from 0 to 1 says |2p - 1| of the greatest degree:
with three degrees (slightly, better, much better) the stated strength is 3 |2p - 1|, the mean over
votes taken before the absolute value. Losses, with d the difference of rewards and m the strength:

    regular -ln s(d)      margin -ln s(d - m)      scaled -m ln s(d)
"""

import polars as pl

from prefdata.errors import RecipeError
from prefdata.order._scored import scored
from prefdata.tables import SIDES, Pairs, Scores, Votes, with_sides


def stated_strength(
    pairs: Pairs,
    votes: Votes,
    scores: Scores | None = None,
    *,
    degrees: int = 3,
    rounded: bool = False,
) -> Scores:
    """Add the score `stated_strength` of each pair on which somebody voted, in [-degrees, degrees].

    Its sign is that of the chosen side: it is negative where the votes on just these two say the
    opposite of the pair. Export it with `columns`, for a margin or as the weight of a scaled loss.

    Options:
    - `degrees`: how many steps there are from a tie to the clearest preference; at least 1.
    - `rounded`: to the nearest degree, halves away from 0, as HelpSteer2-Preference has it, with
      the votes of select.similar_votes; below half a degree that is 0, a tie.

    Raises `RecipeError` for `degrees` below 1.

    Source: Wang et al. (2024), HelpSteer2-Preference: Complementing Ratings with Preferences.
    """
    if degrees < 1:
        raise RecipeError(f"order.stated_strength: degrees = {degrees}; at least 1")
    means = votes.drop_nulls("preference").sort(*SIDES, "preference").group_by(SIDES)
    rows = with_sides(pairs).join(means.agg(pl.col("preference").mean()), on=SIDES)
    towards_a = degrees * (2 * pl.col("preference") - 1)
    towards = pl.when("a_chosen").then(towards_a).otherwise(-towards_a)
    if rounded:
        whole = (towards.abs().round(9) + 0.5).floor()
        towards = pl.when(towards < 0).then(-whole).otherwise(whole)
    return scored(scores, rows.with_columns(stated_strength=towards), ["stated_strength"])
