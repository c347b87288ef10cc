"""Which groups each row is in: tags, source and group of its prompt. Groups may overlap."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.tables import SIDES, Prompts, Votes

Bools = NDArray[np.bool_]
By = Literal["tags", "source", "group"]


def prompt_of(rows: pl.DataFrame, votes: Votes) -> pl.DataFrame:
    """The rows with `prompt_id`, null where the two sides answer different prompts."""
    known = votes.select(*SIDES, "prompt_id").unique(SIDES, keep="first", maintain_order=True)
    return rows.join(known.sort(SIDES), on=SIDES, how="left", maintain_order="left")


def groups_of(
    rows: pl.DataFrame, votes: Votes, prompts: Prompts | None, by: Sequence[By], fewest: int
) -> tuple[list[str], Bools]:
    """Names, sorted, and (rows, groups): who is in it. Groups of fewer rows are left out."""
    numbered = prompt_of(rows.select(SIDES), votes).with_row_index("row")
    parts = [pl.DataFrame(schema={"row": pl.UInt32, "name": pl.String})]
    known = Prompts(tables.empty("prompts")) if prompts is None else prompts
    for kind in by:
        own = known.select("prompt_id", name=kind)
        own = own.explode("name") if kind == "tags" else own
        named = own.drop_nulls("name").unique()
        joined = numbered.join(named, on="prompt_id")
        parts.append(joined.select("row", name=pl.format("{}:{}", pl.lit(kind), "name")))
    of = pl.concat(parts)
    large = of.group_by("name").len().filter(pl.col("len") >= fewest)["name"].sort()
    of = of.join(large.to_frame().with_row_index("column"), on="name")
    made = np.zeros((rows.height, len(large)), dtype=bool)
    made[of["row"].to_numpy(), of["column"].to_numpy()] = True
    return large.to_list(), made
