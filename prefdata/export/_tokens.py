"""The tokens of completions, by one model."""

import polars as pl

from prefdata.errors import RecipeError
from prefdata.tables import Likelihoods


def by_one_model(likelihoods: Likelihoods, model: str | None, *, where: str) -> Likelihoods:
    """The likelihoods by `model`; None takes the only one there is.

    Raises `RecipeError` for several without a choice, and for one that is not there.
    """
    there = sorted(likelihoods["model"].unique().to_list())
    if (len(there) > 1 and model is None) or (there and model not in (None, *there)):
        raise RecipeError(
            f"{where}: likelihoods are by {', '.join(there)}; say whose with model, which is "
            f"{model!r}"
        )
    return Likelihoods(likelihoods.filter(pl.col("model") == (model or pl.col("model"))))
