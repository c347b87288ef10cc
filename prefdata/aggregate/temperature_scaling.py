"""Bring an annotator's probabilities to those that other annotators' votes bear out.

A judge's token probabilities, a reward's sigmoid: such preferences are mostly too sure, sometimes
not sure enough. One number T for each annotator, fitted to votes of others on the same pairs,
corrects that and leaves every order as it is:

    preference' = sigmoid(logit(preference) / T),   T = argmin cross-entropy with the others' mean

The votes that a preference is corrected by are of other prompts: T is fitted once for each fold
without its prompts. What it is worth is told with it, as cross-entropy before and after on votes
that it was not fitted to.

Source: Guo et al. 2017, "On calibration of modern neural networks".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.tables import SIDES, Scores, Votes, digest

# A fold's T comes from all other prompts.
SCOPE = "all"

Floats = NDArray[np.floating[Any]]
# Preferences of 0 and 1 have no logit; what is nearer to them than this is as sure as it gets.
SUREST = 1e-6
# log T is looked for within these bounds.
BOUNDS = (-4.0, 4.0)


def temperature_scaling(
    votes: Votes,
    *,
    annotators: Sequence[str],
    against: Sequence[str],
    n_folds: int = 5,
    seed: int = 0,
) -> tuple[Votes, Scores]:
    """All votes, with those of `annotators` at their temperatures, and what these are.

    Scores about each annotator: `temperature` (above 1 where it was too sure; the mean of its
    folds', geometric, with their standard deviation as `stderr`), `cross_entropy` in nats before
    and `cross_entropy_scaled` after, on held-out votes. A pair's target is the mean preference of
    `against`, each of them once. A preference of exactly 1/2 stays; unscored votes stay unscored.
    An annotator who shares votes with `against` on fewer than two prompts is left as it is and has
    no scores.

    Options:
    - `annotators`: whose votes are corrected.
    - `against`: whose votes are believed; none of `annotators`.
    - `n_folds`: parts of the prompts of which each is corrected by a T of the others.
    - `seed`: of the folds.

    Raises `RecipeError` for an annotator that has no votes or is on both sides, and for fewer than
    two folds.
    """
    if n_folds < 2:
        raise RecipeError(f"aggregate.temperature_scaling: n_folds = {n_folds}; it is at least 2")
    known = votes["annotator"].unique().to_list()
    for name in (*annotators, *against):
        if votes.height and name not in known:
            raise RecipeError(
                f"aggregate.temperature_scaling: no votes of {name!r}; {nearest(name, known)}"
            )
        if name in annotators and name in against:
            raise RecipeError(
                f"aggregate.temperature_scaling: {name!r} is in annotators and in against; "
                "nobody is corrected by their own votes"
            )
    rows = votes.sort(tables.schema("votes").key)
    target = (
        rows.filter(pl.col("annotator").is_in(list(against)))
        .group_by(*SIDES, "annotator", maintain_order=True)
        .agg(pl.mean("preference"))
        .group_by(SIDES, maintain_order=True)
        .agg(target=pl.mean("preference"))
    )
    rows = rows.join(target, on=SIDES, how="left", maintain_order="left")
    prompt = pl.coalesce("prompt_id", "completion_a")
    prompts = rows.select(each=prompt)["each"]
    folds = np.array([int(digest("fold", seed, each), 16) % n_folds for each in prompts], np.int64)
    preference = rows["preference"].to_numpy().astype(float)
    believed = rows["target"].to_numpy().astype(float)
    made: list[pl.DataFrame] = []
    for name in sorted(set(annotators)):
        own = (rows["annotator"] == name).to_numpy() & np.isfinite(preference)
        taught = own & np.isfinite(believed)
        temperatures = held_out(preference, believed, taught, folds, n_folds)
        if temperatures is None:
            continue
        scaled = at_temperature(preference[own], temperatures[folds[own]])
        before = cross_entropy(preference[taught], believed[taught])
        preference[own] = scaled
        after = cross_entropy(preference[taught], believed[taught])
        made.append(_scores(name, temperatures, before, after))
    corrected = rows.with_columns(
        preference=pl.Series(preference, nan_to_null=True, dtype=pl.Float64)
    )
    kept = corrected.select(*tables.schema("votes").columns)
    scores = pl.concat(made) if made else tables.empty("scores")
    return Votes(kept), Scores(scores)


def held_out(
    preference: Floats, target: Floats, taught: NDArray[np.bool_], folds: NDArray[np.int64], n: int
) -> Floats | None:
    """The temperature for each fold, by the votes of all others; None where one has no votes."""
    made: list[float] = []
    for fold in range(n):
        rows = taught & (folds != fold)
        if not rows.any():
            return None
        made.append(fit_temperature(preference[rows], target[rows]))
    return np.array(made)


def fit_temperature(preference: Floats, target: Floats) -> float:
    """The T of the least cross-entropy; in 1 / T that is convex, so there is one."""
    from scipy import optimize

    library: Any = optimize

    def loss(log_t: float) -> float:
        return cross_entropy(at_temperature(preference, np.exp(log_t)), target)

    found = library.minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def at_temperature(preference: Floats, temperature: Any) -> Floats:
    p = np.clip(preference, SUREST, 1 - SUREST)
    return 1 / (1 + np.exp(-np.log(p / (1 - p)) / temperature))


def cross_entropy(preference: Floats, target: Floats) -> float:
    """In nats a vote."""
    p = np.clip(preference, SUREST, 1 - SUREST)
    return float(-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean())


def _scores(name: str, temperatures: Floats, before: float, after: float) -> pl.DataFrame:
    values = {
        "temperature": float(np.exp(np.log(temperatures).mean())),
        "cross_entropy": before,
        "cross_entropy_scaled": after,
    }
    spread = [float(temperatures.std()), None, None]
    made = pl.DataFrame({"score": list(values), "value": list(values.values()), "stderr": spread})
    return made.select(
        "score", "value", pl.col("stderr").cast(pl.Float64),
        subject_id=pl.lit(name),
        subject=pl.lit("annotator"),
        model=pl.lit(None, pl.String),
        request_id=pl.lit(None, pl.String),
    ).select(*tables.schema("scores").columns)  # fmt: skip
