"""What is given about pairs beside their texts: scores, votes and ratings, a less b."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.tables import SIDES, Ratings, Scores, Votes

Floats = NDArray[np.floating[Any]]


def given(
    rows: pl.DataFrame,
    scores: Scores | None,
    votes: Votes | None,
    ratings: Ratings | None,
    margins: Sequence[str],
    annotators: Sequence[str],
    raters: Sequence[str],
) -> dict[str, Floats]:
    """What is given about pairs, in blocks, a column each name; see `gather`."""
    blocks: dict[str, Floats] = {}
    if margins:
        blocks["margins"] = _scored(rows, scores, margins)
    if annotators:
        blocks["annotators"] = _voted(rows, votes, annotators)
    if raters:
        blocks["raters"] = _rated(rows, ratings, raters)
    return blocks


def _scored(rows: pl.DataFrame, scores: Scores | None, names: Sequence[str]) -> Floats:
    """Scores about pairs, which are oriented to the chosen side, turned to a less b."""
    there = tables.empty("scores") if scores is None else pl.DataFrame(scores)
    there = there.filter(pl.col("subject") == "pair")
    made: list[Floats] = []
    for name in names:
        one = there.filter(pl.col("score") == name).group_by("subject_id").agg(pl.mean("value"))
        values = rows.join(
            one, left_on="pair_id", right_on="subject_id", how="left", maintain_order="left"
        )["value"].fill_null(0.0)
        made.append(values.to_numpy())
    return np.stack(made, 1) * np.where(rows["chose_a"].to_numpy(), 1.0, -1.0)[:, None]


def _voted(rows: pl.DataFrame, votes: Votes | None, annotators: Sequence[str]) -> Floats:
    """The mean preference for a of each annotator, less a half."""
    there = tables.empty("votes") if votes is None else pl.DataFrame(votes)
    made: list[Floats] = []
    for name in annotators:
        one = there.filter(pl.col("annotator") == name).sort(*SIDES, "preference")
        means = one.group_by(SIDES, maintain_order=True).agg(pl.mean("preference"))
        said = rows.join(means, on=SIDES, how="left", maintain_order="left")["preference"]
        made.append(said.fill_null(0.5).to_numpy() - 0.5)
    return np.stack(made, 1)


def _rated(rows: pl.DataFrame, ratings: Ratings | None, names: Sequence[str]) -> Floats:
    """The mean rating of a by each annotator less that of b; 0 where one of them has none."""
    there = tables.empty("ratings") if ratings is None else pl.DataFrame(ratings)
    made: list[Floats] = []
    for name in names:
        one = there.filter(pl.col("annotator") == name).sort("completion_id", "rating")
        means = one.group_by("completion_id", maintain_order=True).agg(pl.mean("rating"))
        made.append(by_completion(rows, means)[:, 0])
    return np.stack(made, 1)


def named(scores: Scores | None, votes: Votes | None, ratings: Ratings | None) -> pl.DataFrame:
    """`kind, name`: the scores of pairs that there are, and who voted and rated."""
    frames = [pl.DataFrame(schema={"kind": pl.String, "name": pl.String})]
    if scores is not None:
        about = scores.filter(pl.col("subject") == "pair")
        frames.append(about.select(kind=pl.lit("scores"), name="score").unique())
    for kind, table in (("votes", votes), ("ratings", ratings)):
        if table is not None:
            frames.append(table.select(kind=pl.lit(kind), name="annotator").unique())
    return pl.concat(frames)


def refuse_unknown(
    there: pl.DataFrame, margins: Sequence[str], annotators: Sequence[str], raters: Sequence[str]
) -> None:
    """`RecipeError` for evidence that nobody gave, where others gave some."""
    asked = (
        ("scores", margins, "no pair has a score"),
        ("votes", annotators, "no votes of"),
        ("ratings", raters, "no ratings of"),
    )
    for kind, names, said in asked:
        own = there.filter(pl.col("kind") == kind)["name"].unique().sort().to_list()
        for name in names:
            if own and name not in own:
                raise RecipeError(f"{said} {name!r}; {nearest(name, own)}")


def by_completion(rows: pl.DataFrame, values: pl.DataFrame) -> Floats:
    """a less b of each column about completions; 0 where one of them is not known."""
    place = values.select("completion_id").with_row_index("at")
    sides = [
        rows.select(pl.col(side).alias("completion_id"))
        .join(place, on="completion_id", how="left", maintain_order="left")["at"]
        .to_numpy()
        for side in ("completion_a", "completion_b")
    ]
    known = np.isfinite(sides[0].astype(float)) & np.isfinite(sides[1].astype(float))
    table = values.drop("completion_id").to_numpy().astype(float)
    made = np.zeros((rows.height, table.shape[1]))
    a, b = (np.asarray(side[known], dtype=np.int64) for side in sides)
    made[known] = table[a] - table[b]
    return np.nan_to_num(made)
