import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.export.binary import binary
from prefdata.order.matching_weights import fit_logistic, matching_weights
from prefdata.stage import Model
from tests.conftest import make_world

MODEL = Model("embedder", "e", "e")


def thumbs(up_share, n=400, seed=0):
    """One completion a prompt; topic 1 prompts have thumbs up at `up_share[1]`, topic 0 at [0]."""
    draw = np.random.default_rng(seed)
    made = make_world(n, 1)
    rows = made["completions"].sort("completion_id")
    topic = draw.integers(0, 2, rows.height)
    up = draw.random(rows.height) < np.where(topic == 1, up_share[1], up_share[0])
    ratings = rows.select(
        "completion_id", "prompt_id", draw=0,
        annotator=pl.lit("human:u"), criterion=pl.lit("thumb"),
        rating=pl.Series(up.astype(float)),
    )  # fmt: skip
    made["ratings"] = tables.check("ratings", ratings, where="test")
    return made, dict(zip(rows["prompt_id"], topic.tolist(), strict=True))


def run(made, topics, **options):
    prompts = made["prompts"]
    running = matching_weights(
        prompts, made["completions"], None, made["ratings"], model=MODEL, **options
    )
    asked = next(running)
    of = dict(
        zip([str(each) for each in prompts["prompt"].to_list()], prompts["prompt_id"], strict=True)
    )
    noise = np.random.default_rng(1)
    vectors = [
        [4.0 * topics[of[str(turns)]] - 2.0, *noise.normal(size=3) * 0.1]
        for turns in asked["messages"].to_list()
    ]
    answers = tables.empty("responses").clear(asked.height).with_columns(
        asked["request_id"], vector=pl.Series(vectors, dtype=pl.List(pl.Float64))
    )  # fmt: skip
    with pytest.raises(StopIteration) as stopped:
        running.send(answers)
    return stopped.value.value.pivot("score", index="subject_id", values="value")


def test_the_down_rows_are_brought_to_the_topics_of_the_up_rows():
    made, topics = thumbs((0.2, 0.8), n=1500)
    scores = run(made, topics, bounds=(0.05, 20.0))  # the true ratios are 4 and 1/4
    rows = scores.join(made["ratings"], left_on="subject_id", right_on="completion_id")
    topic = pl.Series([topics[id] for id in rows["prompt_id"]], dtype=pl.Float64)
    up = rows["rating"] == 1
    share_up = topic.filter(up).mean()
    weight = rows["matching_weight"].filter(~up)
    share_down = (topic.filter(~up) * weight).sum() / weight.sum()
    assert abs(topic.filter(~up).mean() - share_up) > 0.5
    assert share_down == pytest.approx(share_up, abs=0.03)
    assert (rows["matching_weight"].filter(up) == 1).all()


def test_where_both_come_from_the_same_prompts_weights_are_about_one():
    made, topics = thumbs((0.3, 0.3), n=1500, seed=2)
    weights = run(made, topics)["matching_weight"]
    assert abs(weights.mean() - 1) < 0.05
    assert weights.min() >= 0.5


def test_bounds_hold_and_the_export_takes_the_weight():
    made, topics = thumbs((0.02, 0.98))
    wide = run(made, topics, bounds=(0.8, 2.0))
    assert wide["matching_weight"].is_between(0.8, 2.0).all()
    scores = wide.unpivot(index="subject_id", variable_name="score", value_name="value")
    scores = scores.with_columns(subject=pl.lit("completion"), model=pl.lit("e"))
    scores = tables.check("scores", scores, where="test")
    rows = binary(
        made["prompts"], made["completions"], None, None, made["ratings"], scores,
        by="ratings", weights="matching_weight",
    )  # fmt: skip
    known = dict(wide.select("subject_id", "matching_weight").rows())
    assert dict(rows.select("completion_id", "weight").rows()) == pytest.approx(known, abs=1e-9)


def test_the_fit_is_at_its_optimum():
    draw = np.random.default_rng(5)
    x, up = draw.normal(size=(300, 3)), (draw.random(300) < 0.3).astype(float)
    theta = fit_logistic(x, up, ridge=2.0)
    weight = np.where(up > 0, 150 / up.sum(), 150 / (300 - up.sum()))
    p = 1 / (1 + np.exp(-(x @ theta[:-1] + theta[-1])))
    slope = x.T @ (weight * (p - up)) + 2.0 * theta[:-1]
    assert np.abs(slope).max() < 1e-3
    assert abs(weight @ (p - up)) < 1e-3


def test_options_out_of_range():
    made, _ = thumbs((0.5, 0.5), n=4)
    for options in ({"folds": 1}, {"ridge": 0.0}, {"bounds": (2.0, 1.0)}, {"by": "strengths"}):
        with pytest.raises(RecipeError, match="folds at least 2"):
            next(matching_weights(made["prompts"], made["completions"], None, made["ratings"],
                                  model=MODEL, **options))  # fmt: skip
