"""Where people's votes meet the label that a row would have without them."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.aggregate._annotators import is_by, votes_by
from prefdata.route._signals import by_models, code
from prefdata.tables import SIDES, Votes

Floats = NDArray[np.floating[Any]]


def verdicts(votes: pl.DataFrame, name: str) -> pl.DataFrame:
    """The code of the mean preference of all votes on a row, as a column of that name."""
    known = votes.filter(pl.col("preference").is_not_null()).sort(*SIDES, "preference")
    mean = pl.col("preference").mean()
    return known.group_by(SIDES, maintain_order=True).agg(code(mean).alias(name))


def compared(votes: Votes, annotator: str, label: str | None, where: str) -> pl.DataFrame:
    """Rows with the codes `label`, of the models or the one that is named, and `person`, if any.

    Raises `RecipeError` for a label of an annotator without votes.
    """
    models = by_models(votes, annotator)
    own = models if label is None else votes_by(votes, label, where)
    kind = annotator.partition(":")[0]
    people = verdicts(votes.filter(is_by(f"{kind}:*")), "person")
    return verdicts(own, "label").join(people, on=SIDES, how="left").sort(SIDES)
