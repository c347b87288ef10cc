"""Whose rows are meant: those of one annotator by name, or of a kind as `human:*`; `*` is all."""

import polars as pl

from prefdata.errors import RecipeError, nearest


def is_by(annotators: str) -> pl.Expr:
    """Whether a row's `annotator` is meant."""
    name = pl.col("annotator")
    if annotators.endswith("*"):
        return name.str.starts_with(annotators[:-1])
    return name == annotators


def votes_by(votes: pl.DataFrame, annotators: str, where: str) -> pl.DataFrame:
    """Their votes. Raises `RecipeError`, naming the stage `where`, if only others voted."""
    own = votes.filter(is_by(annotators))
    if votes.height and own.is_empty():
        known = votes["annotator"].unique()
        raise RecipeError(f"{where}: no votes of {annotators!r}; {nearest(annotators, known)}")
    return own
