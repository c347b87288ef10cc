"""Scores by their names: how to find one, and how to make some."""

from collections.abc import Mapping

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError, nearest


def named(
    scores: pl.DataFrame, score: str, *, where: str, subject: str = "pair", maker: str = ""
) -> pl.DataFrame:
    """`subject_id` and `value` of the score `name`, or `name@model`, of pairs or other subjects.

    Raises `RecipeError` for one that none of them has, though other scores are there, for a model
    that did not give it, and for one that several models gave. `maker` is the stage that gives it.
    """
    name, _, model = score.partition("@")
    about = scores.filter(pl.col("subject") == subject)
    found = about.filter(pl.col("score") == name)
    if found.is_empty() and scores.height:
        there = about["score"].unique().to_list()
        advice = f"put {maker} before it" if maker else nearest(name, there)
        raise RecipeError(f"{where}: no {subject} has a score {name!r}; {advice}")
    models = found["model"].drop_nulls().unique().sort().to_list()
    if model:
        found = found.filter(pl.col("model") == model)
        if found.is_empty() and scores.height:
            raise RecipeError(
                f"{where}: no {subject} has a score {name!r} by {model!r}; {nearest(model, models)}"
            )
    if found["subject_id"].is_duplicated().any():
        raise RecipeError(
            f"{where}: the score {name!r} is by {', '.join(models)}; say whose, as in "
            f"{name}@{models[0]}"
        )
    return found.select("subject_id", "value")


def is_of(score: str, subject: str = "pair") -> pl.Expr:
    """Whether a row of `scores` is the score `name`, or `name@model`, of a subject."""
    name, _, model = score.partition("@")
    is_it = (pl.col("subject") == subject) & (pl.col("score") == name)
    return is_it & (pl.col("model") == model) if model else is_it


def of_completions(
    scores: pl.DataFrame, score: str, *, where: str, maker: str = ""
) -> pl.DataFrame:
    """`completion_id` and `value` of a score about completions; see `named`."""
    found = named(scores, score, where=where, subject="completion", maker=maker)
    return found.rename({"subject_id": "completion_id"})


def whose(scores: pl.DataFrame, score: str, *, where: str, subject: str = "pair") -> str:
    """The one model that gave a score.

    Raises `RecipeError` where several did: their numbers are not to be mixed, even if each has its
    own rows.
    """
    about = scores.filter(pl.col("subject") == subject, pl.col("score") == score)
    models = about["model"].drop_nulls().unique().sort().to_list()
    if len(models) > 1:
        raise RecipeError(
            f"{where}: the score {score!r} is by {', '.join(models)}; say whose by model"
        )
    return str(models[0]) if models else ""


def with_score(
    rows: pl.DataFrame,
    scores: pl.DataFrame | None,
    score: str,
    *,
    where: str,
    column: str = "value",
    maker: str = "",
) -> pl.DataFrame:
    """Rows with `pair_id`, and its score as a column, null where there is none; see `named`."""
    there = tables.empty("scores") if scores is None else scores
    known = named(there, score, where=where, maker=maker)
    known = known.rename({"subject_id": "pair_id", "value": column})
    return rows.join(known, on="pair_id", how="left", maintain_order="left")


def scores_of(
    subject: str,
    rows: pl.DataFrame,
    values: Mapping[str, str | pl.Expr | pl.Series],
    *,
    model: str | None,
    request_id: str | None = None,
) -> pl.DataFrame:
    """Rows of `scores` by a model, or by none, about what `<subject>_id` of `rows` names.

    `values` are its scores' names with the columns that hold them, null where there is none, and
    `request_id` is the column with the request that they came from.
    """
    asked = pl.lit(None, pl.String) if request_id is None else pl.col(request_id)
    return pl.concat(
        rows.select(
            subject_id=f"{subject}_id",
            subject=pl.lit(subject),
            score=pl.lit(name),
            model=pl.lit(model, pl.String),
            value=value,
            request_id=asked,
        ).drop_nulls("value")
        for name, value in values.items()
    )
