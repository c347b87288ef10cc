"""What is held of each row: P(a better), P(equally good) and P(b better)."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._named import with_score
from prefdata.tables import Scores

Floats = NDArray[np.floating[Any]]

# The columns of a posterior, and the code of a verdict that each is for.
A, TIE, B = 0, 1, 2
CODES = (1, 0, -1)


def preference(rows: pl.DataFrame, scores: Scores | None, score: str | None, where: str) -> Floats:
    """P(a preferred) by the score of that name; None takes the only `preference`, else the votes'.

    Rows have their `vote_share`, which also stands where the score is missing; without any vote it
    is 1/2. Raises `RecipeError` for a score that no pair has, or that several models gave.
    """
    known = _scored(rows, scores, score or "preference", where, needed=score is not None)
    if known is None:
        return rows["vote_share"].fill_null(0.5).to_numpy()
    value = known.fill_null(rows["vote_share"]).fill_null(0.5).to_numpy()
    if ((value < 0) | (value > 1)).any():
        raise RecipeError(f"{where}: the score {score!r} is no probability: some are not in [0, 1]")
    return value


def posterior(rows: pl.DataFrame, scores: Scores | None, score: str | None, where: str) -> Floats:
    """(rows, 3): P of a, tie and b. Ties are possible where the same model scored `tie` too."""
    p = preference(rows, scores, score, where)
    model = (score or "").partition("@")[2]
    known = _scored(rows, scores, f"tie@{model}" if model else "tie", where, needed=False)
    tie = np.zeros(len(p)) if known is None else known.fill_null(0.0).to_numpy()
    made = np.stack([p - tie / 2, tie, 1 - p - tie / 2], 1)
    return np.clip(made, 0.0, 1.0)


def _scored(
    rows: pl.DataFrame, scores: Scores | None, score: str, where: str, *, needed: bool
) -> pl.Series | None:
    """The score of each row; None where no pair has it and it is not `needed`."""
    there = tables.empty("scores") if scores is None else pl.DataFrame(scores)
    name = score.partition("@")[0]
    about = there.filter((pl.col("subject") == "pair") & (pl.col("score") == name))
    if about.is_empty() and not (needed and there.height):
        return None
    return with_score(rows, there, score, where=where)["value"]
