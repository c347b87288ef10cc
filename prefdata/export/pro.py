"""Ranked lists with the temperatures of Preference Ranking Optimization.

`rewards` are the strengths, descending; the loss of place k, with p the mean log-probability of a
completion's tokens, weighs each later one j by how much worse it is:

    T_kj = r_k - r_j  (j > k),    T_kk = max_j T_kj
    loss_k = -ln [ exp(p_k T_kk) / (exp(p_k T_kk) + sum_j exp(p_j T_kj)) ]

`temperatures` has a list for each k but the last: T_kk, then T_kj for each later j. `sft_index` is
the completion that is also learnt by heart: the first.

Source: Song et al. (2024), Preference Ranking Optimization for Human Alignment.
"""

import polars as pl

from prefdata.errors import TableError
from prefdata.export.listwise import listwise
from prefdata.tables import Completions, Format, Prompts, Rows, Strengths

SCOPE = "all"  # whether all lists are constant is one question to all prompts


def pro(
    prompts: Prompts,
    completions: Completions,
    strengths: Strengths,
    *,
    estimator: str | None = None,
    format: Format = "conversational",
) -> Rows:
    """One row a prompt whose completions are not all of one strength, as in export.listwise.

    Of equal strengths every temperature is 0, the loss constant and nothing is learnt: such a
    prompt has no row, and if all are such it is a `TableError`. `estimator` names whose strengths
    are taken and is required when there are several; `format` is as in export.listwise.
    """
    rows = listwise(prompts, completions, strengths, estimator=estimator, format=format)
    flat = pl.col("scores").list.first() == pl.col("scores").list.last()
    kept = rows.filter(~flat)
    if rows.height and kept.is_empty():
        raise TableError(
            f"export.pro: the completions of all {rows.height} prompts are of one strength, from "
            "which this loss learns nothing"
        )
    n = pl.col("scores").list.len()
    each = (
        kept.select("prompt_id", "scores", k=pl.int_ranges(0, n - 1))
        .explode("k")
        .with_columns(own=pl.col("scores").list.get(pl.col("k")), last=pl.col("scores").list.last())
        .with_columns(later=pl.col("scores").list.slice(pl.col("k") + 1))
    )
    fall = pl.col("own") - pl.col("later")
    widest = pl.concat_list(pl.col("own") - pl.col("last"))
    temperatures = each.select("prompt_id", temperatures=widest.list.concat(fall)).group_by(
        "prompt_id", maintain_order=True
    )
    made = kept.join(temperatures.agg("temperatures"), on="prompt_id", maintain_order="left")
    made = made.rename({"scores": "rewards"}).with_columns(sft_index=pl.lit(0, pl.Int64))
    return Rows(made)
