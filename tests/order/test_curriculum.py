import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.order.curriculum import curriculum
from prefdata.pair.best_vs_rest import best_vs_rest


def wide(scores):
    return scores.pivot("score", index="subject_id", values="value").rename(
        {"subject_id": "pair_id"}
    )


def test_the_greatest_gap_of_each_prompt_comes_first(world):
    made = world(10, 4)
    pairs, _ = best_vs_rest(made["strengths"])
    pairs = tables.check("pairs", pairs, where="test")
    rows = wide(curriculum(pairs)).join(pairs, on="pair_id")
    assert (rows["ease"] == rows["margin"]).all()
    for (_,), own in rows.group_by("prompt_id"):
        assert own.sort("stage")["stage"].to_list() == [1, 2, 3]
        assert own.sort("stage")["margin"].to_list() == [3.0, 2.0, 1.0]


def test_a_hard_prompt_is_in_the_first_stage_too(world):
    """Cut in thirds over all prompts, a prompt of small gaps would be in the last stage only."""
    made = world(6, 3)
    small = made["prompts"]["prompt_id"][0]
    margin = pl.when(pl.col("prompt_id") == small).then(pl.col("margin") / 100).otherwise("margin")
    pairs = made["pairs"].with_columns(margin=margin)
    rows = wide(curriculum(pairs)).join(pairs, on="pair_id").filter(pl.col("prompt_id") == small)
    assert sorted(rows["stage"]) == [1, 2, 3]


def test_by_the_gap_of_log_probabilities(world):
    made = world(4, 3)
    ids = made["pairs"]["pair_id"]
    frames = [
        pl.DataFrame({"subject_id": ids, "subject": "pair", "score": name, "model": "m",
                      "value": [sign * float(at) for at in range(len(ids))]})
        for name, sign in (("ref_logp_chosen", -1), ("ref_logp_rejected", 1))
    ]  # fmt: skip
    scores = tables.check("scores", pl.concat(frames), where="test")
    made_scores = curriculum(made["pairs"], scores, by="logp_gap")
    ease = dict(made_scores.filter(pl.col("score") == "ease").select("subject_id", "value").rows())
    assert ease == {id: 2.0 * at for at, id in enumerate(ids)}
    assert made_scores.filter(pl.col("score") == "ref_logp_chosen").height == len(ids)  # all stay
    with pytest.raises(RecipeError, match="did you mean 'ref_logp_chosen'"):
        curriculum(made["pairs"], scores, by="ref_logp_chose")


def test_controls(world):
    pairs = world(10, 3)["pairs"]
    assert set(wide(curriculum(pairs, by="merged"))["stage"]) == {1}
    one, other = (wide(curriculum(pairs, by="random", seed=seed)) for seed in (1, 2))
    assert sorted(one["stage"]) == sorted(other["stage"])
    assert not one.sort("pair_id")["stage"].equals(other.sort("pair_id")["stage"])


def test_what_is_not_there_is_named(world):
    pairs = world(2, 2)["pairs"]
    with pytest.raises(RecipeError, match="no stage before made scores"):
        curriculum(pairs, by="ches")
    with pytest.raises(TableError, match="no pair has a margin"):
        curriculum(pairs.with_columns(margin=pl.lit(None, pl.Float64)))


def test_doing_it_again_changes_nothing_and_rows_may_stand_anyhow(world, shuffled):
    pairs = world(5, 4)["pairs"]
    once = curriculum(pairs)
    again = curriculum(shuffled(pairs, 1), once)
    key = ["subject_id", "score"]
    assert once.sort(key).equals(again.sort(key))
