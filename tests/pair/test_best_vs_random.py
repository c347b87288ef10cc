import polars as pl

from prefdata.pair.best_vs_random import best_vs_random
from tests.pair.planted import random_strengths, strengths_of


def test_the_best_stands_over_one_that_is_weaker():
    strengths = random_strengths(5, 200)
    pairs, dropped = best_vs_random(strengths)
    known = dict(strengths.select("completion_id", "strength").rows())
    best = dict(strengths.group_by("prompt_id").agg(pl.col("strength").max()).rows())
    for row in pairs.rows(named=True):
        assert known[row["chosen_id"]] == best[row["prompt_id"]] > known[row["rejected_id"]]
    several = strengths.group_by("prompt_id").len().filter(pl.col("len") > 1).height
    assert pairs.height + dropped.height == several
    flat = strengths.group_by("prompt_id").agg(pl.col("strength").n_unique() == 1, pl.len())
    assert dropped.height == flat.filter(pl.col("strength") & (pl.col("len") > 1)).height


def test_each_of_the_others_is_drawn_as_often():
    rows = [(f"p{p}", f"p{p}c{c}", float(c)) for p in range(3000) for c in range(4)]
    pairs, _ = best_vs_random(strengths_of(rows))
    drawn = pairs["rejected_id"].str.slice(-1).value_counts()["count"].cast(pl.Int64)
    assert len(drawn) == 3
    assert ((drawn - 1000).abs() < 4 * (3000 * 2 / 9) ** 0.5).all()


def test_among_others_a_draw_may_be_a_tie_and_is_dropped():
    rows = [(f"p{p}", f"p{p}c{c}", [1.0, 1.0, 0.0][c]) for p in range(300) for c in range(3)]
    pairs, dropped = best_vs_random(strengths_of(rows), among="others")
    assert pairs.height + dropped.height == 300
    assert 100 < dropped.height < 200
    assert best_vs_random(strengths_of(rows))[1].is_empty()


def test_a_draw_depends_on_its_seed_and_on_no_other_prompt(shuffled):
    strengths = random_strengths(6)
    one = best_vs_random(strengths, seed=1)[0].sort("pair_id")
    assert one.equals(best_vs_random(shuffled(strengths, 2), seed=1)[0].sort("pair_id"))
    assert not one.equals(best_vs_random(strengths, seed=2)[0].sort("pair_id"))
    half = strengths.filter(pl.col("prompt_id") < "p25")
    assert (
        best_vs_random(half, seed=1)[0].height
        == one.join(best_vs_random(half, seed=1)[0], on="pair_id", how="semi").height
    )
