"""Finding a score about pairs, or about completions, by its name."""

from typing import Literal

import polars as pl

from prefdata.errors import RecipeError, nearest


def named(
    scores: pl.DataFrame,
    score: str,
    *,
    where: str,
    subject: Literal["pair", "completion"] = "pair",
) -> pl.DataFrame:
    """The `subject_id` and `value` of the score `name`, or `name@model`.

    Raises `RecipeError` for one that no subject has, though others are there, or that several
    models gave.
    """
    name, _, model = score.partition("@")
    about = scores.filter((pl.col("subject") == subject) & (pl.col("score") == name))
    if about.is_empty() and scores.height:
        there = scores["score"].unique().to_list()
        raise RecipeError(f"{where}: no {subject} has a score {name!r}; {nearest(name, there)}")
    if model:
        about = about.filter(pl.col("model") == model)
    if about["subject_id"].is_duplicated().any():
        models = ", ".join(sorted(str(each) for each in about["model"].unique()))
        raise RecipeError(
            f"{where}: the score {name!r} is by {models}; say which, as in {name}@<model>"
        )
    return about.select("subject_id", "value")
