"""Log-probabilities of a generator's own samples under two models, and means without bounds."""

import polars as pl

from prefdata.estimate._named import of_completions
from prefdata.generate._generators import refuse_unknown
from prefdata.measure._means import COLUMNS, ONE_GROUP, student, with_groups
from prefdata.tables import Prompts, Samples, Scores


def by_model(scores: Scores, score: str, model: str, *, where: str) -> pl.DataFrame:
    """`completion_id, value` of a score of estimate.log_likelihood by one model."""
    maker = "estimate.log_likelihood, once for each model,"
    return of_completions(scores, f"{score}@{model}", where=where, maker=maker)


def draws(samples: Samples, prompts: Prompts | None, generator: str, *, where: str) -> pl.DataFrame:
    """`completion_id, prompt_id, group, subject`: a row for each draw of a generator."""
    refuse_unknown([generator], samples, where=where)
    own = samples.filter(pl.col("generator") == generator).sort("completion_id", "draw")
    drawn = own.select("completion_id", "prompt_id", subject="generator")
    return with_groups(drawn, prompts)


def log_ratios(drawn: pl.DataFrame, one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """The draws that both models know, with `log_ratio`, nats: value of one less of the other."""
    both = one.join(other, on="completion_id", suffix="_other")
    rows = drawn.join(both, on="completion_id", maintain_order="left")
    return rows.with_columns(log_ratio=pl.col("value") - pl.col("value_other")).drop(
        "value", "value_other"
    )


def averages(frame: pl.DataFrame, column: str, measure: str) -> pl.DataFrame:
    """Rows of `measures`: the mean of a column for each `subject`, with Student's interval.

    Rows of one `group` are not independent; the error is that of a ratio of sums over groups.
    """
    by_group = (
        frame.drop_nulls(column)
        .group_by("subject", "group")
        .agg(s=pl.col(column).sort().sum(), m=pl.len().cast(pl.Float64))
        .sort("subject", "group")
    )
    mean, groups = pl.col("s").sum() / pl.col("m").sum(), pl.len().cast(pl.Float64)
    away = (pl.col("s") - mean * pl.col("m")).pow(2).sum() / pl.col("m").sum() ** 2
    found = by_group.group_by("subject", maintain_order=True).agg(
        value=mean,
        stderr=pl.when(groups > 1).then(away * groups / (groups - 1)).sqrt(),
        groups=groups,
        n=pl.col("m").sum().cast(pl.Int64),
    )
    half = student(found["groups"]) * found["stderr"]
    made = found.with_columns(
        measure=pl.lit(measure),
        low=pl.col("value") - half,
        high=pl.col("value") + half,
        note=pl.when(pl.col("groups") == 1).then(pl.lit(ONE_GROUP)),
    )
    return made.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())


def number(
    measure: str, subject: str, value: float | None, n: int, note: str | None = None
) -> pl.DataFrame:
    """One row of `measures` without an interval."""
    row = {"measure": measure, "subject": subject, "value": value, "note": note, "n": n}
    return pl.DataFrame([{**dict.fromkeys(COLUMNS), **row}], schema=COLUMNS)
