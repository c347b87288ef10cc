"""Choices of people as arrays, for models of how people differ."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.aggregate._annotators import votes_by
from prefdata.estimate._evidence import Floats, Ints, embed
from prefdata.estimate._sums import sums
from prefdata.stage import Asks, Model
from prefdata.tables import SIDES, Completions, Votes

FOLDS = 5
ENOUGH = 600  # votes that are held out, where there are that many


@dataclass(frozen=True)
class Choices:
    """`x` (votes, columns) is what completion_a has more than completion_b, of size 1 in the mean.

    `user` numbers who voted (`names[user]`), `prefers_a` is the vote in [0, 1], `pair` numbers
    the two completions, `vectors` are those of `completions`, in the scale of `x`; `sides`
    (votes, 2) are the places there of completion_a and completion_b.
    """

    names: list[str]
    user: Ints
    pair: Ints
    x: Floats
    prefers_a: Floats
    completions: pl.DataFrame
    vectors: Floats
    sides: Ints | None = None

    def only(self, kept: NDArray[np.bool_]) -> "Choices":
        """Some of the votes, of the same people."""
        return replace(
            self,
            user=self.user[kept],
            pair=self.pair[kept],
            x=self.x[kept],
            prefers_a=self.prefers_a[kept],
            sides=None if self.sides is None else self.sides[kept],
        )


def held_out_users(seen: Choices, part: Ints) -> Ints:
    """Whose the votes are that are held out, part after part."""
    return np.concatenate([seen.user[part == at] for at in range(n_parts(part))])


def n_parts(part: Ints) -> int:
    """One fifth of many votes says enough; of few, more of them are held out in turn."""
    return int(np.clip(-(-ENOUGH * FOLDS // len(part)), 1, min(FOLDS, len(np.unique(part)))))


def choices(
    votes: Votes,
    completions: Completions,
    *,
    model: Model,
    annotators: str,
    where: str,
    squares: bool = False,
) -> Asks[Choices]:
    """The scored votes of these annotators on completions whose vectors are known.

    Several votes of one person on the same two completions are their mean. With `squares` the last
    column is less a vector's square, over the root of the mean square.
    """
    own = votes_by(votes, annotators, where)
    rows = (
        own.drop_nulls("preference")
        .sort("annotator", *SIDES, "preference")
        .group_by("annotator", *SIDES, maintain_order=True)
        .agg(pl.mean("preference"))
    )
    ids = pl.concat([rows[side] for side in SIDES]).unique()
    wanted = completions.filter(pl.col("completion_id").is_in(ids.implode()))
    shown = wanted.sort("completion_id").select(
        "completion_id", "prompt_id", messages=pl.col("completion")
    )
    known = yield from embed(shown, model)
    places = known.select("completion_id").with_row_index("place")
    for side in SIDES:
        named = places.rename({"completion_id": side, "place": f"{side}_at"})
        rows = rows.join(named, on=side, how="inner", maintain_order="left")
    vectors = known.drop("completion_id", "prompt_id").to_numpy().astype(float)
    sides = rows.select(f"{side}_at" for side in SIDES).to_numpy().astype(np.int64)
    x = vectors[sides[:, 0]] - vectors[sides[:, 1]]
    size = float(np.sqrt((x**2).mean())) if x.size else 1.0
    x, vectors = x / (size or 1.0), vectors / (size or 1.0)
    if squares:
        square = (vectors**2).sum(1)
        mean = float(np.sqrt(square.mean())) if len(square) else 1.0
        vectors = np.column_stack([vectors, -square / (mean or 1.0)])
        x = vectors[sides[:, 0]] - vectors[sides[:, 1]]
    names = rows["annotator"].unique().sort().to_list()
    return Choices(
        names,
        (rows["annotator"].rank("dense").to_numpy() - 1).astype(np.int64),
        (rows.select(pl.struct(*SIDES).rank("dense")).to_series().to_numpy() - 1).astype(np.int64),
        x,
        rows["preference"].to_numpy(),
        known.select("completion_id", "prompt_id"),
        vectors,
        sides,
    )


def rewards(seen: Choices, weights: Floats) -> Floats:
    """The reward of each completion by each row of weights, of mean 0 in a prompt: (completions,
    rows)."""
    values = seen.vectors @ weights.T
    prompts = (seen.completions["prompt_id"].rank("dense").to_numpy() - 1).astype(np.int64)
    count = np.bincount(prompts)
    means = sums(prompts, values, len(count)) / count[:, None]
    return values - means[prompts]


def scores(
    subject: str, ids: list[str] | pl.Series, name: str, value: Any, model: str | None = None
) -> pl.DataFrame:
    """Rows of the table of scores."""
    frame = pl.DataFrame({"subject_id": ids, "value": value}).with_columns(
        subject=pl.lit(subject),
        score=pl.lit(name),
        model=pl.lit(model, pl.String),
        stderr=pl.lit(None, pl.Float64),
        request_id=pl.lit(None, pl.String),
    )
    return frame.select(*tables.schema("scores").columns)
