"""Do features of two completions predict which is chosen, beyond what any labels would let them?

With x_u the features of the chosen completion less those of the rejected one, weights w maximise

    sum_u log sigmoid(x_u . w) - ridge |w|^2 / 2

without an intercept, so that neither side is the first one. They are fitted on all folds but one
and predict that one; a fold holds whole prompt groups, and each comparison is one row (a copy with
the sides turned round, in another fold, would tell the model its label).

The null is the same search on labels that are turned at random, all of a prompt group together:

    p = (1 + number of draws that are predicted at least as well) / (1 + number of draws)

Source: Böhning and Lindsay 1988, "Monotonicity of quadratic-approximation algorithms" (one bound of
the curvature for all labels); Ojala and Garriga 2010, "Permutation tests for studying classifier
performance".
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from prefdata.errors import RecipeError
from prefdata.measure._means import means
from prefdata.tables import digest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SPECIAL: Any = special
LINALG: Any = np.linalg
STEPS, TOLERANCE = 300, 1e-5
# Draws fitted at once.
BLOCK = 1 << 22


def check_folds(folds: int, permutations: int, stage: str) -> None:
    if folds < 2:
        raise RecipeError(f"{stage}: folds = {folds}; it is at least 2")
    if permutations < 19:
        raise RecipeError(f"{stage}: permutations = {permutations}; p < 0.05 needs at least 19")


def folds_of(groups: pl.Series, folds: int, seed: int) -> Ints:
    """The fold of each row: groups, in an order drawn from the seed and their names, by turns."""
    order = sorted(groups.unique(), key=lambda each: digest("fold", seed, each))
    places = dict(zip(order, (at % folds for at in range(len(order))), strict=True))
    return groups.replace_strict(places, return_dtype=pl.Int64).to_numpy()


def fit_weights(x: Floats, turns: Floats, ridge: float) -> Floats:
    """The weights for each column of `turns`, which turns the rows of x: (features, columns)."""
    inside: Floats = LINALG.inv(x.T @ x / 4 + ridge * np.eye(x.shape[1]))
    weights = np.zeros((x.shape[1], turns.shape[1]))
    going: Ints = np.arange(turns.shape[1], dtype=np.int64)
    for _ in range(STEPS):
        now, own = turns[:, going], weights[:, going]
        pull = x.T @ (now * SPECIAL.expit(-now * (x @ own))) - ridge * own
        step = inside @ pull
        weights[:, going] += step
        going = going[np.abs(step).max(0) > TOLERANCE]
        if not len(going):
            break
    return weights


def predicted(x: Floats, turns: Floats, fold: Ints, ridge: float) -> Floats:
    """The log-odds of the label of each row and column, from the other folds."""
    made = np.zeros(turns.shape)
    for each in np.unique(fold):
        mine = fold == each
        if not mine.all():
            weights = fit_weights(x[~mine], turns[~mine], ridge)
            made[mine] = turns[mine] * (x[mine] @ weights)
    return made


def hits(log_odds: Floats) -> Floats:
    """1 where the label is predicted, 0 where its opposite is, 1/2 where nothing is."""
    return (np.sign(np.where(np.abs(log_odds) < 1e-9, 0.0, log_odds)) + 1) / 2


def turned(groups: pl.Series, draws: int, seed: int) -> Floats:
    """A column of 1 for the labels as they are, and columns of groups turned at random."""
    at = groups.rank("dense").to_numpy().astype(np.int64) - 1
    random = np.random.default_rng(seed)
    signs = random.choice(np.array([1.0, -1.0]), (int(at.max()) + 1, draws))
    return np.concatenate([np.ones((len(at), 1)), signs[at]], axis=1)


def accuracy(
    rows: pl.DataFrame,
    x: Floats,
    *,
    ridge: float,
    folds: int,
    permutations: int,
    seed: int,
    name: str,
    subject: str,
) -> pl.DataFrame:
    """Measures `<name>_accuracy` (with interval), `<name>_null`, `<name>_p` of left-out labels.

    `rows` has the `group` of each row of x, and its order must not depend on how it was read. With
    fewer groups than folds there is no value, and the note says so.
    """
    measures = [f"{name}_{each}" for each in ("accuracy", "null", "p")]
    n_groups = rows["group"].n_unique()
    if n_groups < folds:
        note = f"{n_groups} prompt groups are too few for {folds} folds"
        blank = {"measure": measures, "subject": subject, "note": note, "n": len(x)}
        return pl.DataFrame(blank).with_columns(value=pl.lit(None, pl.Float64))
    fold = folds_of(rows["group"], folds, seed)
    turns = turned(rows["group"], permutations, seed)
    at_once = max(1, BLOCK // len(x))
    found = [
        hits(predicted(x, turns[:, at : at + at_once], fold, ridge))
        for at in range(0, turns.shape[1], at_once)
    ]
    right: Floats = np.concatenate(found, axis=1)
    each = rows.select("group").with_columns(hit=pl.Series(right[:, 0]), subject=pl.lit(subject))
    note = f"{folds} folds of prompt groups, {permutations} permutations"
    real = means(each, "hit", measures[0], note=note)
    null: Floats = right[:, 1:].mean(0)
    beaten: Any = null >= right[:, 0].mean() - 1e-12
    p = (1 + int(beaten.sum())) / (1 + permutations)
    values = [float(np.quantile(null, 0.95)), p]
    rest = pl.DataFrame(
        {"measure": measures[1:], "subject": subject, "value": values, "note": note, "n": len(x)}
    )
    return pl.concat([real, rest], how="diagonal_relaxed")
