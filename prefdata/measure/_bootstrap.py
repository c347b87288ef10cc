"""95 % intervals of what is computed from sums over rows, by drawing groups of prompts anew.

A statistic is a function of sums; a draw of as many groups as there are, with replacement, counts
each group 0, 1, 2, ... times, and so its sums are the weighted sums of the groups. All draws of a
block are one product of a matrix of counts with a sparse matrix of the groups' sums. Of more than
`MOST` groups every `MOST`th are drawn together: they are as independent as each of them is.

Quantiles are taken further out, as Student's t is wider than the normal distribution for so many
groups. `accelerated` intervals move them as well, by the share z of draws below the value and by
the skewness a of the values without one group: the quantile q is taken at

    Phi(z + (z + q) / (1 - a (z + q)))

Source: Efron 1979, "Bootstrap methods: another look at the jackknife", and 1987, "Better bootstrap
confidence intervals"; Hesterberg 2015, "What teachers should know about the bootstrap", for the
wider quantiles; for clustered rows Davison and Hinkley 1997, "Bootstrap Methods and their
Application", section 3.8.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse, special

from prefdata.measure._means import ONE_GROUP

Floats = NDArray[np.float64]
# Sums of shape (draws, subjects, parts) -> values of shape (draws, subjects).
Statistic = Callable[[Floats], Floats]
# "mirrored": from twice the value less the upper quantile, for noise that has one direction.
Kind = Literal["accelerated", "mirrored"]

SPARSE: Any = sparse
SPECIAL: Any = special
# Numbers held at once.
BLOCK = 1 << 22
MOST = 1000
NO_SPREAD = "draws of prompt groups do not differ: no interval"


def intervals(
    sums: pl.DataFrame,
    n_parts: int,
    statistics: Mapping[str, Statistic],
    *,
    draws: int,
    seed: int,
    kind: Kind,
) -> pl.DataFrame:
    """`statistic, subject, value, stderr, low, high, groups` of statistics of sums over groups.

    `sums` has rows `subject, group, part, x`, with part from 0 to below `n_parts`; rows of the
    same three are added. With a single group, where draws do not differ (as where nobody ever
    disagreed, which may end with the next group), or where fewer than half of them have a value,
    there is no interval.
    """
    sums = sums.sort("subject", "group", "part", "x")
    many = max(1, BLOCK // max(64 * n_parts, draws * len(statistics)))
    blocks = sums.with_columns(
        group=pl.col("group").rle_id().over("subject").cast(pl.Int64),
        block=pl.col("subject").rle_id() // many,
    ).partition_by("block", include_key=False)
    made = [_block(part, n_parts, statistics, draws, seed, kind) for part in blocks]
    names = ["value", "stderr", "low", "high"]
    texts = dict.fromkeys(("statistic", "subject"), pl.String)
    columns = {**texts, **dict.fromkeys(names, pl.Float64), "groups": pl.Int64}
    return pl.concat([pl.DataFrame(schema=columns), *made])


def _block(
    sums: pl.DataFrame,
    n_parts: int,
    statistics: Mapping[str, Statistic],
    draws: int,
    seed: int,
    kind: Kind,
) -> pl.DataFrame:
    names = sums["subject"].unique(maintain_order=True)
    subject = sums["subject"].rle_id().to_numpy().astype(np.int64)
    own = sums.group_by("subject", maintain_order=True).agg(pl.col("group").max() + 1)
    groups = own["group"].to_numpy()
    group = sums["group"].to_numpy() % MOST
    column = subject * n_parts + sums["part"].to_numpy().astype(np.int64)
    n_groups, n_columns = int(group.max()) + 1, len(names) * n_parts
    matrix = SPARSE.csr_array((sums["x"].to_numpy(), (column, group)), shape=(n_columns, n_groups))

    def values(counts: Floats) -> Floats:
        """The statistics of all subjects from counts of shape (draws, groups)."""
        drawn: Floats = (matrix @ counts.T).T.reshape(-1, len(names), n_parts)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.stack([statistic(drawn) for statistic in statistics.values()], 1)
        return np.where(np.isfinite(found), found, np.nan)

    def in_parts(n: int, counts: Callable[[int, int], Floats]) -> Floats:
        at_once = max(1, BLOCK // max(n_columns, n_groups))
        found = [values(counts(at, min(at + at_once, n))) for at in range(0, n, at_once)]
        return np.concatenate(found)

    random = np.random.default_rng(seed)
    even = np.full(n_groups, 1 / n_groups)
    value = values(np.ones((1, n_groups)))[0]
    drawn = in_parts(
        draws, lambda low, high: random.multinomial(n_groups, even, size=high - low).astype(float)
    )
    spread = _spread(drawn)
    still = ~(spread > 1e-12) | (groups < 2) | (np.isfinite(drawn).mean(0) < 0.5)
    drawn[:, still] = np.nan
    free = np.maximum(np.minimum(groups, MOST) - 1, 1).astype(float)
    out = np.sqrt((free + 1) / free) * SPECIAL.stdtrit(free, 0.975)
    ordered = np.sort(drawn, axis=0)  # NaN last
    if kind == "mirrored":
        share = np.broadcast_to(SPECIAL.ndtr(out), value.shape)
        low, high = (2 * value - _quantile(ordered, s) for s in (share, 1 - share))
    else:
        without = in_parts(n_groups, lambda low, high: 1 - np.eye(n_groups)[low:high])
        shift, skew = _shift(drawn, value), _skewness(without, np.minimum(groups, MOST))
        ends = (shift + side * out for side in (-1, 1))
        low, high = (
            _quantile(ordered, SPECIAL.ndtr(shift + z / np.maximum(1 - skew * z, 0.1)))
            for z in ends
        )
    columns = {"value": value, "stderr": np.where(still, np.nan, spread), "low": low, "high": high}
    made = [
        pl.DataFrame({"subject": names, "groups": groups, **{k: v[at] for k, v in columns.items()}})
        .with_columns(pl.col(*columns).fill_nan(None), pl.col("groups").cast(pl.Int64))
        .select(pl.lit(name).alias("statistic"), "subject", *columns, "groups")
        for at, name in enumerate(statistics)
    ]
    return pl.concat(made)


def _shift(drawn: Floats, value: Floats) -> Floats:
    """The normal quantile of the share of draws below the value; half of the equal ones are."""
    n = np.maximum(np.isfinite(drawn).sum(0), 1)
    near = np.abs(drawn - value) <= 1e-12
    below = ((drawn < value) & ~near).sum(0) + near.sum(0) / 2
    return SPECIAL.ndtri(np.clip(below / n, 0.5 / n, 1 - 0.5 / n))


def _skewness(without: Floats, groups: NDArray[np.int64]) -> Floats:
    """A sixth of the skewness of the values without each of a subject's groups."""
    mine = np.arange(len(without))[:, None, None] < groups
    without = np.where(mine, without, np.nan)
    n = np.maximum(np.isfinite(without).sum(0), 1)
    away = np.nan_to_num(np.nansum(without, axis=0) / n - without)
    square = (away**2).sum(0)
    return (away**3).sum(0) / (6 * np.maximum(square, 1e-30) ** 1.5)


