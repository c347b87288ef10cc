"""The mean rating of each completion, every person's ratings on a scale of its own.

One person's 6 of 10 is another's 9. The ratings of a person u on a criterion are brought to one
scale before they are averaged:

- "z":     (r - mean_u) / spread_u, the spread the standard deviation of its ratings; 0 where all
           its ratings are equal, which say nothing.
- "rank":  the share of its ratings that are lower, ties by half, less a half: in (-1/2, 1/2). Only
           the order counts, however the person stretches its scale.
- "offset": r - mean_u, for people who differ in where they begin but not in how far they reach.

A person is compared with itself only, so its mean is 0 whatever it saw. Where people rated
completions of different quality, not drawn by chance, some of that quality is lost with it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from prefdata.aggregate._averages import averaged
from prefdata.aggregate._criteria import weigh
from prefdata.errors import RecipeError
from prefdata.tables import Ratings, Scores, Strengths

SCOPE = "all"  # a person's scale shows in all that it rated

Scale = Literal["z", "rank", "offset"]
SCALES = ("z", "rank", "offset")
# Ratings in [0, 1] that are equal but for their last bits have no spread.
NO_SPREAD = 1e-9


def within_user(
    ratings: Ratings,
    *,
    scale: Scale = "z",
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    estimator: str = "within_user",
) -> tuple[Strengths, Scores]:
    """Average ratings over draws, then people on their own scales, then criteria by weight.

    Each person counts once for a completion. `strength` is in spreads of a person ("z"), in shares
    of its ratings ("rank") or in ratings ("offset"); 0 is what the mean person rates on average.
    `stderr` is the standard error of the mean over people, with a person's criteria taken
    together; null for a single person.

    Scores of annotators, one for each criterion under the model "criterion:<name>": `rating_mean`
    and `rating_spread` (the standard deviation), in [0, 1], what a person's scale is. A spread of 0
    is a person who tells nothing apart.

    Options:
    - `scale`: how ratings of one person are brought to the common scale: z, rank or offset.
    - `criteria`: the criteria that count; default all.
    - `weights`: the weight of a criterion; default 1 each.
    - `estimator`: the result's name in `strengths.estimator`; two results of one recipe need two.

    Raises `RecipeError` for an unknown scale, a criterion without ratings and a weight that is not
    above 0.

    Source: Kirk et al. (2024), The PRISM Alignment Dataset, for z-scores by participant.
    """
    if scale not in SCALES:
        raise RecipeError(f"aggregate.within_user: scale = {scale!r}; one of {', '.join(SCALES)}")
    cells = _cells(weigh(ratings, criteria, weights).drop_nulls("rating"))
    scaled = cells.with_columns(rating=_scaled(scale))
    return averaged(scaled, "annotator", estimator), _scores(cells)


def _cells(scored: pl.DataFrame) -> pl.DataFrame:
    """The mean rating of each completion by each person on each criterion, with that person's
    `mean` and `spread` on the criterion, sorted."""
    key = ["completion_id", "prompt_id", "criterion", "annotator", "weight"]
    person = ["annotator", "criterion"]
    cells = (
        scored.sort(*key, "rating").group_by(key, maintain_order=True).agg(pl.col("rating").mean())
    )
    spread = pl.col("rating").std(ddof=0).over(person)
    return cells.with_columns(
        mean=pl.col("rating").mean().over(person),
        spread=pl.when(spread > NO_SPREAD).then(spread).otherwise(0.0),
    )


def _scaled(scale: Scale) -> pl.Expr:
    rating, away = pl.col("rating"), pl.col("rating") - pl.col("mean")
    match scale:
        case "offset":
            return away
        case "z":
            return pl.when(pl.col("spread") > 0).then(away / pl.col("spread")).otherwise(0.0)
        case "rank":
            person = ["annotator", "criterion"]
            return (rating.rank("average").over(person) - 0.5) / pl.len().over(person) - 0.5


def _scores(cells: pl.DataFrame) -> Scores:
    people = cells.unique(["annotator", "criterion"], keep="first", maintain_order=True)
    made = [
        people.select(
            subject_id="annotator",
            subject=pl.lit("annotator"),
            score=pl.lit(name),
            model=pl.concat_str(pl.lit("criterion:"), "criterion"),
            value=pl.col(column),
            stderr=pl.lit(None, pl.Float64),
            request_id=pl.lit(None, pl.String),
        )
        for name, column in (("rating_mean", "mean"), ("rating_spread", "spread"))
    ]
    return Scores(pl.concat(made).sort("score", "subject_id", "model"))
