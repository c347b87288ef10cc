"""Weighted conversations in tokens: OpenChat's pre-tokenised layout.

For each sequence, with labels and weights shifted by one to stand where they are predicted:
`total_length`, `num_seqs` (the sum of its weights), `seqlens`, `nz_input_ids`, `nz_position_ids`,
`nz_shifted_label_ids` (0 where the weight is 0) and `nz_shifted_loss_weights`. The prompt's tokens
weigh 0, the completion's, its end among them, what its class does. Tokens at the end that nothing
is learnt from are cut off.

Source: Wang et al. (2024), OpenChat: Advancing Open-source Language Models with Mixed-Quality Data;
the layout is that of its released trainer.
"""

from collections.abc import Mapping

import polars as pl

from prefdata.errors import RecipeError
from prefdata.export._generators import by_generator
from prefdata.export._tokens import by_one_model
from prefdata.tables import Likelihoods, Rows, Samples

SCOPE = "all"  # whether several models are there is one question to all prompts
SAVED_AS = "parquet"


def packed(
    likelihoods: Likelihoods,
    samples: Samples | None = None,
    *,
    weights: Mapping[str, float] | None = None,
    model: str | None = None,
    by_sequence: bool = False,
    max_tokens: int = 8192,
) -> Rows:
    """One row a completion that has `likelihoods` (estimate.token_log_probs), by `completion_id`.

    `weights` are {generator = weight}, at least 0, for all that a generator wrote (the greatest of
    several); without them all weigh 1. `by_sequence` divides a completion's weight by its number of
    tokens, so that each completion weighs the same. `model` names whose tokens are taken and is
    required when there are several. What is longer than `max_tokens` is cut.

    Raises `RecipeError` for several models without a choice, one that is not there, options out of
    range and a generator without a sample.
    """
    where = "export.packed"
    own = by_one_model(likelihoods, model, where=where)
    if max_tokens < 2 or any(not 0 <= each < float("inf") for each in (weights or {}).values()):
        raise RecipeError(f"{where}: max_tokens is at least 2, a weight at least 0")
    rows = own.select("completion_id", "prompt_id", "prompt_token_ids", "token_ids")
    rows = _weighed(rows, samples, weights, where).sort("completion_id")
    n_prompt, n_own = (pl.col(name).list.len() for name in ("prompt_token_ids", "token_ids"))
    each = pl.col("weight") / n_own if by_sequence else pl.col("weight")
    rows = rows.with_columns(
        tokens=pl.col("prompt_token_ids").list.concat("token_ids"), n_prompt=n_prompt, each=each
    ).with_columns(pl.col("tokens").list.head(max_tokens))
    flat = (
        rows.select("completion_id", "prompt_id", "tokens", "n_prompt", "each")
        .explode("tokens")
        .with_columns(at=pl.int_range(pl.len()).over("completion_id"))
        .with_columns(weight=pl.when(pl.col("at") < pl.col("n_prompt")).then(0.0).otherwise("each"))
        .with_columns(
            label=pl.col("tokens").shift(-1).over("completion_id"),
            ahead=pl.col("weight").shift(-1).over("completion_id").fill_null(0.0),
        )
    )
    learnt = pl.when(pl.col("ahead") > 0).then("at").max().over("completion_id")
    flat = flat.filter(pl.col("at") <= learnt)
    label = pl.when(pl.col("ahead") > 0).then("label").otherwise(0)
    made = flat.group_by("completion_id", "prompt_id", maintain_order=True).agg(
        total_length=pl.len().cast(pl.Int64),
        num_seqs=pl.col("ahead").sum(),
        nz_input_ids="tokens",
        nz_position_ids=pl.col("at"),
        nz_shifted_label_ids=label.cast(pl.Int64),
        nz_shifted_loss_weights="ahead",
    )
    return Rows(made.with_columns(seqlens=pl.concat_list("total_length")))


def _weighed(
    rows: pl.DataFrame, samples: Samples | None, weights: Mapping[str, float] | None, where: str
) -> pl.DataFrame:
    if not weights:
        return rows.with_columns(weight=pl.lit(1.0))
    said = by_generator(samples, weights, pl.Float64, option="weights", where=where)
    of = said.group_by("completion_id").agg(weight=pl.col("said").max())
    return rows.join(of, on="completion_id")
