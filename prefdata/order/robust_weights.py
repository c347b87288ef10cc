"""Signed weights that make a loss on noisy labels an unbiased estimate of that on clean ones.

With labels flipped at rate e < 1/2 and l(w, r) any loss that prefers w to r,

    L = [(1 - e) l(chosen, rejected) - e l(rejected, chosen)] / (1 - 2 e)

has the expectation of l on the true labels. The two weights are (1 - e) / (1 - 2 e) >= 1 and
-e / (1 - 2 e) <= 0; they sum to 1. Clipping the negative one to 0 would bring the bias back.
"""

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.order._rates import noted, rates
from prefdata.tables import Measures, Pairs, Scores

SCOPE = "all"  # a rate may be one of all pairs


def robust_weights(
    pairs: Pairs,
    scores: Scores | None = None,
    measures: Measures | None = None,
    *,
    rate: float | None = None,
    of: str | None = None,
    score: str | None = None,
) -> tuple[Scores, Measures]:
    """Add the scores `robust_weight` (of the label) and `robust_weight_flipped` (of its opposite).

    A pair whose rate is not known has no such scores. Export them with `columns`, or give a
    trainer that knows the loss the rate itself (TRL: loss_type "robust", label_smoothing e). The
    measure `label_smoothing` of subject "order.robust_weights" is the mean of e over the pairs
    that have one, with the interval of a measured rate.

    Options, exactly one of them:
    - `rate`: one flip rate for all pairs, in [0, 1/2).
    - `of`: the subject of a measure `flip_rate`.
    - `score`: a probability of each pair's flip; flip those at 1/2 or above first (pair.flip).

    Raises `RecipeError` for none or several of these, for what is not there, and for a rate of 1/2
    or more, where the weights do not exist.

    Source: Chowdhury, Kini, Natarajan (2024), Provably Robust DPO: Aligning Language Models with
    Noisy Feedback; the unbiased loss is of Natarajan et al. (2013), Learning with Noisy Labels.
    """
    where = "order.robust_weights"
    found = rates(pairs, scores, measures, rate=rate, of=of, score=score, where=where)
    known = found.by_pair.drop_nulls("rate")
    lost = known.filter(pl.col("rate") >= 0.5)
    if lost.height:
        raise RecipeError(
            f"{where}: {lost.height} pairs are flipped at a rate of 1/2 or more, "
            f"first {lost.sort('pair_id')['pair_id'][0]}; use pair.flip or select.label_error first"
        )
    e = pl.col("rate")
    weights = {"robust_weight": (1 - e) / (1 - 2 * e), "robust_weight_flipped": -e / (1 - 2 * e)}
    made = [
        known.select(
            subject_id="pair_id",
            subject=pl.lit("pair"),
            score=pl.lit(name),
            model=pl.lit(None, pl.String),
            value=value,
            stderr=pl.lit(None, pl.Float64),
            request_id=pl.lit(None, pl.String),
        )
        for name, value in weights.items()
    ]
    columns = tables.schema("scores").columns
    own = ~(
        pl.col("score").is_in(list(weights))
        & pl.col("subject_id").is_in(pairs["pair_id"].implode())
    )
    kept = [] if scores is None else [scores.filter(own).select(*columns)]
    weighed = Scores(pl.concat([*kept, *(each.select(*columns) for each in made)]))
    return weighed, noted(measures, found, where=where)
