"""Lengths that tell the label, margins that do not grow with them, how far a policy has gone."""

from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.measure.length_and_kl import area, length_and_kl
from tests.measure.arms import bandit, row, scored


def world_of(
    chosen: Any, rejected: Any, logps: dict[str, tuple[Any, Any]] | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs with these numbers of tokens, and each model's log-probabilities of either side."""
    n = len(chosen)
    ids = np.array([f"c{at:05}" for at in range(2 * n)])
    pairs = pl.DataFrame(
        {
            "pair_id": [f"p{at:05}" for at in range(n)],
            "prompt_id": [f"q{at // 2:05}" for at in range(n)],
            "chosen_id": ids[:n],
            "rejected_id": ids[n:],
            "soft_label": 1.0,
            "n_votes": 1,
        }
    )
    values = {("n_tokens", "ref"): (chosen, rejected)}
    nothing = (np.zeros(n), np.zeros(n))
    values |= {("logp", who): each for who, each in {"ref": nothing, **(logps or {})}.items()}
    frames = [
        pl.DataFrame(
            {
                "subject_id": ids,
                "subject": "completion",
                "score": score,
                "model": model,
                "value": np.concatenate(sides).astype(float),
            }
        )
        for (score, model), sides in values.items()
    ]
    scores = t.check("scores", pl.concat(frames), where="test")
    return t.check("pairs", pairs, where="test"), scores


def test_what_length_alone_tells_is_what_was_planted():
    """P(longer) of two normal lengths is known, with one length a pair or over all pairs."""
    draw = np.random.default_rng(0)
    n, apart = 4000, 12.0
    chosen, rejected = draw.normal(200 + apart, 20, n), draw.normal(200, 20, n)
    pairs, scores = world_of(chosen, rejected)
    measures = t.check("measures", length_and_kl(pairs, scores, reference="ref"), where="test")
    expected = NormalDist().cdf(apart / 20 / np.sqrt(2))
    for name in ("length_only_auc", "longer_chosen"):
        found = row(measures, name)
        assert abs(found["value"] - expected) < 3 * found["stderr"]
        assert found["low"] < found["value"] < found["high"]
    labels = np.repeat([1, 0], n)
    whole = np.concatenate([chosen, rejected])
    assert row(measures, "length_only_auc")["value"] == pytest.approx(roc_auc_score(labels, whole))
    expected = np.corrcoef(labels, whole)[0, 1]
    assert row(measures, "length_label_correlation")["value"] == pytest.approx(expected)
    assert row(measures, "tokens_q50", "chosen")["value"] == pytest.approx(np.median(chosen))
    assert row(measures, "tokens_q95", "rejected")["value"] == pytest.approx(
        np.quantile(rejected, 0.95)
    )


def test_errors_of_the_area_are_those_of_new_draws():
    draw = np.random.default_rng(1)
    values, errors = [], []
    for _ in range(1500):
        shared = draw.normal(0, 1, 150)  # sides of one pair are alike
        chosen = np.round(100 + 10 * (0.4 + draw.normal(0, 1, 150) + shared))
        rejected = np.round(100 + 10 * (draw.normal(0, 1, 150) + shared))
        value, moved = area(chosen, rejected)
        values.append(value)
        errors.append(np.sqrt((moved**2).sum()) / 150)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.07)


def test_sides_of_equal_lengths_tell_nothing():
    pairs, scores = world_of(np.full(8, 5), np.full(8, 5))
    measures = length_and_kl(pairs, scores, reference="ref")
    assert row(measures, "length_only_auc")["value"] == 0.5
    assert row(measures, "longer_chosen")["value"] == 0.5
    assert row(measures, "length_label_correlation")["value"] is None


def test_a_text_said_twice_doubles_the_margin_and_not_the_normalised_one():
    draw = np.random.default_rng(2)
    n = 40
    tokens = draw.integers(3, 60, (2, n)).astype(float)
    here, home = (tuple(tokens * draw.normal(-2, 0.3, (2, n))) for _ in range(2))
    once = world_of(*tokens, {"pi": here, "ref": home})
    double = [tuple(2 * side for side in each) for each in (here, home)]
    twice = world_of(*(2 * tokens), {"pi": double[0], "ref": double[1]})
    a, b = (length_and_kl(*each, reference="ref", policies=["pi"]) for each in (once, twice))
    for name, factor in (("dpo_margin", 2), ("ln_dpo_margin", 1)):
        assert row(b, name)["value"] == pytest.approx(factor * row(a, name)["value"])
    by_hand = (here[0] - home[0]) / tokens[0] - (here[1] - home[1]) / tokens[1]
    assert row(a, "ln_dpo_margin")["value"] == pytest.approx(by_hand.mean(), abs=1e-6)
    # Each side by its own length: the difference over one of them is another number.
    wrong = ((here[0] - home[0]) - (here[1] - home[1])) / tokens[0]
    assert abs(wrong.mean() - by_hand.mean()) > 1e-3


def test_the_divergence_of_a_known_policy():
    policy, reference = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    world = bandit(400, 3, {"pi": policy, "ref": reference}, 5)
    values = {
        ("logp", "pi"): np.log(policy),
        ("logp", "ref"): np.log(reference),
        ("n_tokens", "ref"): np.array([2.0, 4.0, 8.0]),
    }
    none = t.check("pairs", t.empty("pairs"), where="test")
    measures = length_and_kl(
        none, scored(world, values), world["samples"], world["prompts"],
        reference="ref", policies=["pi"],
    )  # fmt: skip
    per_token = policy * np.log(policy / reference) / np.array([2, 4, 8])
    for name, exact in (
        ("kl_to_reference", (policy * np.log(policy / reference)).sum()),
        ("kl_to_reference_per_token", per_token.sum()),
    ):
        found = row(measures, name, "pi")
        assert abs(found["value"] - exact) < 3 * found["stderr"]
        assert found["n"] == 2000
    assert row(measures, "tokens_q50", "drawn by pi")["value"] == 2
    assert row(measures, "tokens_q95", "drawn by ref")["value"] == 8


def test_swapping_the_sides_turns_everything_around(shuffled: Any):
    draw = np.random.default_rng(4)
    tokens = draw.integers(3, 60, (2, 50)).astype(float)
    here, home = (tuple(tokens * draw.normal(-2, 0.3, (2, 50))) for _ in range(2))
    pairs, scores = world_of(*tokens, {"pi": here, "ref": home})
    turned = pairs.with_columns(chosen_id="rejected_id", rejected_id="chosen_id")
    given: dict[str, Any] = {"reference": "ref", "policies": ["pi"]}
    one, other = (length_and_kl(shuffled(each, 3), scores, **given) for each in (pairs, turned))
    for name in ("dpo_margin", "ln_dpo_margin", "length_label_correlation"):
        assert row(one, name)["value"] == pytest.approx(-row(other, name)["value"])
    for name in ("length_only_auc", "longer_chosen"):
        assert row(one, name)["value"] == pytest.approx(1 - row(other, name)["value"])
    with pytest.raises(RecipeError, match=r"estimate\.log_likelihood"):
        length_and_kl(pairs, scores.filter(pl.col("score") != "n_tokens"), reference="ref")
