"""The mean rating of each completion."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.aggregate._averages import averaged
from prefdata.aggregate._criteria import weigh
from prefdata.tables import Ratings, Strengths

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def mean_rating(
    ratings: Ratings,
    *,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    estimator: str = "mean_rating",
) -> Strengths:
    """Average ratings over draws, then annotators, then criteria.

        strength = sum_c w_c m_c / sum_c w_c,    m_c = mean over annotators of their mean rating

    over the criteria c that the completion has a rating on. An unscored rating is no rating: it
    adds neither to the sum nor to the weights, and a completion with none has no strength. An
    annotator who rated a completion five times counts once.

    `strength` is in [0, 1], 1 the best of the scale; margins are differences of ratings. `stderr`
    is the standard error of the mean over annotators, with criteria rated by one annotator taken
    together because their errors go together; for a completion with a single annotator it is over
    the draws, and null for a single draw.

    Options:
    - `criteria`: the criteria that count; default all.
    - `weights`: the weight w_c of a criterion; default 1 each.
    - `estimator`: the result's name in `strengths.estimator`; two results of one recipe need two.

    Raises `RecipeError` for a criterion without ratings and for a weight that is not above 0.

    Source: the mean of a Likert scale, Likert (1932); the error of a ratio by its linear part.
    """
    cells = _cells(weigh(ratings, criteria, weights).drop_nulls("rating"))
    made = averaged(cells, "unit", estimator)
    return Strengths(made.with_columns(pl.col("strength").clip(0, 1)))


def _cells(scored: pl.DataFrame) -> pl.DataFrame:
    """The mean rating of each completion by each unit on each criterion, sorted.

    The unit is the annotator, or the draw where a completion has a single annotator.
    """
    single = pl.col("annotator").n_unique().over("completion_id") == 1
    unit = pl.when(single).then(pl.col("draw").cast(pl.String)).otherwise("annotator")
    key = ["completion_id", "prompt_id", "criterion", "unit", "weight"]
    return (
        scored.with_columns(unit=unit)
        .sort(*key, "rating")
        .group_by(key, maintain_order=True)
        .agg(pl.col("rating").mean())
    )
