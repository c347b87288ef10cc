"""What principles' votes say about labelled comparisons: votes of several draws as one, counts.

A cell is a comparison and a principle. In each draw it is `FOR` (the principle speaks for the
chosen one), `AGAINST`, `SILENT` (a tie, or nothing to say), `INVALID` (no readable reply) or
`UNASKED`.
"""

from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from prefdata.explain._standing import COUNTS

Cells = NDArray[np.int8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Combine = Literal["unanimous", "majority"]

FOR, AGAINST, SILENT, INVALID, UNASKED = 1, -1, 0, 2, 3
SPECIAL: Any = special


def cells_of(votes: pl.DataFrame, shape: tuple[int, int]) -> Cells:
    """Cells of one draw from votes with `row`, `column`, `a_chosen`, `preference`, `unscored`."""
    made = np.full(shape, UNASKED, np.int8)
    toward = (2 * pl.col("preference") - 1).sign() * pl.when("a_chosen").then(1).otherwise(-1)
    silent = pl.col("unscored") == "not applicable"
    said = pl.coalesce(toward, pl.when(silent).then(SILENT).otherwise(INVALID)).cast(pl.Int8)
    told = votes.select("row", "column", said=said)
    made[told["row"].to_numpy(), told["column"].to_numpy()] = told["said"].to_numpy()
    return made


def combined(draws: list[Cells], how: Combine) -> Cells:
    """One cell for those of several draws.

    Unanimous: for, or against, if all draws are; a draw that was not asked for because another had
    settled it changes nothing. Majority: if more than half of the asked are. Else silent, or
    invalid where no draw could be read.
    """
    stack = np.stack(draws)
    asked = (stack != UNASKED).sum(0)
    made = np.full(stack.shape[1:], SILENT, np.int8)
    for side in (FOR, AGAINST):
        n = (stack == side).sum(0)
        made[(n == asked) if how == "unanimous" else (2 * n > asked)] = side
    made[(stack == INVALID).sum(0) == asked] = INVALID
    made[asked == 0] = UNASKED
    return made


def counts(cells: Cells) -> pl.DataFrame:
    """`for, against, abstain, invalid` of each principle, in the order of the columns."""
    kinds = zip(COUNTS, (FOR, AGAINST, SILENT, INVALID), strict=True)
    return pl.DataFrame({name: (cells == kind).sum(0).astype(np.int64) for name, kind in kinds})


def hopeless(cells: Cells, least: float, error: float) -> Bools:
    """Principles that a test already tells from those that are kept.

    One-sided binomial tests at level `error` / 2: of a principle that is for at least as often as
    against, and of one that is for in a share of at least `least`.
    """
    agree, oppose = (cells == FOR).sum(0), (cells == AGAINST).sum(0)
    seen = (cells != UNASKED).sum(0)
    against = SPECIAL.bdtr(agree, np.maximum(agree + oppose, 1), 0.5) < error / 2
    rare = SPECIAL.bdtr(agree, np.maximum(seen, 1), least) < error / 2
    return (seen > 0) & (((agree + oppose > 0) & against) | rare)


def verdicts(counted: pl.DataFrame, least: float) -> pl.Series:
    """Why each principle is not kept; null: it is."""
    n_for, against = pl.col("for"), pl.col("against")
    n = n_for + against + pl.col("abstain") + pl.col("invalid")
    said = pl.concat_str(pl.lit("for "), n_for, pl.lit(", against "), against, pl.lit(" of "), n)
    why = (
        pl.when(pl.col("invalid") >= n - pl.col("invalid"))
        .then(pl.lit("mostly unreadable: "))
        .when(n_for <= against)
        .then(pl.lit("not more for than against: "))
        .when(n_for < least * n)
        .then(pl.lit("too rarely for: "))
    )
    return counted.select(pl.concat_str(why, said).alias("reason")).to_series()
