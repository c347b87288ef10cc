"""Weights of differences of two completions, all in one model, as rows of measures."""

import polars as pl

from prefdata.measure._effects import NO_OTHERS, effects_of


def weights_of(rows: pl.DataFrame, names: dict[str, str], measure: str) -> pl.DataFrame:
    """How much each column adds to the log-odds of the label; `names` are the columns' subjects.

    Rows have `group`, `completion_a`, `completion_b`, and columns that are positive where they
    speak for the label. Errors are over groups. A column that is 0 everywhere has no weight.
    """
    votes = rows.with_columns(
        subject=pl.lit(""),
        criterion=pl.lit(""),
        preference=1.0,
        place=0.0,
        k=0.0,
        n=0.0,
        verdict=pl.lit(None, pl.Float64),
    )
    notes = pl.col("note").str.split("; ")
    note = notes.list.eval(pl.element().filter(pl.element() != NO_OTHERS)).list.join("; ")
    found = effects_of(votes, names).with_columns(
        subject="measure", measure=pl.lit(measure), note=pl.when(note != "").then(note)
    )
    return found.with_columns(
        pl.when(pl.col("n") > 0).then(pl.col("value", "stderr", "low", "high"))
    )
