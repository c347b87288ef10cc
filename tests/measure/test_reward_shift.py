import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.reward_shift import reward_shift


def of(world, ups, downs):
    """Both shifts where desirable completions have the rewards `ups`, the others `downs`."""
    made = world(len(ups) + len(downs), 1)
    rows = made["completions"].sort("completion_id").select("completion_id", "prompt_id")
    label = [1.0] * len(ups) + [0.0] * len(downs)
    ratings = rows.with_columns(
        annotator=pl.lit("human:u"), criterion=pl.lit("thumb"), draw=0, rating=pl.Series(label)
    )
    scores = rows.select(
        subject_id="completion_id", subject=pl.lit("completion"), score=pl.lit("implicit_reward"),
        model=pl.lit("m"), value=pl.Series([*ups, *downs], dtype=pl.Float64),
    )  # fmt: skip
    ratings = tables.check("ratings", ratings, where="test")
    scores = tables.check("scores", scores, where="test")
    made_ = reward_shift(made["prompts"], made["completions"], scores, None, ratings, by="ratings")
    return dict(made_.select("measure", "value").rows()), made_, made, scores


def test_pooled_and_balanced_differ_where_one_kind_is_rare(world):
    found, rows, *_ = of(world, [2.0] * 4, [0.0])
    assert found == {"reward_shift_pooled": 1.6, "reward_shift_balanced": 1.0}
    assert set(rows["n"]) == {5}
    even, *_ = of(world, [2.0] * 3, [0.0] * 3)
    assert even["reward_shift_pooled"] == even["reward_shift_balanced"] == 1.0


def test_with_one_kind_only_there_is_no_balance(world):
    found, *_ = of(world, [2.0, 4.0], [])
    assert found == {"reward_shift_pooled": 3.0, "reward_shift_balanced": None}


def test_a_misspelt_score_names_the_nearest(world):
    _, _, made, scores = of(world, [1.0], [0.0])
    with pytest.raises(RecipeError, match="did you mean 'implicit_reward'"):
        reward_shift(made["prompts"], made["completions"], scores, score="implicit_rewards")
