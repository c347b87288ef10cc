"""Scores of comparisons on axes, from votes in both orders: which axes stay, what they predict.

Comparisons are rows with `group`, `completion_a`, `completion_b`, `a_is_one` (whether a is the
first generator's) and `a_chosen`; votes have `principle_id`, their axis.

Source: Dunlap et al. 2024, "VibeCheck: Discover and Quantify Qualitative Differences in Large
Language Models".
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from prefdata.explain._predict import accuracy
from prefdata.explain._weights import weights_of
from prefdata.measure._means import COLUMNS, means
from prefdata.tables import SIDES

SPECIAL: Any = special
Floats = NDArray[np.float64]
# A normal prior of spread 10.
RIDGE = 0.01


def scores_of(rows: pl.DataFrame, votes: pl.DataFrame, ids: list[str]) -> Floats:
    """1, -1 or 0 of each comparison and axis: the side a or b that both orders name."""
    up, down = (
        (each.fill_null(value=False).all() & (pl.len() == 2)).cast(pl.Int64)
        for each in (pl.col("preference") > 0.5, pl.col("preference") < 0.5)
    )
    told = votes.group_by(*SIDES, "principle_id").agg(score=up - down)
    at = told.join(rows.select(*SIDES).with_row_index("row"), on=SIDES)
    places = dict(zip(ids, range(len(ids)), strict=True))
    made = np.zeros((rows.height, len(ids)))
    column = at["principle_id"].replace_strict(places, return_dtype=pl.Int64)
    # Columns without a row are of no type of their own.
    row, column = (each.to_numpy().astype(np.int64) for each in (at["row"], column))
    made[row, column] = at["score"].to_numpy()
    return made


def _toward(rows: pl.DataFrame, column: str) -> Floats:
    return np.where(rows[column].to_numpy(), 1.0, -1.0)[:, None]


def judged(
    rows: pl.DataFrame,
    votes: pl.DataFrame,
    axes: dict[str, str],
    least: float,
    level: float,
    most: float,
) -> pl.DataFrame:
    """The axes with what is counted of each, best first, and the `reason` why one is not kept."""
    ids = sorted(axes)
    scores = scores_of(rows, votes, ids)
    n = max(rows.height, 1)
    chosen = scores * _toward(rows, "a_chosen")
    unread = votes.filter(
        pl.col("unscored").is_not_null() & (pl.col("unscored") != "not applicable")
    )
    lost = unread.group_by("completion_a", "completion_b", "principle_id").len()
    invalid = dict(lost.group_by("principle_id").len("n").rows())
    strength, told = np.zeros(len(ids)), np.zeros(len(ids), np.bool_)
    for toward in (scores * _toward(rows, "a_is_one"), chosen):
        mean = np.abs(toward.sum(0) / n)
        strength = np.maximum(strength, mean)
        told |= (mean > least) & (_chance(toward) <= level)
    order = sorted(range(len(ids)), key=lambda at: (-strength[at], ids[at]))
    kept: list[int] = []
    reasons: list[str | None] = []
    for at in order:
        like = [each for each in kept if _alike(scores[:, at], scores[:, each]) > most]
        why = "tells neither the generators nor what is preferred apart" if not told[at] else None
        if why is None and like:
            why = f"goes along with a better one, {axes[ids[like[0]]]!r}"
        reasons.append(why)
        kept += [] if why else [at]
    frame = pl.DataFrame(
        {
            "principle_id": [ids[at] for at in order],
            "principle": [axes[ids[at]] for at in order],
            "for": [int((chosen[:, at] > 0).sum()) for at in order],
            "against": [int((chosen[:, at] < 0).sum()) for at in order],
            "invalid": [int(invalid.get(ids[at], 0)) for at in order],
            "reason": reasons,
        },
        {
            **dict.fromkeys(("principle_id", "principle", "reason"), pl.String),
            **dict.fromkeys(("for", "against", "invalid"), pl.Int64),
        },
    ).with_columns(n=pl.lit(rows.height, pl.Int64))
    decided = pl.col("for") + pl.col("against")
    invalid_at_most = pl.min_horizontal(pl.col("invalid"), pl.col("n") - decided)
    return frame.with_columns(
        invalid=invalid_at_most, abstain=pl.col("n") - decided - invalid_at_most
    )


def _chance(toward: Floats) -> Floats:
    """The two-sided sign test's p of each column."""
    ahead, n = (toward > 0).sum(0), (toward != 0).sum(0)
    fewer = np.minimum(ahead, n - ahead)
    p = 2 * SPECIAL.bdtr(fewer.astype(np.float64), np.maximum(n, 1), 0.5)
    return np.where(n > 0, np.minimum(p, 1.0), 1.0)


def _alike(one: Floats, other: Floats) -> float:
    if not one.std() or not other.std():
        return 0.0
    return abs(float(np.corrcoef(one, other)[0, 1]))


def consistency(rows: pl.DataFrame, votes: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
    side = (pl.col("preference") - 0.5).sign()
    decided = votes.filter(side != 0).join(rows.select(*SIDES, "group"), on=SIDES)
    each = (
        decided.group_by(*SIDES, "group", pl.col("annotator").alias("subject"))
        .agg(agree=(side.n_unique() == 1).cast(pl.Float64), n=pl.len())
        .filter(pl.col("n") == 2)
    )
    subjects = pl.DataFrame({"subject": sorted(names.values())}, {"subject": pl.String})
    return means(each, "agree", "vibe_consistency", subjects)


def held_out_measures(
    rows: pl.DataFrame,
    votes: pl.DataFrame,
    names: dict[str, str],
    folds: int,
    permutations: int,
    seed: int,
) -> list[pl.DataFrame]:
    made = [pl.DataFrame(schema=COLUMNS)]
    if not names or rows.is_empty():
        return made
    ids = sorted(names)
    scores = scores_of(rows, votes, ids)
    columns = {f"x{at}": names[each] for at, each in enumerate(ids)}
    kinds = (("source", "a_is_one", "vibe_separation"), ("preferred", "a_chosen", "vibe_preferred"))
    for kind, label, mean in kinds:
        x = scores * _toward(rows, label)
        mine = rows.select("group", "completion_a", "completion_b").with_columns(
            pl.Series(column, x[:, at]) for at, column in enumerate(columns)
        )
        for column, name in columns.items():
            made.append(means(mine.with_columns(subject=pl.lit(name)), column, mean, low=-1.0))
        made.append(weights_of(mine, columns, f"vibe_{kind}_weight"))
        made.append(
            accuracy(
                mine, x, ridge=RIDGE, folds=folds, permutations=permutations, seed=seed,
                name=f"vibes_{kind}", subject="vibes",
            )
        )  # fmt: skip
    return made
