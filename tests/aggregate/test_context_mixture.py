import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.context_mixture import context_mixture
from prefdata.errors import RecipeError
from tests.measure.test_context_mixture import Mixed, mixed


def value(given: Mixed, **options) -> dict[str, float]:
    """What is preferred of each group: P(its text x)."""
    made = context_mixture(given.votes, given.completions, given.prompts, given.scores, **options)
    made = tables.check("scores", made, where="test")
    assert set(made["score"]) == {"preference"}
    of = dict(made.select("subject_id", "value").rows())
    return {
        group: of[pair] if x_first else 1 - of[pair]
        for group, (pair, x_first) in given.bare.items()
        if pair in of
    }


def test_the_marginal_preference_is_recovered_from_three_contexts():
    """5,000 votes under three contexts of known weights: within 0.02 of the sum over them."""
    weights, truth = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.2, 0.6])
    given = mixed(1, weights[None], truth[None], n_votes=1667, seed=3)
    (found,) = value(given, weights="likely").values()
    assert found == pytest.approx(float(weights @ truth), abs=0.02)
    (alike,) = value(given).values()
    assert alike == pytest.approx(float(truth.mean()), abs=0.02)


def test_scaling_weights_order_and_the_way_round_change_nothing(shuffled):
    draw = np.random.default_rng(0)
    given = mixed(20, draw.dirichlet([1, 1, 1], 20), draw.random((20, 3)), n_votes=0)
    one = value(given, weights="likely")
    assert len(one) == 20
    scaled = given._replace(scores=given.scores.with_columns(pl.col("value") * 7))
    assert value(scaled, weights="likely") == pytest.approx(one)
    mixed_up = given._replace(
        votes=shuffled(given.votes, 1), prompts=shuffled(given.prompts, 2),
        completions=shuffled(given.completions, 3),
    )  # fmt: skip
    assert value(mixed_up, weights="likely") == one


def test_texts_of_which_a_context_has_no_weight_or_no_vote_are_left_out():
    given = mixed(3, np.full((3, 2), 0.5), np.array([[1.0, 0.0]] * 3), n_votes=0)
    contexts = given.prompts.filter(pl.col("tags").is_not_null()).sort("group")["prompt_id"]
    fewer = given._replace(scores=given.scores.filter(pl.col("subject_id") != contexts[0]))
    assert set(value(fewer, weights="likely")) == {"g1", "g2"}
    # A judge who voted under one of two contexts does not stand for both.
    half = given.votes.filter(pl.col("prompt_id") != contexts[0]).with_columns(
        annotator=pl.lit("llm:half"), preference=pl.lit(1.0)
    )
    both = given._replace(votes=tables.union("votes", given.votes, half, where="test"))
    assert value(both)["g0"] == value(given)["g0"]
    assert value(given, annotators=["llm:j"]) == value(given)


def test_mistakes_are_named():
    given = mixed(2, np.full((2, 2), 0.5), np.full((2, 2), 0.5), n_votes=0)
    with pytest.raises(RecipeError, match="'llm:k'; did you mean 'llm:j'"):
        value(given, annotators=["llm:k"])
    with pytest.raises(RecipeError, match="'likly'; did you mean 'likely'"):
        value(given, weights="likly")
    below = given._replace(scores=given.scores.with_columns(value=pl.lit(-1.0)))
    with pytest.raises(RecipeError, match="below 0"):
        value(below, weights="likely")
