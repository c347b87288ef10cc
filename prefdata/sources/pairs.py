"""Imported labels as pairs, for a recipe in which no stage makes pairs of them."""

import polars as pl

from prefdata.tables import Dropped, Pairs, Votes, check, pair_ids, schema

WHERE = "the pairs of the sources"
KEY = ["completion_a", "completion_b", "annotator"]


def as_pairs(votes: Votes) -> tuple[Pairs, Dropped]:
    """One pair for each annotator and each two completions: the one that they prefer is chosen.

    `soft_label` is the share of the annotator's preference that the chosen one has (1 for a single
    label), `n_votes` how often they voted; `margin` is null, for nothing was estimated. Of a tie no
    pair is made; it is dropped.
    """
    scored = votes.filter(pl.col("preference").is_not_null())
    every = scored.group_by(KEY).agg(
        pl.col("prompt_id").first(), pl.col("preference").mean(), n_votes=pl.len().cast(pl.Int64)
    )
    every = every.with_columns(pl.col("preference").round(12)).sort(KEY)
    is_tie = pl.col("preference") == 0.5
    ties = every.filter(is_tie).select(
        table=pl.lit("pairs"),
        key=pl.concat_str(*KEY, separator=" "),
        stage=pl.lit("sources.pairs"),
        reason=pl.lit("a tie: its annotator prefers neither of the two"),
    )
    means = every.filter(~is_tie)
    a_wins = pl.col("preference") > 0.5
    pairs = means.select(
        "prompt_id",
        "annotator",
        "n_votes",
        pl.when(a_wins).then("completion_a").otherwise("completion_b").alias("chosen_id"),
        pl.when(a_wins).then("completion_b").otherwise("completion_a").alias("rejected_id"),
        pl.max_horizontal("preference", 1 - pl.col("preference")).alias("soft_label"),
    )
    named = [
        group.with_columns(pair_ids(group["chosen_id"], group["rejected_id"], annotator))
        for (annotator,), group in pairs.group_by("annotator")
        if isinstance(annotator, str)
    ]
    empty = pl.DataFrame(schema={**pairs.schema, "pair_id": pl.String})
    rows = pl.concat([empty, *named]).with_columns(pl.lit(None, pl.Float64).alias("margin"))
    known = [name for name in schema("pairs").columns if name in rows.columns]
    return (
        Pairs(check("pairs", rows.select(known), where=WHERE)),
        Dropped(check("dropped", ties, where=WHERE)),
    )
