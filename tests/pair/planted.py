"""Planted strengths, pairs and scores about them."""

from collections.abc import Callable

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.tables import Pairs, Scores, Strengths

World = Callable[..., dict[str, pl.DataFrame]]


def score(pairs: pl.DataFrame, name: str, values: list[float], model: str | None = None) -> Scores:
    frame = pl.DataFrame({"subject_id": pairs["pair_id"], "value": values}).with_columns(
        subject=pl.lit("pair"), score=pl.lit(name), model=pl.lit(model, pl.String)
    )
    return tables.typed(Scores, frame)


def both(*frames: Scores) -> Scores:
    return tables.typed(Scores, pl.concat(frames))


def value_of(scores: pl.DataFrame, name: str) -> pl.DataFrame:
    return scores.filter(pl.col("score") == name).sort("subject_id")


def some(world: World, n: int = 6) -> Pairs:
    return Pairs(world()["pairs"].head(n))


def strengths_of(rows, estimator="bradley_terry"):
    frame = pl.DataFrame(rows, schema=["prompt_id", "completion_id", "strength"], orient="row")
    return tables.typed(Strengths, frame.with_columns(pl.lit(estimator).alias("estimator")))


def score_of(a, b, value, model="bradley_terry"):
    row = {
        "subject_id": tables.pair_ids([a], [b]),
        "subject": ["pair"],
        "score": ["preference"],
        "model": [model],
        "value": [value],
    }
    return tables.typed(Scores, pl.DataFrame(row))


def random_strengths(seed, n_prompts=50):
    draw = np.random.default_rng(seed)
    rows = [
        (f"p{p:02}", f"p{p:02}c{c}", float(draw.integers(0, 4)))
        for p in range(n_prompts)
        for c in range(draw.integers(1, 6))
    ]
    return strengths_of(rows)
