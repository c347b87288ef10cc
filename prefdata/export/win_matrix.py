"""Prompts with all their completions and P(i preferred to j) for every two of them.

`win_matrix` has a list for each completion, `win_rates` the mean of each of these lists: with
itself at 1/2 for an opponent, so that they sum to half the number of completions. Where votes go in
circles the matrix says so, which no list of scores can.

Source: Wu et al. (2024), Self-Play Preference Optimization for Language Model Alignment; Rosset et
al. (2024), Direct Nash Optimization: Teaching Language Models to Self-Improve with General
Preferences.
"""

import polars as pl

from prefdata.estimate._named import named
from prefdata.tables import Completions, Format, Prompts, Rows, Scores, check, pair_ids, plain

SCOPE = "all"  # one shard's pairs may lack what another's have


def win_matrix(
    prompts: Prompts,
    completions: Completions,
    scores: Scores,
    *,
    model: str | None = None,
    format: Format = "conversational",
) -> Rows:
    """One row a prompt for every two of whose completions there is a score `preference`.

    A prompt of which some two were not compared has no row: a gap is no 1/2. `model` names whose
    preferences are taken (an estimator's, as "win_rate") and is required when several have some.
    Completions stand by id. `format` is as in export.listwise.

    Raises `RecipeError` where no pair has such a score, and for several models without a choice.
    """
    ids = completions.select("completion_id", "prompt_id", "completion").sort(
        "prompt_id", "completion_id"
    )
    wanted = "preference" if model is None else f"preference@{model}"
    said = named(scores, wanted, where="export.win_matrix").rename({"subject_id": "pair_id"})
    own = ids.drop("completion")
    both = own.join(own, on="prompt_id").sort("prompt_id", "completion_id", "completion_id_right")
    apart = both.filter(pl.col("completion_id") < pl.col("completion_id_right"))
    apart = apart.with_columns(pair_ids(apart["completion_id"], apart["completion_id_right"]))
    known = apart.join(said, on="pair_id").select("completion_id", "completion_id_right", "value")
    turned = known.select(
        completion_id="completion_id_right",
        completion_id_right="completion_id",
        value=1 - pl.col("value"),
    )
    itself = pl.col("completion_id") == pl.col("completion_id_right")
    whole = both.join(
        pl.concat([known, turned]), on=["completion_id", "completion_id_right"], how="left",
        maintain_order="left",
    ).with_columns(pl.when(itself).then(0.5).otherwise("value").alias("value"))  # fmt: skip
    full = pl.col("value").is_not_null().all().over("prompt_id") & (pl.len().over("prompt_id") > 1)
    lists = (
        whole.filter(full).group_by("prompt_id", "completion_id", maintain_order=True).agg("value")
    )
    made = (
        lists.join(ids.drop("prompt_id"), on="completion_id", maintain_order="left")
        .group_by("prompt_id", maintain_order=True)
        .agg(
            completions="completion",
            win_matrix="value",
            win_rates=pl.col("value").list.mean(),
            completion_ids="completion_id",
        )
    )
    rows = made.join(prompts.select("prompt_id", "prompt"), on="prompt_id", how="left")
    rows = check("win_matrix", rows, where="export.win_matrix")
    if format == "standard":
        rows = plain(rows, "prompt", "completions", where="export.win_matrix")
    return Rows(rows)
