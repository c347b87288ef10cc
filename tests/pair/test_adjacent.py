"""Adjacent pairs: the links of a ranking."""

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.pair.adjacent import adjacent
from prefdata.tables import Strengths


def strengths_of(rows):
    frame = pl.DataFrame(rows, schema=["prompt_id", "completion_id", "strength"], orient="row")
    return tables.typed(Strengths, frame.with_columns(pl.lit("bradley_terry").alias("estimator")))


def test_a_ranking_is_a_chain_from_best_to_worst():
    rows = [("p", "w", 0.1), ("p", "x", 3.0), ("p", "y", -2.0), ("p", "z", 1.0), ("q", "v", 9.0)]
    pairs, dropped = adjacent(strengths_of(rows))
    links = set(pairs.select("chosen_id", "rejected_id").iter_rows())
    assert links == {("x", "z"), ("z", "w"), ("w", "y")}
    assert dropped.is_empty()


def test_margins_of_a_chain_add_up_to_the_spread():
    draw = np.random.default_rng(0)
    rows = [(f"p{p}", f"p{p}c{c}", s) for p in range(30) for c, s in enumerate(draw.normal(size=5))]
    strengths = strengths_of(rows)
    summed = adjacent(strengths)[0].group_by("prompt_id").agg(pl.col("margin").sum())
    spread = strengths.group_by("prompt_id").agg(
        spread=pl.col("strength").max() - pl.col("strength").min()
    )
    both = summed.join(spread, on="prompt_id")
    assert both.height == 30
    assert np.allclose(both["margin"], both["spread"])


def test_equal_neighbours_are_dropped_and_counts_add_up():
    rows = [("p", "x", 1.0), ("p", "y", 0.0), ("p", "z", 0.0), ("p", "w", -1.0)]
    for order in (rows, rows[::-1]):
        pairs, dropped = adjacent(Strengths(pl.concat([strengths_of([row]) for row in order])))
        links = set(pairs.select("chosen_id", "rejected_id").iter_rows())
        assert links == {("x", "y"), ("z", "w")}
        assert dropped["key"].to_list() == tables.pair_ids(["y"], ["z"]).to_list()
        assert dropped["reason"].to_list() == ["tie"]
    tables.check("pairs", pairs, where="here")
    tables.check("dropped", dropped, where="here")
