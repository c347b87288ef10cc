"""A model's own samples are on policy, others are not, and length is no part of it."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate.ches import similarity
from prefdata.estimate.on_policyness import on_policyness


def worlds(world: Any, n_prompts: int, n_own: int, per_token: Any, lengths: Any) -> dict[str, Any]:
    """Of each prompt the first `n_own` are the model's own, the last is somebody else's."""
    made = world(n_prompts, n_own + 1)
    completions = made["completions"].with_columns(
        at=pl.int_range(pl.len()).over(
            "prompt_id", order_by=pl.col("completion").list.first().struct.field("content")
        )
    )
    samples = completions.select(
        "completion_id",
        "prompt_id",
        generator=pl.when(pl.col("at") < n_own).then(pl.lit("policy")).otherwise(pl.lit("other")),
        draw=pl.lit(0),
    )
    completions = completions.sort("at", "prompt_id")
    values = {"logp_per_token": per_token, "logp": per_token * lengths}
    frames = [
        pl.DataFrame(
            {
                "subject_id": completions["completion_id"],
                "subject": "completion",
                "score": name,
                "model": "policy",
                "value": value,
            }
        )
        for name, value in values.items()
    ]
    made["samples"] = tables.check("samples", samples, where="test")
    made["scores"] = tables.check("scores", pl.concat(frames), where="test")
    made["own"] = samples.filter(pl.col("generator") == "policy")["completion_id"]
    return made


def z_of(scores: pl.DataFrame) -> pl.DataFrame:
    return scores.filter(pl.col("score") == "on_policy_z")


@pytest.mark.parametrize("n_own", [3, 8])
def test_own_samples_are_standard_normal_however_few(world: Any, n_own: int):
    draw = np.random.default_rng(0)
    n = 600
    centre = np.tile(draw.normal(-2, 1, n), n_own + 1)
    values = centre + draw.normal(0, 0.2, n * (n_own + 1))
    values[-n:] -= 2.0  # somebody else's: ten deviations away
    lengths = draw.integers(5, 300, len(values))
    made = worlds(world, n, n_own, values, lengths)
    scores = on_policyness(made["completions"], made["samples"], made["scores"], generator="policy")
    tables.check("scores", scores, where="test")
    z = z_of(scores)
    is_own = pl.col("subject_id").is_in(made["own"].implode())
    own, other = z.filter(is_own)["value"], z.filter(~is_own)["value"]
    assert 0.93 < (own.abs() < 2).mean() < 0.97
    # One of each prompt: those of one prompt are compared with each other.
    assert kstest(own.gather_every(n_own).to_numpy(), "norm").pvalue > 1e-3
    assert (other < -2).mean() > (0.6 if n_own == 3 else 0.99)


def test_gradients_and_scenarios_of_pairs(world: Any):
    draw = np.random.default_rng(1)
    n, n_own = 50, 6
    values = np.tile(draw.normal(-2, 1, n), n_own + 1) + draw.normal(0, 0.1, n * (n_own + 1))
    values[-n:] -= 3.0
    lengths = np.full(len(values), 10)
    made = worlds(world, n, n_own, values, lengths)
    scores = on_policyness(
        made["completions"], made["samples"], made["scores"], made["pairs"], generator="policy"
    )
    given = made["scores"]
    assert given.join(scores, on=given.columns, how="anti", nulls_equal=True).is_empty()
    logp = dict(
        made["scores"].filter(pl.col("score") == "logp").select("subject_id", "value").iter_rows()
    )
    z = dict(z_of(scores).select("subject_id", "value").iter_rows())
    ratio, scenario = (
        dict(scores.filter(pl.col("score") == name).select("subject_id", "value").iter_rows())
        for name in ("log_gradient_ratio", "policy_scenario")
    )
    assert len(ratio) == made["pairs"].height
    for pair, won, lost in made["pairs"].select("pair_id", "chosen_id", "rejected_id").iter_rows():
        assert ratio[pair] == pytest.approx(logp[won] - logp[lost])
        on = (z[won] >= -2, z[lost] >= -2)
        assert scenario[pair] == {
            (True, True): 1, (True, False): 2, (False, True): 3, (False, False): 4,
        }[on]  # fmt: skip
    assert set(scenario.values()) >= {1.0, 3.0}


def test_the_gradient_ratio_is_that_of_the_loss():
    """d loss / d pi- over d loss / d pi+ by differences, on any two probabilities."""
    beta, one, other = 0.1, 0.03, 0.0007

    def loss(a: float, b: float) -> float:
        return float(np.log1p(np.exp(-beta * np.log(a / b))))

    step = 1e-9
    by_one = (loss(one + step, other) - loss(one - step, other)) / (2 * step)
    by_other = (loss(one, other + step) - loss(one, other - step)) / (2 * step)
    assert abs(by_other / by_one) == pytest.approx(np.exp(np.log(one) - np.log(other)), rel=1e-4)


def test_too_few_own_samples_give_no_score_and_missing_ones_are_named(world: Any):
    values = np.array([-1.0, -2.0, -1.5, -3.0, -1.1, -2.2])
    made = worlds(world, 2, 2, values, np.ones(6))
    scores = on_policyness(made["completions"], made["samples"], made["scores"], generator="policy")
    assert z_of(scores).height == 2  # of an own one there is a single other
    with pytest.raises(RecipeError, match="log_likelihood"):
        on_policyness(
            made["completions"],
            made["samples"],
            made["scores"]
            .filter(pl.col("score") == "nothing")
            .vstack(made["scores"].head(1).with_columns(score=pl.lit("else"))),
            generator="policy",
        )


def test_a_name_that_is_not_there_and_models_to_choose_from_are_named(world: Any):
    made = worlds(world, 2, 3, np.linspace(-3, -1, 8), np.ones(8))
    given = (made["completions"], made["samples"])
    with pytest.raises(RecipeError, match=r"'logp' by 'polcy'; did you mean 'policy'"):
        on_policyness(*given, made["scores"], generator="policy", model="polcy")
    with pytest.raises(RecipeError, match="no sample is by the generator 'me'"):
        on_policyness(*given, made["scores"], generator="me")
    # Each gave numbers of its own completions: they are two scales all the same.
    others = pl.int_range(pl.len()) < 8
    model = pl.when(others).then(pl.lit("another")).otherwise("model")
    mixed = made["scores"].sort("score", "subject_id").with_columns(model=model)
    with pytest.raises(RecipeError, match="'logp' is by another, policy; say whose by model"):
        on_policyness(*given, pl.concat([mixed, made["scores"]]), generator="policy")


@pytest.mark.parametrize("alike", [True, False])
def test_what_training_on_one_pair_does_to_ten_responses(alike: bool):
    """A softmax over features, trained by DPO's gradient: the rejected side collapses first.

    Then its gradient is all there is. Where the two sides are alike (CHES above 0) the chosen falls
    too, and mass goes to responses that are in neither.
    """
    other = [1.6, -0.3, 0.0, 0.0] if alike else [-0.8, 0.3, 0.0, 0.0]
    features = np.zeros((10, 4))
    features[0], features[1] = [1.0, 0.3, 0.0, 0.0], other
    features[2:, 2:] = np.random.default_rng(0).normal(0, 0.3, (8, 2))
    ches, _ = similarity(features[:1], features[1:2], np.ones(1), np.ones(1))
    assert (ches[0] > 0) == alike
    beta, weights, path, ratios = 0.1, np.zeros(4), [], []
    home = log_softmax(features @ weights)

    def loss(chosen: Any, rejected: Any) -> Any:
        margin = np.log(chosen / rejected) - (home[0] - home[1])
        return np.log(1 + np.exp(-beta * margin))

    for _ in range(400):
        log_pi = log_softmax(features @ weights)
        pi = np.exp(log_pi)
        path.append(pi)
        # Complex steps: derivatives without a rounded difference.
        by_chosen = loss(pi[0] + 1e-30j, pi[1]).imag / 1e-30
        by_rejected = loss(pi[0], pi[1] + 1e-30j).imag / 1e-30
        ratios.append(-by_rejected / by_chosen)
        assert ratios[-1] == pytest.approx(np.exp(log_pi[0] - log_pi[1]), rel=1e-6)
        slope = -pi[0] * by_chosen  # of -loss by log pi(chosen)
        weights += 0.5 * slope * (features[0] - features[1])
    chosen, rejected, unseen = (
        np.array([each[at].sum() for each in path]) for at in ([0], [1], list(range(2, 10)))
    )
    assert (np.diff(ratios) > 0).all()
    assert rejected[-1] / rejected[0] < 0.01
    assert rejected[-1] / rejected[0] < 0.1 * chosen[-1] / chosen[0]
    assert (chosen[-1] < 0.1 * chosen[0]) == alike
    assert (unseen[-1] > 0.95) == alike
    assert (chosen[-1] > chosen[0]) != alike


def log_softmax(logits: Any) -> Any:
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
