"""A model's own samples are on policy, others are not, and length is no part of it."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest

from prefdata import tables
from prefdata.errors import RecipeError
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
