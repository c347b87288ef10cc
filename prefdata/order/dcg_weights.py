"""How much a pair matters to the ranking it is of: what swapping the two would cost in DCG.

    weight_ij = |G_i - G_j| |1 / D(r_i) - 1 / D(r_j)|,   G = 2^psi - 1,   D(r) = ln(1 + r)

with psi in [0, 1] the strength of a completion (its share of wins, its mean rating) and r its rank
among those of its prompt. Papers take r from the model as it is trained: gains are of the data, the
weights here only of the data's own ranks, and a trainer that can should compute them anew.
"""

import polars as pl

from prefdata.aggregate._ranks import rank
from prefdata.aggregate._rates import rates
from prefdata.order._scored import scored
from prefdata.tables import Pairs, Scores, Strengths

SCOPE = "all"  # an estimator that some prompts lack is no mistake

NAMES = ("dcg_weight", "gain_chosen", "gain_rejected", "rank_chosen", "rank_rejected")


def dcg_weights(
    pairs: Pairs,
    strengths: Strengths,
    scores: Scores | None = None,
    *,
    estimator: str | None = None,
) -> Scores:
    """Add the scores `dcg_weight`, `gain_chosen`, `gain_rejected`, `rank_chosen`, `rank_rejected`.

    Rank 1 is the best; equal strengths share the smaller rank, so two of them have weight 0. A pair
    without strengths for both sides has none of these scores. Export them with `columns`.

    Options:
    - `estimator`: whose strengths; needed where `strengths` holds those of several.

    Raises `TableError` for strengths outside of [0, 1].

    Source: Karthik et al. (2024), Scalable Ranked Preference Optimization for Text-to-Image
    Generation (RankDPO); Burges et al. (2006), Learning to Rank with Nonsmooth Cost Functions.
    """
    fitting = "aggregate.win_rate or mean_rating"
    psi = rates(strengths, estimator, where="order.dcg_weights", instead=fitting)
    known = psi.select(
        "completion_id",
        gain=2 ** pl.col("strength") - 1,
        rank=rank("strength").over("prompt_id"),
    )
    rows = pairs.select("pair_id", "chosen_id", "rejected_id")
    for side in ("chosen", "rejected"):
        named = known.rename(lambda name, side=side: f"{name}_{side}")
        rows = rows.join(named, left_on=f"{side}_id", right_on=f"completion_id_{side}")
    gain = (pl.col("gain_chosen") - pl.col("gain_rejected")).abs()
    discount = (1 / pl.col("rank_chosen").log1p() - 1 / pl.col("rank_rejected").log1p()).abs()
    return scored(scores, rows.with_columns(dcg_weight=gain * discount), NAMES)
