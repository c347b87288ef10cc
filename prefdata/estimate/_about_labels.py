"""Scores that speak about a pair's label, and how to read them.

They are oriented: to the side that is chosen when they are measured. Where a pair is flipped they
are turned with it, so that they go on saying the same of the same completions; what is named after
a side, as `ref_logp_chosen`, goes with that side.
"""

from typing import Literal

import polars as pl

from prefdata.errors import RecipeError, nearest
from prefdata.estimate._named import named

Reading = Literal["p_flipped", "p_chosen", "signed"]

# P(the label is flipped); P(chosen preferred to rejected); chosen's value less rejected's.
READINGS: dict[str, Reading] = {
    "label_error": "p_flipped",
    "implicit_flip": "p_flipped",
    "mc_dropout": "p_chosen",
    "self_refined": "p_chosen",
    "ensemble_margin": "signed",
    "head_margin": "signed",
    "adaptive_margin": "signed",
    "implicit_reward": "signed",
}


# Of chosen and rejected as they stand: of the turned pair these numbers are others, which cannot be
# told from them.
ANEW = (
    *("ches", "ln_ches", "difficulty", "alpha_needed", "ranked_right", "ranked_right_per_token"),
    *("log_gradient_ratio", "policy_scenario"),
)


def read(frame: pl.DataFrame, score: str, *, where: str) -> pl.DataFrame:
    """Each pair's `value` of a score and its `doubt`, higher for a likelier flip, as `pair_id`.

    `p_flipped` is the probability of a flip where the score is one, else null. Raises
    `RecipeError` for a score that says nothing about labels, that no pair has, or that several
    models gave.
    """
    name = score.partition("@")[0]
    if name not in READINGS:
        raise RecipeError(
            f"{where}: the score {name!r} says nothing about labels; {nearest(name, READINGS)}"
        )
    about = named(frame, score, where=where)
    value = pl.col("value")
    reading = READINGS[name]
    doubt = value if reading == "p_flipped" else -value
    flipped = {"p_flipped": value, "p_chosen": 1 - value}.get(reading, pl.lit(None, pl.Float64))
    return about.select(pair_id="subject_id", value=value, doubt=doubt, p_flipped=flipped)


def turned(scores: pl.DataFrame, flipped: pl.Series) -> pl.DataFrame:
    """The scores after the pairs with these ids were flipped; those of `ANEW` are gone."""
    is_flipped = (pl.col("subject") == "pair") & pl.col("subject_id").is_in(flipped.implode())
    other_side = pl.col("score").str.replace_many(["chosen", "rejected"], ["rejected", "chosen"])
    reading = pl.col("score").replace_strict(READINGS, default=None, return_dtype=pl.String)
    value = pl.col("value")
    other = (
        pl.when(reading == "signed")
        .then(-value)
        .when(reading.is_not_null())
        .then(1 - value)
        .otherwise(value)
    )
    left = scores.filter(~(is_flipped & pl.col("score").is_in(ANEW)))
    return left.with_columns(
        score=pl.when(is_flipped).then(other_side).otherwise("score"),
        value=pl.when(is_flipped).then(other).otherwise(value),
    )


def choose(
    doubts: pl.DataFrame, *, share: float | None, above: float | None, where: str
) -> pl.Series:
    """The ids of the pairs in doubt: the most doubtful `share`, or those whose doubt is `above`.

    Of equal doubts the smaller id goes first, so the choice does not depend on the order of rows.
    """
    if (share is None) == (above is None):
        raise RecipeError(f"{where}: give either share or above, to say which labels are doubted")
    if share is not None:
        if not 0 <= share <= 1:
            raise RecipeError(f"{where}: share = {share}; it is a share of the pairs, in [0, 1]")
        n = int(share * doubts.height + 1e-9)
        order = doubts.sort("doubt", "pair_id", descending=[True, False])
        return order["pair_id"].head(n)
    return doubts.filter(pl.col("doubt") > above)["pair_id"].sort()
