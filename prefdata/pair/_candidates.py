"""From strengths to pairs: who can be paired, and what a pair says."""

import polars as pl

from prefdata.tables import SIDES, Dropped, Pairs, Scores, Strengths, Votes, one_estimator, pair_ids

# Strengths as close as this are equal: estimates of equal strengths differ in their last bits.
TIE = 1e-9


def ranked(strengths: Strengths, estimator: str | None, *, stage: str) -> pl.DataFrame:
    """The completions of each prompt, strongest first, as `prompt_id, completion_id, strength`.

    `tier` counts the distinct strengths of a prompt from 0, the best; within a tier the order is
    that of the ids, whatever the order of the rows.
    """
    same_prompt = pl.col("prompt_id") == pl.col("prompt_id").shift(1)
    apart = pl.col("strength").shift(1) - pl.col("strength") > TIE
    return (
        one_estimator(strengths, estimator, where=stage)
        .sort("prompt_id", "strength", "completion_id", descending=[False, True, False])
        .with_columns(tier=(same_prompt & apart).fill_null(False).cast(pl.Int64))
        .with_columns(pl.col("tier").cum_sum().over("prompt_id"))
        .sort("prompt_id", "tier", "completion_id")
    )


def label(
    candidates: pl.DataFrame,
    votes: Votes | None,
    scores: Scores | None,
    *,
    stage: str,
) -> tuple[Pairs, Dropped]:
    """Pairs from candidates, and the candidates that cannot be a pair, with the reason.

    A candidate has `prompt_id, estimator` and both sides' `completion_id, strength, tier`, those
    of the second with the suffix `_right`; the first side is not the weaker one.
    """
    made = _with_evidence(candidates, votes, scores)
    tied = pl.col("tier") == pl.col("tier_right")
    against = pl.col("preference") < 0.5 - TIE
    why = (
        pl.when(tied)
        .then(pl.lit("tie"))
        .when(against)
        .then(pl.lit("preference contradicts strengths"))
    )
    made = made.with_columns(reason=why)
    expected = 1 / (1 + (-pl.col("margin")).exp())
    pairs = made.filter(pl.col("reason").is_null()).select(
        "pair_id",
        "prompt_id",
        pl.col("completion_id").alias("chosen_id"),
        pl.col("completion_id_right").alias("rejected_id"),
        pl.lit(None, pl.String).alias("annotator"),
        "margin",
        pl.coalesce("preference", expected).clip(0.5, 1).alias("soft_label"),
        pl.col("n_votes").fill_null(0).cast(pl.Int64),
        pl.lit(None, pl.Float64).alias("weight"),
        pl.lit(None, pl.String).alias("split"),
    )
    dropped = made.filter(pl.col("reason").is_not_null()).select(
        pl.lit("pairs").alias("table"),
        pl.col("pair_id").alias("key"),
        pl.lit(stage).alias("stage"),
        "reason",
    )
    return Pairs(pairs), Dropped(dropped)


def _with_evidence(
    candidates: pl.DataFrame, votes: Votes | None, scores: Scores | None
) -> pl.DataFrame:
    """Candidates with `pair_id`, `margin`, `n_votes` and P(first preferred) as `preference`."""
    first, second = pl.col("completion_id"), pl.col("completion_id_right")
    made = candidates.with_columns(
        pair_ids(candidates["completion_id"], candidates["completion_id_right"]),
        margin=pl.col("strength") - pl.col("strength_right"),
        completion_a=pl.min_horizontal(first, second),
        completion_b=pl.max_horizontal(first, second),
    )
    if votes is None:
        made = made.with_columns(n_votes=pl.lit(0))
    else:
        scored = votes.filter(pl.col("preference").is_not_null())
        counted = scored.group_by(SIDES).agg(n_votes=pl.len())
        made = made.join(counted, on=SIDES, how="left", maintain_order="left")
    if scores is None:
        return made.with_columns(preference=pl.lit(None, pl.Float64))
    # The estimator's own score goes before one that names no model.
    ours = pl.col("model").is_in(candidates["estimator"].unique().implode())
    known = (
        scores.filter((pl.col("subject") == "pair") & (pl.col("score") == "preference"))
        .filter(ours | pl.col("model").is_null())
        .sort("subject_id", "model", nulls_last=True)
        .unique("subject_id", keep="first", maintain_order=True)
        .select(pl.col("subject_id").alias("pair_id"), "value")
    )
    made = made.join(known, on="pair_id", how="left", maintain_order="left")
    of_first = pl.when(first < second).then("value").otherwise(1 - pl.col("value"))
    return made.with_columns(preference=of_first)
