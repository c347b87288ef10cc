"""Weights that make undesirable completions come as if from the prompts of the desirable ones.

Thumbs up and down are given on different prompts. With p(x) the chance that a prompt like x has a
thumbs-up, fitted on embeddings of prompts with both classes weighing the same,

    w(x) = p(x) / (1 - p(x)),    held within [0.5, 10],

is the density of prompts with thumbs up over that of those with thumbs down; it weighs the
undesirable completions only. Where both come from the same prompts, as from pairs, w is about 1.

Source: Jung et al. (2024), Binary Classifier Optimization for Large Language Model Alignment.
"""

from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize  # pyright: ignore[reportUnknownVariableType]
from scipy.special import expit

from prefdata.errors import RecipeError
from prefdata.export.binary import By, binary
from prefdata.order._scored import scored
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Pairs, Prompts, Ratings, Scores, digest

Floats = NDArray[np.floating[Any]]

SCOPE = "all"  # the classifier is fitted to all prompts


def fit_logistic(x: Floats, up: Floats, *, ridge: float = 1.0) -> Floats:
    """Weights and intercept of p(up | x), both classes weighing the same, the intercept unbound."""
    own = np.hstack([x, np.ones((len(x), 1))])
    n_up = up.sum()
    weight = np.where(up > 0, len(up) / (2 * n_up), len(up) / (2 * (len(up) - n_up)))

    def loss(theta: Floats) -> tuple[float, Floats]:
        z = own @ theta
        value = weight @ (np.logaddexp(0, z) - up * z) + ridge / 2 * theta[:-1] @ theta[:-1]
        slope = own.T @ (weight * (expit(z) - up))
        slope[:-1] += ridge * theta[:-1]
        return float(value), slope

    start = np.zeros(own.shape[1])
    return cast(Any, minimize)(loss, start, jac=True, method="L-BFGS-B").x


def out_of_fold(x: Floats, up: Floats, fold: NDArray[np.int64], *, ridge: float) -> Floats:
    """P(up) of each row by a fit that has not seen its fold; 1/2 where a fit lacks a class."""
    found = np.full(len(up), 0.5)
    for each in np.unique(fold):
        rest = fold != each
        if 0 < up[rest].sum() < rest.sum():
            theta = fit_logistic(x[rest], up[rest], ridge=ridge)
            found[~rest] = expit(x[~rest] @ theta[:-1] + theta[-1])
    return found


def matching_weights(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    ratings: Ratings | None = None,
    scores: Scores | None = None,
    *,
    model: Model,
    by: By = "ratings",
    folds: int = 5,
    ridge: float = 1.0,
    bounds: tuple[float, float] = (0.5, 10.0),
    seed: int = 0,
) -> Asks[Scores]:
    """Add, for every completion with a label, `p_desirable`, `density_ratio`, `matching_weight`.

    The first two are of its prompt, before bounds; the weight is 1 for a desirable completion.
    export.binary takes it with `weights = "matching_weight"`. Probabilities are of a classifier
    that did not see the prompt. Completions of prompts whose embedding failed have no scores.

    Options:
    - `model`: embeds the prompts.
    - `by`: what labels are made of, as in export.binary: "ratings" (above or below 1/2) or "pairs".
    - `folds`: parts of the prompts, each scored by a fit to the others; at least 2.
    - `ridge`: the pull of the classifier's weights to 0; above 0.
    - `bounds`: the least and the greatest weight.
    - `seed`: what the folds come from.

    Raises `RecipeError` for options out of range.
    """
    where = "order.matching_weights"
    low, high = bounds
    if by == "strengths" or folds < 2 or ridge <= 0 or not 0 < low <= high:
        raise RecipeError(
            f"{where}: by = {by!r}, folds = {folds}, ridge = {ridge}, bounds = {list(bounds)}; "
            'by is "pairs" or "ratings", folds at least 2, the others above 0'
        )
    labels = binary(prompts, completions, pairs, None, ratings, by=by)
    asked = labels.select("prompt_id", "prompt").unique("prompt_id").sort("prompt_id")
    wanted = requests(model, "embedding", asked["prompt"])
    heard = yield wanted
    known = (
        asked.select("prompt_id")
        .with_columns(wanted["request_id"])
        .join(heard, on="request_id", how="left", maintain_order="left")
        .filter(pl.col("vector").is_not_null())
    )
    part = [int(digest(where, seed, each), 16) % folds for each in known["prompt_id"]]
    known = known.select("prompt_id", "vector", pl.Series("fold", part, pl.Int64))
    rows = labels.select("completion_id", "prompt_id", "label").join(known, on="prompt_id")
    rows = rows.sort("completion_id")
    x = np.array(rows["vector"].to_list(), dtype=np.float64).reshape(
        rows.height, -1 if rows.height else 1
    )
    up = rows["label"].cast(pl.Float64).to_numpy()
    p = out_of_fold(x, up, rows["fold"].to_numpy(), ridge=ridge)
    ratio = p / (1 - p + 1e-8)
    made = rows.select("completion_id").with_columns(
        pl.Series("p_desirable", p, pl.Float64),
        pl.Series("density_ratio", ratio, pl.Float64),
        pl.Series("matching_weight", np.where(up > 0, 1.0, ratio.clip(low, high)), pl.Float64),
    )
    names = ("p_desirable", "density_ratio", "matching_weight")
    return scored(scores, made, names, subject="completion", model=model.name)
