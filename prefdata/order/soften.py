"""Label smoothing by pair: a label that may be flipped is believed less."""

import polars as pl

from prefdata.errors import RecipeError
from prefdata.order._rates import noted, rates
from prefdata.tables import Measures, Pairs, Scores

SCOPE = "all"  # a rate may be one of all pairs

SOFTENED = (pl.col("measure") == "label_smoothing") & (pl.col("subject") == "order.soften")


def soften(
    pairs: Pairs,
    scores: Scores | None = None,
    measures: Measures | None = None,
    *,
    rate: float | None = None,
    of: str | None = None,
    score: str | None = None,
) -> tuple[Pairs, Measures]:
    """Replace each `soft_label` s by (1 - e) s + e (1 - s), e the rate of flips, at least 1/2.

    A hard label (s = 1) becomes 1 - e. Where e is above 1/2 the pair wants flipping first
    (pair.flip); here it becomes 1/2. A pair whose rate is not known stays as it is.

    This is label smoothing (conservative DPO): it is biased towards 1/2 on purpose. For weights
    that make the loss on noisy labels unbiased use order.robust_weights.

    The measure `label_smoothing` of subject "order.soften" is the mean of e over the pairs that
    have one, with the interval of a measured rate. A loss that is given these soft labels needs no
    label smoothing of its own.

    Options, exactly one of them:
    - `rate`: one flip rate for all pairs, in [0, 1/2).
    - `of`: the subject of a measure `flip_rate` (of estimate.flip_rate or estimate.label_error).
    - `score`: a probability of each pair's flip: "label_error", or "mc_dropout" (1 less it).

    Raises `RecipeError` for none or several of these, for what is not there, and where labels are
    softened already.

    Source: Mitchell (2023), A note on DPO with noisy preferences and relationship to IPO; by pair,
    Wang et al. (2024), Secrets of RLHF in Large Language Models Part II.
    """
    where = "order.soften"
    known = rates(pairs, scores, measures, rate=rate, of=of, score=score, where=where)
    if measures is not None and measures.filter(SOFTENED).height:
        raise RecipeError(
            f"{where}: the labels are softened already; rates e and f on top of each other are one "
            "of e + f - 2 e f"
        )
    rows = pairs.join(known.by_pair, on="pair_id", how="left", maintain_order="left")
    s, e = pl.col("soft_label"), pl.col("rate").fill_null(0.0)
    softer = ((1 - e) * s + e * (1 - s)).clip(0.5, 1)
    softened = Pairs(rows.with_columns(softer.alias("soft_label")).select(pairs.columns))
    return softened, noted(measures, known, where=where)
