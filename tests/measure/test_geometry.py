"""Bandits of a hundred arms whose reward peaks where the reference samples, or elsewhere."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.measure.geometry import geometry
from tests.measure.arms import bandit, row, scored

Floats = NDArray[np.float64]
ARMS = np.arange(100)


def bell(centre: float, width: float) -> Floats:
    return np.exp(-(((ARMS - centre) / width) ** 2))


REFERENCE = bell(20, 14) / bell(20, 14).sum()
ANYWHERE = np.full(100, 0.01)
ALIGNED, ELSEWHERE = bell(20, 10), bell(70, 10)


def measured(reward: Floats, seed: int = 0, *, every_arm: bool = False, **how: Any) -> pl.DataFrame:
    world = bandit(3, 100, {"ref": REFERENCE, "explorer": ANYWHERE}, 64, seed)
    values = {
        ("logp", "ref"): np.log(REFERENCE),
        ("n_tokens", "ref"): ARMS + 1.0,
        ("reward", "rm"): reward,
    }
    given = {"reference": "ref", **how}
    completions = world["completions"]
    if not every_arm:
        drawn = world["samples"]["completion_id"].unique().implode()
        completions = completions.filter(pl.col("completion_id").is_in(drawn))
    measures = geometry(
        completions, world["samples"], scored(world, values), world["prompts"], **given
    )
    return t.check("measures", measures, where="test")


@pytest.mark.parametrize(("reward", "advice"), [(ALIGNED, 0.0), (ELSEWHERE, 1.0)])
def test_the_advice_is_right_in_twenty_of_twenty_worlds(reward: Floats, advice: float):
    told = [row(measured(reward, seed), "collect_on_policy")["value"] for seed in range(20)]
    assert told == [advice] * 20


def test_a_constant_for_each_prompt_and_a_scale_change_nothing():
    reward = -abs(ARMS - 70.0)
    one, other = measured(reward), measured(3 * reward - 100)
    assert one.equals(other)


def test_where_the_best_stand_in_the_references_eyes():
    assert row(measured(ALIGNED), "reference_rank_of_best")["value"] < 0.05
    assert row(measured(ELSEWHERE), "reference_rank_of_best")["value"] > 0.5
    assert row(measured(ALIGNED), "likelihood_score_correlation")["value"] > 0.9
    assert row(measured(ELSEWHERE), "likelihood_score_correlation")["low"] < 0


@pytest.mark.parametrize(
    ("reward", "sign"),
    [(-1.0 * ARMS, -1), (1.0 * ARMS, 1), (bell(50, 20), 0)],
    ids=["short is better", "long is better", "a length in the middle"],
)
def test_the_sign_of_length_is_the_one_that_was_built_in(reward: Floats, sign: int):
    world = measured(reward)
    found = row(world, "length_score_correlation")["value"]
    if sign:
        assert found == pytest.approx(sign)
    else:
        assert abs(found) < 0.7


def test_the_peak_is_looked_for_in_the_references_own_draws():
    """Two of a hundred arms are best, one of them far away: what counts is how often it draws them.

    How many of the candidates are best does not.
    """
    reward = np.isin(ARMS, [20, 90]).astype(float)
    worlds = [measured(reward, seed, every_arm=True) for seed in range(8)]
    shares = [row(each, "peak_mass")["value"] for each in worlds]
    assert np.mean(shares) == pytest.approx(REFERENCE[[20, 90]].sum(), abs=0.02)


def test_how_many_sides_the_policy_drew():
    world = bandit(4, 100, {"ref": REFERENCE, "pi": np.roll(REFERENCE, 60)}, 8)
    ids = world["ids"]
    pairs = pl.DataFrame(
        {
            "prompt_id": world["prompts"]["prompt_id"],
            "chosen_id": [ids[at, 80] for at in range(4)],
            "rejected_id": [ids[at, 5] for at in range(4)],
            "soft_label": 1.0,
            "n_votes": 1,
        }
    )
    pairs = pairs.with_columns(t.pair_ids(pairs["chosen_id"], pairs["rejected_id"]))
    pairs = t.check("pairs", pairs, where="test")
    own = world["samples"].filter(pl.col("generator") == "pi")["completion_id"]
    sides = pl.concat([pairs["chosen_id"], pairs["rejected_id"]])
    values = {
        ("logp", "ref"): np.log(REFERENCE),
        ("n_tokens", "ref"): ARMS + 1.0,
        ("reward", "rm"): ALIGNED,
    }
    measures = geometry(
        world["completions"],
        world["samples"],
        scored(world, values),
        None,
        pairs,
        reference="ref",
        policies=["pi"],
    )
    assert row(measures, "on_policy_share")["value"] == sides.is_in(own.implode()).mean()
    assert row(measures, "data_age")["value"] == 0
    assert row(measures, "reuse_count")["value"] == 1
    with pytest.raises(RecipeError, match="'rewards'"):
        geometry(
            world["completions"],
            world["samples"],
            scored(world, values),
            reference="ref",
            score="rewards",
        )


def test_how_old_the_sides_of_pairs_are_and_how_often_one_is_used():
    """Three states of a policy, each of which draws an arm of its own; one arm is nobody's."""
    states = [np.eye(100)[at] for at in (10, 20, 30)]
    world = bandit(2, 100, {"ref": REFERENCE, **dict(zip("abc", states, strict=True))}, 40)
    ids = world["ids"]
    # By prompt: chosen and rejected, with the policies that come after the one that drew each.
    sides = [(30, 20), (30, 10), (30, 99), (20, 10)]
    later = {30: 0, 20: 1, 10: 2}
    pairs = pl.DataFrame(
        {
            "prompt_id": [p for p in world["prompts"]["prompt_id"] for _ in sides],
            "chosen_id": [ids[at, one] for at in (0, 1) for one, _ in sides],
            "rejected_id": [ids[at, other] for at in (0, 1) for _, other in sides],
            "soft_label": 1.0,
            "n_votes": 1,
        }
    )
    pairs = pairs.with_columns(t.pair_ids(pairs["chosen_id"], pairs["rejected_id"]))
    values = {("logp", "ref"): np.log(REFERENCE), ("n_tokens", "ref"): ARMS + 1.0}
    scores = scored(world, {**values, ("reward", "rm"): ALIGNED})
    given = (world["completions"], world["samples"], scores, world["prompts"])
    told = geometry(
        *given, t.check("pairs", pairs, where="test"), reference="ref", policies=["a", "b", "c"]
    )
    ages = [later[arm] for both in sides for arm in both if arm in later]
    assert row(told, "data_age")["value"] == pytest.approx(np.mean(ages))
    assert row(told, "on_policy_share")["value"] == pytest.approx(len(ages) / (2 * len(sides)))
    # Eight places of four completions, at each prompt.
    assert row(told, "reuse_count")["value"] == pytest.approx(2 * len(sides) / 4)
    backwards = geometry(
        *given, t.check("pairs", pairs, where="test"), reference="ref", policies=["c", "b", "a"]
    )
    ages = [2 - age for age in ages]
    assert row(backwards, "data_age")["value"] == pytest.approx(np.mean(ages))


