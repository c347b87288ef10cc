"""Which pairs of a prompt have a row, and what becomes of ties, in pairs, labels and lists."""

import polars as pl
import pytest

from prefdata.export.binary import binary
from prefdata.export.listwise import listwise
from prefdata.export.pairwise import pairwise


def exported(made, **options):
    return pairwise(made["prompts"], made["completions"], made["pairs"], **options)


def tied(made, which):
    """The world with the soft label 1/2, and no margin, in the pairs for which `which` holds."""
    pairs = made["pairs"].with_columns(
        soft_label=pl.when(which).then(0.5).otherwise("soft_label"),
        margin=pl.when(which).then(0.0).otherwise("margin"),
    )
    return {**made, "pairs": pairs}


@pytest.mark.parametrize("margin", ["margin", pl.lit(None, pl.Float64)])
def test_the_widest_is_the_best_over_the_worst(world, shuffled, margin):
    made = world(5, 4)
    made["pairs"] = made["pairs"].with_columns(margin=margin)
    rows = exported(made, policy="widest")
    assert sorted(rows["prompt_id"]) == sorted(made["prompts"]["prompt_id"])
    for row in rows.rows(named=True):
        sides = [row[side][0]["content"] for side in ("chosen", "rejected")]
        assert sides == ["answer 3", "answer 0"]
    assert rows.equals(exported({**made, "pairs": shuffled(made["pairs"], 1)}, policy="widest"))


def test_at_random_every_pair_of_a_prompt_is_drawn_as_often(world, shuffled):
    made = world(300, 3)
    rows = exported(made, policy="random", seed=3)
    assert sorted(rows["prompt_id"]) == sorted(made["prompts"]["prompt_id"])
    drawn = rows.select(pl.col("margin").sum()).item() / rows.height
    assert abs(drawn - 4 / 3) < 4 * (2 / 9 / 300) ** 0.5  # margins 1, 1 and 2, of 4 standard errors
    assert rows.equals(
        exported({**made, "pairs": shuffled(made["pairs"], 1)}, policy="random", seed=3)
    )
    other = exported(made, policy="random", seed=4)
    assert set(other["pair_id"]) != set(rows["pair_id"])
    first = made["prompts"]["prompt_id"][0]
    alone = {**made, "pairs": made["pairs"].filter(prompt_id=first)}
    assert exported(alone, policy="random", seed=3).equals(rows.filter(prompt_id=first))


def test_ties_stay_or_go(world):
    made = world(3, 3)
    lost = made["prompts"]["prompt_id"][0]
    made = tied(made, pl.col("prompt_id") == lost)
    assert exported(made)["pair_id"].sort().equals(made["pairs"]["pair_id"].sort())
    left = made["pairs"].filter(pl.col("prompt_id") != lost)["pair_id"]
    assert exported(made, ties="drop")["pair_id"].sort().equals(left.sort())
    assert exported(made, ties="drop", policy="random").height == 2


def test_labels_are_of_the_pairs_that_count(world):
    made = tied(world(3, 3), pl.col("margin") == 2)
    rows = binary(made["prompts"], made["completions"], made["pairs"], policy="widest", ties="drop")
    by_prompt = rows.group_by("prompt_id").agg(pl.len(), pl.col("label").sum())
    assert set(by_prompt.select("len", "label").rows()) == {(2, 1)}  # of one pair of margin 1


def test_equal_strengths_share_a_rank_or_stand_in_order_or_once(world):
    made = world(2, 3)
    strengths = made["strengths"].with_columns(pl.col("strength").clip(upper_bound=0.0))
    whole = [made["prompts"], made["completions"], strengths]
    for ties, ranks in (("share", [1, 1, 3]), ("order", [1, 2, 3]), ("drop", [1, 2])):
        rows = listwise(*whole, ties=ties)
        assert rows["ranks"].to_list() == [ranks] * 2
        for row in rows.rows(named=True):
            best = [i for i, s in zip(row["completion_ids"], row["scores"], strict=True) if s == 0]
            assert best == sorted(best)
