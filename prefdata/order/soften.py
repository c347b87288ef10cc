"""Label smoothing by pair: a label that may be flipped is believed less."""

import polars as pl

from prefdata.order._rates import rates
from prefdata.tables import Measures, Pairs, Scores

SCOPE = "all"  # a rate may be one of all pairs


def soften(
    pairs: Pairs,
    scores: Scores | None = None,
    measures: Measures | None = None,
    *,
    rate: float | None = None,
    of: str | None = None,
    score: str | None = None,
) -> Pairs:
    """Replace each `soft_label` s by (1 - e) s + e (1 - s), e the rate of flips, at least 1/2.

    A hard label (s = 1) becomes 1 - e. Where e is above 1/2 the pair wants flipping first
    (pair.flip); here it becomes 1/2. A pair whose rate is not known stays as it is.

    This is label smoothing (conservative DPO): it is biased towards 1/2 on purpose. For weights
    that make the loss on noisy labels unbiased use order.robust_weights.

    Options, exactly one of them:
    - `rate`: one flip rate for all pairs, in [0, 1/2).
    - `of`: the subject of a measure `flip_rate` (of estimate.flip_rate or estimate.label_error).
    - `score`: a probability of each pair's flip: "label_error", or "mc_dropout" (1 less it).

    Raises `RecipeError` for none or several of these and for what is not there.

    Source: Mitchell (2023), A note on DPO with noisy preferences and relationship to IPO; by pair,
    Wang et al. (2024), Secrets of RLHF in Large Language Models Part II.
    """
    known = rates(pairs, scores, measures, rate=rate, of=of, score=score, where="order.soften")
    rows = pairs.join(known, on="pair_id", how="left", maintain_order="left")
    s, e = pl.col("soft_label"), pl.col("rate").fill_null(0.0)
    softer = ((1 - e) * s + e * (1 - s)).clip(0.5, 1)
    return Pairs(rows.with_columns(softer.alias("soft_label")).select(pairs.columns))
