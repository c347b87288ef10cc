"""What moves votes besides quality, from tables of votes to rows of `measures`.

The model is that of `_effects_model.py`. Here votes get what others or gold say of the comparison,
and each annotator's effects become rows with intervals and what they rest on.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from prefdata.aggregate._copies import alike
from prefdata.measure._effects_model import Effects, Seen, fit_effects
from prefdata.measure._means import ALIKE, COLUMNS, NO_ERROR, ONE_GROUP, side, student

Ints = NDArray[np.int64]
SPARSE: Any = sparse
GRAPHS: Any = csgraph

UNIT = ["completion_a", "completion_b", "criterion"]
SEPARATED = "the effects explain every vote: they are only known to be large"
NO_OTHERS = "no others' votes: quality is not held constant"
STILL = "no comparison differs in it"
ONE_OTHER = "at most one other vote a comparison: how far quality spreads is assumed"


def with_others(
    votes: pl.DataFrame,
    gold: str | None,
    kin: pl.Expr | None = None,
    told: pl.Expr | None = None,
) -> pl.DataFrame:
    """Scored votes with `k` of `n` others who prefer a, and gold's `verdict`; sorted.

    Each other annotator counts once a comparison, and copies (`aggregate._copies`) count as one;
    `kin` labels annotators, and those of one label are no others to each other, nor are copies:
    who always says the same says nothing of its own. `told` says whose votes tell of quality. With
    gold only comparisons that it voted on stay.
    """
    scored = votes.drop_nulls("preference")
    if gold is not None:
        said = scored.filter(pl.col("annotator") == gold).group_by(UNIT)
        verdict = said.agg(verdict=side(pl.col("preference")))
        scored = scored.filter(pl.col("annotator") != gold).join(verdict, on=UNIT)
    else:
        scored = scored.with_columns(verdict=pl.lit(None, pl.Float64))
    scored = scored.with_columns(kin=pl.col("annotator") if kin is None else kin)
    scored = scored.drop("kin").join(_related(scored), on="annotator", maintain_order="left")
    telling = scored if told is None else scored.filter(told)
    once = telling.group_by(*UNIT, "kin", "copy", "annotator").agg(
        p=pl.col("preference").sort().mean()
    )
    once = once.group_by(*UNIT, "kin", "copy").agg(p=pl.col("p").sort().mean())
    own = once.group_by(*UNIT, "kin").agg(kin_k=pl.col("p").sort().sum(), kin_n=pl.len())
    total = once.group_by(UNIT).agg(all_k=pl.col("p").sort().sum(), all_n=pl.len())
    first = pl.col("a_first").cast(pl.Float64) * 2 - 1
    counts = pl.col("kin_k", "kin_n", "all_k", "all_n")
    return (
        scored.join(own, on=[*UNIT, "kin"], how="left")
        .join(total, on=UNIT, how="left")
        .with_columns(counts.fill_null(0).cast(pl.Float64))
        .with_columns(
            subject="annotator",
            place=first.fill_null(0.0),
            n=pl.col("all_n") - pl.col("kin_n"),
        )
        .with_columns(k=(pl.col("all_k") - pl.col("kin_k")).clip(0, pl.col("n")))
        .sort("annotator", *UNIT, "draw", "a_first")
    )


def _related(scored: pl.DataFrame) -> pl.DataFrame:
    """Of each `annotator` its `copy`, the number of those who vote as it does, and its `kin`, that
    of those and of those of one label with any of them."""
    who = scored.select("annotator", "kin").unique().sort("annotator")
    who = who.with_row_index("unit").with_columns(label=pl.col("kin").rank("dense") - 1)
    cells = scored.select(
        pl.struct(UNIT).rank("dense").alias("pair") - 1, "annotator", "preference"
    )
    cells = cells.join(who, on="annotator", maintain_order="left")
    pair, unit = (cells[name].cast(pl.Int64).to_numpy() for name in ("pair", "unit"))
    i, j = alike(pair, unit, 2 * cells["preference"].to_numpy() - 1)
    label = who["label"].cast(pl.Int64).to_numpy()
    # A label is one more node, to which all of it are bound.
    bound = np.arange(len(label)), len(label) + label
    return who.select("annotator").with_columns(
        copy=pl.Series(_components(2 * len(label), i, j)[: len(label)]),
        kin=pl.Series(
            _components(2 * len(label), np.r_[i, bound[0]], np.r_[j, bound[1]])[: len(label)]
        ),
    )


def _components(n: int, i: Ints, j: Ints) -> Ints:
    edges = SPARSE.coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    return GRAPHS.connected_components(edges, directed=False)[1].astype(np.int64)


def toward(trait: str) -> pl.Expr:
    """The preference for the side with more of a trait; null where both have as much."""
    x, y = pl.col(trait), pl.col("preference")
    return pl.when(x > 0).then(y).when(x < 0).then(1 - y)


def effects_of(rows: pl.DataFrame, measures: Mapping[str, str]) -> pl.DataFrame:
    """Rows of `measures` for each subject: the effect of each column, all in one model.

    `measures` names the measure of each column of traits; "" is a trait only held constant.
    """
    made = [pl.DataFrame(schema=COLUMNS)]
    for mine in rows.partition_by("subject", maintain_order=True):
        group = mine["group"].rank("dense").cast(pl.Int64).to_numpy() - 1
        verdict = mine["verdict"]
        seen = Seen(
            y=mine["preference"].to_numpy(),
            x=mine.select(*measures).to_numpy(),
            place=mine["place"].to_numpy(),
            k=mine["k"].to_numpy(),
            n=mine["n"].to_numpy(),
            group=group,
            first=mine.select(pl.struct(UNIT).is_first_distinct()).to_series().to_numpy(),
            verdict=None if verdict.is_null().any() else verdict.to_numpy(),
        )
        found = fit_effects(seen)
        made.append(_stated(mine["subject"][0], seen, found, list(measures.values())))
    return pl.concat(made)


def _stated(subject: str, seen: Seen, found: Effects, names: list[str]) -> pl.DataFrame:
    still = found.stderr < NO_ERROR
    frame = pl.DataFrame(
        {
            "measure": names,
            "value": found.value,
            "stderr": np.where(still, np.nan, found.stderr),
            "quantile": student(pl.Series(found.n_groups, dtype=pl.Float64)),
            "note": [
                _note(seen, found, x != 0, int(groups), bool(alike))
                for x, groups, alike in zip(seen.x.T, found.n_groups, still, strict=True)
            ],
            "n": np.count_nonzero(seen.x, axis=0),
        },
        schema_overrides={"note": pl.String},
    ).with_columns(pl.col("value", "stderr").fill_nan(None), pl.col("n").cast(pl.Int64))
    return frame.filter(pl.col("measure") != "").select(
        "measure",
        pl.lit(subject).alias("subject"),
        "value",
        "stderr",
        low=pl.col("value") - pl.col("quantile") * pl.col("stderr"),
        high=pl.col("value") + pl.col("quantile") * pl.col("stderr"),
        note="note",
        n="n",
    )


def _note(
    seen: Seen, found: Effects, moving: NDArray[np.bool_], n_groups: int, still: bool
) -> str | None:
    """What the effect of a trait rests on, by the votes that it may have moved."""
    if not moving.any():
        return STILL
    said: list[str] = []
    if n_groups < 2:
        said.append(ONE_GROUP)
    elif still:
        said.append(ALIKE)
    if found.separated:
        said.append(SEPARATED)
    if seen.verdict is None and seen.n[moving].max() == 0:
        said.append(NO_OTHERS)
    elif seen.verdict is None and seen.n[moving].max() < 2:
        said.append(ONE_OTHER)
    return "; ".join(said) or None
