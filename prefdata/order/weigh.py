"""How much a pair counts in training, by how much its label tells.

With e the probability that a label is the wrong way round, it is the truth with probability 1 - 2 e
and else a coin: w = 1 - 2 e. A label of strength m, as people state it or strengths differ, counts
m times: w = m. A pair on which trusted votes could teach much yet is known little of:
w = 1 - BALD / ln 2. Weights are divided by their mean, so that a step of training keeps its size.
"""

import math

import polars as pl

from prefdata.errors import RecipeError
from prefdata.estimate._about_labels import read
from prefdata.estimate._named import named
from prefdata.tables import Pairs, Scores

SCOPE = "all"  # the mean is one of all pairs


def weigh(pairs: Pairs, scores: Scores | None = None, *, by: str) -> Pairs:
    """Write the `weight` of each pair, at least 0 and of mean 1, in place of one it had.

    A pair of which it is not known what its label tells has none, which trainers read as 1, the
    mean. `export.pairwise` carries the weights, `export.binary` their means over completions. A
    label can be made softer too (order.soften), but not for the same doubt: that counts it twice.
    Signed weights, which one number cannot be, are the scores of order.robust_weights.

    Options:
    - `by`: "margin", the difference of strengths; "soft_label", 2 s - 1, as e = 1 - s; "bald" of
      mc_dropout; or a score that is a probability, as label_error or mc_dropout, whose labels that
      are wrong rather than right weigh 0. `name@model` where several models gave it.

    Raises `RecipeError` for a score that is no probability or not there.

    Source: Wang et al. (2024), HelpSteer2-Preference, for the strength (scaled Bradley-Terry); Wang
    et al. (2024), Uncertainty-Aware Preference Optimization, for BALD; Natarajan et al. (2013),
    Learning with Noisy Labels, for 1 - 2 e.
    """
    rows = pairs.join(_told(pairs, scores, by), on="pair_id", how="left", maintain_order="left")
    told = pl.col("told")
    # Sorted before summing, so that the last bit does not depend on the order of the rows.
    mean = told.sort().mean()
    weight = told / pl.when(mean > 0).then(mean).otherwise(1.0)
    return Pairs(rows.with_columns(weight=weight).select(pairs.columns))


def _told(pairs: Pairs, scores: Scores | None, by: str) -> pl.DataFrame:
    """What each label tells, `told`, before it is divided by the mean."""
    where, pair = "order.weigh", pl.col("pair_id")
    if by == "margin":
        return pairs.select(pair, told="margin")
    if by == "soft_label":
        return pairs.select(pair, told=2 * pl.col("soft_label") - 1)
    if scores is None:
        raise RecipeError(f"{where}: by = {by!r}, but no stage before made scores")
    own = scores.filter(pl.col("subject_id").is_in(pairs["pair_id"].implode()))
    if by.partition("@")[0] == "bald":
        doubt = named(own, by, where=where)
        return doubt.select(pair_id="subject_id", told=(1 - pl.col("value") / math.log(2)).clip(0))
    known = read(own, by, where=where)
    if known["p_flipped"].null_count():
        raise RecipeError(
            f"{where}: the score {by!r} is a difference, not the probability of a flip; use "
            '"margin", "soft_label", "bald", or a score as label_error or mc_dropout'
        )
    return known.select(pair, told=(1 - 2 * pl.col("p_flipped")).clip(0))