def _quantile(ordered: Floats, share: Floats) -> Floats:
    """The quantile of the draws that have a value, at a share for each; NaN where none has."""
    n = np.isfinite(ordered).sum(0)
    place = share * np.maximum(n - 1, 0)
    at = np.floor(place).astype(np.int64)
    next_to = np.minimum(at + 1, np.maximum(n - 1, 0))
    one, other = (np.take_along_axis(ordered, i[None], 0)[0] for i in (at, next_to))
    return np.where(n > 0, one + (place - at) * (other - one), np.nan)


def _spread(drawn: Floats) -> Floats:
    n = np.isfinite(drawn).sum(0)
    total = np.where(n > 0, np.nansum(drawn, axis=0), np.nan)
    away = np.nansum((drawn - total / np.maximum(n, 1)) ** 2, axis=0)
    return np.where(n > 1, np.sqrt(away / np.maximum(n - 1, 1)), np.nan)


def stated(found: pl.DataFrame, measure: pl.Expr, n: pl.DataFrame, note: str) -> pl.DataFrame:
    """Rows of `measures` from intervals, with `n` of each subject from a table `subject, n`."""
    why = pl.when(pl.col("groups") < 2).then(pl.lit(ONE_GROUP))
    why = why.when(pl.col("stderr").is_null()).then(pl.lit(NO_SPREAD)).otherwise(pl.lit(note))
    return found.join(n, on="subject", how="left", maintain_order="left").select(
        measure.alias("measure"),
        "subject",
        "value",
        "stderr",
        "low",
        "high",
        note=why,
        n=pl.col("n").fill_null(0).cast(pl.Int64),
    )
