"""The margin that a reward model's loss should ask of each pair, by the strength of its label."""

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._about_labels import READINGS, read
from prefdata.tables import Pairs, Scores

SCOPE = "all"  # a name is wrong only if no pair has it


def adaptive_margin(
    pairs: Pairs, scores: Scores, *, score: str = "ensemble_margin", scale: float = 1.0
) -> Scores:
    """Add the score `adaptive_margin`, `scale` times a signed margin of each pair.

    The loss is -log sigmoid(r_chosen - r_rejected - margin). The sign is kept: a pair whose label
    the ensemble doubts gets a negative margin and asks for less than nothing; turn it round first
    (pair.flip turns the margin with it) where that is not wanted. Export it with
    `columns = ["adaptive_margin"]`.

    Options:
    - `score`: the margin, a score that is a difference: `ensemble_margin`, `implicit_reward`.
    - `scale`: units of the trained reward for one unit of the score; above 0.

    Raises `RecipeError` for a score that is no difference or not there.

    Source: Wang et al. (2024), Secrets of RLHF in Large Language Models Part II.
    """
    where = "order.adaptive_margin"
    if scale <= 0:
        raise RecipeError(f"{where}: scale = {scale}; it is above 0")
    own = scores.filter(pl.col("subject_id").is_in(pairs["pair_id"].implode()))
    known = read(own, score, where=where)
    if READINGS[score.partition("@")[0]] != "signed":
        raise RecipeError(f"{where}: {score!r} is a probability; a margin is a difference")
    made = known.select(
        subject_id="pair_id",
        subject=pl.lit("pair"),
        score=pl.lit("adaptive_margin"),
        model=pl.lit(None, pl.String),
        value=scale * pl.col("value"),
        stderr=pl.lit(None, pl.Float64),
        request_id=pl.lit(None, pl.String),
    )
    columns = tables.schema("scores").columns
    kept = scores.join(made, on=["subject_id", "subject", "score"], how="anti")
    return Scores(pl.concat([kept.select(*columns), made.select(*columns)]))
