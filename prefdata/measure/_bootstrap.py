"""95 % intervals of what is computed from sums over rows, by drawing groups of prompts anew.

A statistic is a function of sums; a draw of as many groups as there are, with replacement, counts
each group 0, 1, 2, ... times, and so its sums are the weighted sums of the groups. All draws of a
block are one product of a matrix of counts with a sparse matrix of the groups' sums.

Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; for clustered rows Davison
and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from prefdata.measure._means import ONE_GROUP

Floats = NDArray[np.float64]
# Sums of shape (draws, subjects, parts) -> values of shape (draws, subjects).
Statistic = Callable[[Floats], Floats]

SPARSE: Any = sparse
# Numbers held at once.
BLOCK = 1 << 22


def intervals(
    sums: pl.DataFrame,
    n_parts: int,
    statistics: Mapping[str, Statistic],
    *,
    draws: int,
    seed: int,
    centred: bool = False,
) -> pl.DataFrame:
    """`statistic, subject, value, stderr, low, high, groups` of statistics of sums over groups.

    `sums` has rows `subject, group, part, x`, with part from 0 to below `n_parts`; rows of the
    same three are added. The interval goes from the 2.5 % to the 97.5 % quantile of the draws;
    `centred`, for a statistic whose noise has one direction, from twice the value less these. With
    a single group, or where fewer than half of the draws have a value, there is none.
    """
    sums = sums.sort("subject", "group", "part", "x")
    made = [
        _block(part, n_parts, statistics, draws, seed, centred) for part in _blocks(sums, n_parts)
    ]
    names = ["value", "stderr", "low", "high"]
    texts = dict.fromkeys(("statistic", "subject"), pl.String)
    columns = {**texts, **dict.fromkeys(names, pl.Float64), "groups": pl.Int64}
    return pl.concat([pl.DataFrame(schema=columns), *made])


def _blocks(sums: pl.DataFrame, n_parts: int) -> list[pl.DataFrame]:
    """Parts with so many subjects that the sums of a few draws fit into a block."""
    many = max(1, BLOCK // (64 * n_parts))
    number = sums.select(pl.col("subject").rle_id() // many).to_series()
    return sums.with_columns(block=number).partition_by("block", include_key=False)


def _block(
    sums: pl.DataFrame,
    n_parts: int,
    statistics: Mapping[str, Statistic],
    draws: int,
    seed: int,
    centred: bool,
) -> pl.DataFrame:
    names = sums["subject"].unique(maintain_order=True)
    subject = sums["subject"].rle_id().to_numpy().astype(np.int64)
    group = sums["group"].rank("dense").to_numpy().astype(np.int64) - 1
    column = subject * n_parts + sums["part"].to_numpy().astype(np.int64)
    n_groups, n_columns = int(group.max()) + 1, len(names) * n_parts
    matrix = SPARSE.csr_array((sums["x"].to_numpy(), (column, group)), shape=(n_columns, n_groups))

    def values(counts: Floats) -> Floats:
        """The statistics of all subjects from counts of shape (groups, draws)."""
        drawn: Floats = (matrix @ counts).T.reshape(-1, len(names), n_parts)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.stack([statistic(drawn) for statistic in statistics.values()], 1)
        return np.where(np.isfinite(found), found, np.nan)

    value = values(np.ones((n_groups, 1)))[0]
    own = np.bincount(np.unique(subject * n_groups + group) // n_groups, minlength=len(names))
    random = np.random.default_rng(seed)
    at_once = max(1, BLOCK // max(n_columns, n_groups))
    drawn = np.empty((draws, *value.shape))
    for start in range(0, draws, at_once):
        some = min(at_once, draws - start)
        counts = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=some)
        drawn[start : start + some] = values(counts.T.astype(np.float64))
    drawn[:, (own < 2) | (np.isfinite(drawn).mean(0) < 0.5)] = np.nan
    low, high = _quantiles(drawn)
    if centred:
        low, high = 2 * value - high, 2 * value - low
    columns = {"value": value, "stderr": _spread(drawn), "low": low, "high": high}
    made = [
        pl.DataFrame({"subject": names, "groups": own, **{k: v[at] for k, v in columns.items()}})
        .with_columns(pl.col(*columns).fill_nan(None), pl.col("groups").cast(pl.Int64))
        .select(pl.lit(name).alias("statistic"), "subject", *columns, "groups")
        for at, name in enumerate(statistics)
    ]
    return pl.concat(made)


def _quantiles(drawn: Floats) -> tuple[Floats, Floats]:
    """The 2.5 % and 97.5 % quantiles of the draws that have a value; NaN where none has."""
    ordered = np.sort(drawn, axis=0)  # NaN last
    n = np.isfinite(drawn).sum(0)
    ends: list[Floats] = []
    for share in (0.025, 0.975):
        place = share * np.maximum(n - 1, 0)
        at = np.floor(place).astype(np.int64)
        next_to = np.minimum(at + 1, np.maximum(n - 1, 0))
        one, other = (np.take_along_axis(ordered, i[None], 0)[0] for i in (at, next_to))
        ends.append(np.where(n > 0, one + (place - at) * (other - one), np.nan))
    return ends[0], ends[1]


def _spread(drawn: Floats) -> Floats:
    n = np.isfinite(drawn).sum(0)
    total = np.where(n > 0, np.nansum(drawn, axis=0), np.nan)
    away = np.nansum((drawn - total / np.maximum(n, 1)) ** 2, axis=0)
    return np.where(n > 1, np.sqrt(away / np.maximum(n - 1, 1)), np.nan)


def stated(found: pl.DataFrame, measure: pl.Expr, n: pl.DataFrame, note: str) -> pl.DataFrame:
    """Rows of `measures` from intervals, with `n` of each subject from a table `subject, n`."""
    single = pl.col("groups") < 2
    return found.join(n, on="subject", how="left", maintain_order="left").select(
        measure.alias("measure"),
        "subject",
        "value",
        "stderr",
        "low",
        "high",
        note=pl.when(single).then(pl.lit(ONE_GROUP)).otherwise(pl.lit(note)),
        n=pl.col("n").fill_null(0).cast(pl.Int64),
    )