def train(reward: Floats, how: str, seed: int, steps: int = 300, n: int = 64) -> float:
    """The mean reward of a log-quadratic policy, trained from the reference on."""
    random = np.random.default_rng(seed)
    place = (ARMS - 50) / 50
    features = np.stack([place, place**2], axis=1)
    weights, beta = np.zeros(2), 0.1
    fixed = random.choice(100, size=(steps, n, 2), p=REFERENCE)
    for at in range(steps):
        moved = features @ weights
        pi = softmax(np.log(REFERENCE) + moved)
        drawn = random.choice(100, size=(n, 2), p=pi) if how == "on-policy" else fixed[at]
        better = reward[drawn[:, 0]] >= reward[drawn[:, 1]]
        won, lost = (np.where(better, drawn[:, k], drawn[:, 1 - k]) for k in (0, 1))
        gradient = np.zeros(100)
        if how == "likelihood":  # of the better half
            np.add.at(gradient, won, 1 / n)
            gradient -= pi
        else:
            slope = (won != lost) * sigmoid(beta * (moved[lost] - moved[won])) / n
            np.add.at(gradient, won, slope)
            np.add.at(gradient, lost, -slope)
        weights += features.T @ gradient
    return float(softmax(np.log(REFERENCE) + features @ weights) @ reward)


def softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def sigmoid(margin: Floats) -> Floats:
    return 1 / (1 + np.exp(-margin))


def test_training_bears_the_advice_out():
    """Elsewhere: fresh samples beat old ones, which beat likelihood; at home old ones suffice."""
    gained = {
        how: np.array([train(ELSEWHERE, how, seed) for seed in range(5)])
        for how in ("on-policy", "offline", "likelihood")
    }
    assert (gained["on-policy"] > gained["offline"] + 0.1).all()
    assert (gained["offline"] > gained["likelihood"] + 0.1).all()
    near = [np.mean([train(ALIGNED, how, seed) for seed in range(5)]) for how in gained]
    assert np.ptp(near) < 0.05
