"""Lists with a label value for each completion, for losses that learn to rank.

`psi` in [0, 1] is a completion's win rate (aggregate.win_rate) or mean rating: label values, not
ranks, for 0.99, 0.5, 0.01 teach something else than 0.51, 0.5, 0.49. The lambda weight of a pair,

    |G_i - G_j| |1 / D(tau_i) - 1 / D(tau_j)|,    G = 2^psi - 1,    D(tau) = ln(1 + tau),

takes tau from the model's own scores as it is trained and so cannot be stored;
`label_rank_weights` has it with the labels' ranks, to look at.

Source: Liu et al. (2024), LiPO: Listwise Preference Optimization through Learning-to-Rank.
"""

import polars as pl

from prefdata.aggregate._rates import rates
from prefdata.export.listwise import listwise
from prefdata.tables import Completions, Format, Prompts, Rows, Strengths

SCOPE = "all"  # an estimator that some prompts lack is no mistake


def lipo(
    prompts: Prompts,
    completions: Completions,
    strengths: Strengths,
    *,
    estimator: str | None = None,
    min_completions: int = 2,
    format: Format = "conversational",
) -> Rows:
    """One row a prompt: the columns of export.listwise, `scores` called `psi`, and the weights.

    `label_rank_weights` has a list for each completion, with an entry for each, 0 for ties and
    itself. `estimator` names whose strengths are taken and is required when there are several;
    `min_completions` and `format` are as in export.listwise.

    Raises `TableError` for strengths outside of [0, 1].
    """
    fitting = "aggregate.win_rate or mean_rating"
    own = rates(strengths, estimator, where="export.lipo", instead=fitting)
    rows = listwise(
        prompts,
        completions,
        own,
        min_completions=min_completions,
        format=format,
    )
    flat = rows.select("prompt_id", psi="scores", rank="ranks").explode("psi", "rank")
    each = flat.with_columns(
        at=pl.int_range(pl.len()).over("prompt_id"),
        gain=2 ** pl.col("psi") - 1,
        discount=1 / pl.col("rank").log1p(),
    )
    both = each.join(each, on="prompt_id").sort("prompt_id", "at", "at_right")
    weight = (pl.col("gain") - pl.col("gain_right")).abs()
    weight *= (pl.col("discount") - pl.col("discount_right")).abs()
    one = both.group_by("prompt_id", "at", maintain_order=True).agg(label_rank_weights=weight)
    weights = one.group_by("prompt_id", maintain_order=True).agg("label_rank_weights")
    made = rows.join(weights, on="prompt_id", how="left", maintain_order="left")
    return Rows(made.rename({"scores": "psi"}))
