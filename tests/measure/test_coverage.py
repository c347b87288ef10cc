"""Bandits of which everything is known: divergences, effective draws and what the data lack."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.measure._likelihoods import averages
from prefdata.measure.coverage import coverage, effective_share
from prefdata.stage import Model, drive
from prefdata.tables import Requests, Responses
from tests.measure.arms import bandit, row, scored

POLICY = np.array([0.35, 0.25, 0.2, 0.2])
REFERENCE = np.array([0.4, 0.3, 0.25, 0.05])
DATASET = np.array([0.5, 0.3, 0.2, 0.0])
EMBEDDER = Model("embedder", "embedder", "one-hot", {})


def one_hot(requests: Requests) -> Responses:
    """Each arm in a direction of its own."""
    arms = [int(turns[0]["content"].split()[1]) for turns in requests["messages"].to_list()]
    vectors = np.eye(max(arms) + 1)[arms].tolist()
    frame = pl.DataFrame({"request_id": requests["request_id"], "vector": vectors})
    return t.typed(Responses, frame.with_columns(tokens_in=0, tokens_out=0))


def measured(
    policy: Any, dataset: Any, *, n: int = 300, draws: int = 12, seed: int = 0, **how: Any
) -> pl.DataFrame:
    world = bandit(n, len(policy), {"pi": policy, "data": dataset}, draws, seed)
    logs = {("logp", "pi"): np.log(policy), ("logp", "ref"): np.log(REFERENCE)}
    given = {"generator": "pi", "reference": "ref", "model": EMBEDDER, **how}
    stage = coverage(
        world["completions"], world["samples"], scored(world, logs), world["prompts"], **given
    )
    return t.check("measures", drive(stage, one_hot), where="test")


def test_an_arm_that_the_dataset_lacks_is_found_though_every_ratio_is_finite():
    """The policy stays in the ball around the reference: global coverage fails, local holds."""
    measures = measured(POLICY, DATASET)
    off = row(measures, "coverage_unsupported")
    assert abs(off["value"] - POLICY[3]) < 2 * off["stderr"]
    assert off["low"] < POLICY[3] < off["high"]
    kl = row(measures, "coverage_kl")
    exact = float((POLICY * np.log(POLICY / REFERENCE)).sum())
    assert abs(kl["value"] - exact) < 3 * kl["stderr"]
    assert row(measures, "coverage_global")["value"] == 0
    assert row(measures, "coverage_local")["value"] == 1
    assert row(measures, "coverage_log_ratio_max")["value"] == pytest.approx(np.log(4))
    w = POLICY / REFERENCE
    expected = (POLICY * w).sum() ** 2 / (POLICY * w**2).sum()
    assert row(measures, "coverage_ess")["value"] == pytest.approx(expected, abs=0.02)


def test_where_the_dataset_has_every_arm_both_hold():
    measures = measured(POLICY, REFERENCE, draws=30)
    assert row(measures, "coverage_global")["value"] == 1
    assert row(measures, "coverage_unsupported")["value"] < 0.1


def test_far_from_the_reference_local_coverage_fails():
    far = np.array([0.02, 0.02, 0.01, 0.95])
    measures = measured(far, DATASET, radius=1.0)
    assert float((far * np.log(far / REFERENCE)).sum()) > 2
    assert row(measures, "coverage_local")["value"] == 0
    assert row(measures, "coverage_outside_ball")["value"] > 0.9
    assert row(measures, "coverage_global")["value"] == 0


def test_a_policy_that_is_the_reference_is_at_no_distance():
    measures = measured(REFERENCE, REFERENCE)
    assert row(measures, "coverage_kl")["value"] == 0
    assert row(measures, "coverage_ess")["value"] == pytest.approx(1)
    assert row(measures, "coverage_log_ratio_max")["value"] == 0


def test_the_divergence_is_of_the_policys_samples_whatever_the_dataset_holds():
    one, other = (measured(POLICY, data) for data in (DATASET, DATASET[::-1]))
    assert row(one, "coverage_kl") == row(other, "coverage_kl")
    backward = float((DATASET[:3] * np.log(POLICY[:3] / REFERENCE[:3])).sum())
    assert abs(row(one, "coverage_kl")["value"] - backward) > 0.1


def test_without_an_embedding_nothing_is_said_of_the_support():
    measures = measured(POLICY, DATASET, model=None)
    told = row(measures, "coverage_global")
    assert told["value"] is None
    assert "support is not known" in told["note"]
    assert "coverage_unsupported" not in measures["measure"].to_list()


def test_effective_draws_survive_ratios_that_overflow():
    assert effective_share(np.array([5000.0, 5000.0])) == pytest.approx(1)
    assert effective_share(np.array([5000.0, 0.0, -3000.0, 0.0])) == pytest.approx(0.25)


def test_support_in_a_space_without_arms():
    """Of vectors from one cloud a twentieth is off its support; of a cloud elsewhere, all."""
    random = np.random.default_rng(3)
    n_arms, places = 60, {}

    def cloud(requests: Requests) -> Responses:
        for turns in requests["messages"].to_list():
            arm = int(turns[0]["content"].split()[1])
            centre = 4.0 if arm % 3 == 2 else 0.0
            places.setdefault((arm,), np.r_[1.0, centre + 0.3 * random.normal(size=2)].tolist())
        vectors = [places[int(t[0]["content"].split()[1]),] for t in requests["messages"].to_list()]
        frame = pl.DataFrame({"request_id": requests["request_id"], "vector": vectors})
        return t.typed(Responses, frame.with_columns(tokens_in=0, tokens_out=0))

    kinds = np.arange(n_arms) % 3
    world = bandit(
        40, n_arms, {name: (kinds == k) / (kinds == k).sum() for k, name in enumerate("abc")}, 15
    )
    logs = {("logp", name): np.zeros(n_arms) for name in "abc"}
    for name, (low, high) in {"b": (0.0, 0.15), "c": (0.95, 1.0)}.items():
        # Drawn again, it would be its own neighbour: here every draw is another text.
        samples = world["samples"].filter(
            pl.col("generator").is_in(["a", name]), pl.col("draw") == 0
        )
        stage = coverage(
            world["completions"],
            samples,
            scored(world, logs),
            generator=name,
            reference="a",
            model=EMBEDDER,
        )
        found = row(drive(stage, cloud), "coverage_unsupported")
        assert low <= found["value"] <= high


def test_a_prompt_of_whose_dataset_nothing_was_embedded_says_nothing_of_support():
    """Arm 0 has no vector, and of some prompts the dataset has no other."""
    policy, dataset = np.array([0.2, 0.5, 0.3]), np.array([0.5, 0.5, 0.0])
    world = bandit(60, 3, {"pi": policy, "data": dataset}, 2)

    def some(requests: Requests) -> Responses:
        first = pl.col("messages").list.first().struct.field("content") == "arm 0"
        lost = pl.col("request_id").is_in(requests.filter(first)["request_id"].implode())
        return Responses(one_hot(requests).with_columns(vector=pl.when(~lost).then("vector")))

    logs = {("logp", name): np.log(policy) for name in ("pi", "ref")}
    scores = scored(world, logs)
    given: dict[str, Any] = {"generator": "pi", "reference": "ref", "model": EMBEDDER}
    measures = drive(coverage(world["completions"], world["samples"], scores, **given), some)
    drawn = world["samples"].with_columns(arm=pl.col("completion_id").replace_strict(world["arm"]))
    told = drawn.filter(pl.col("generator") == "data", pl.col("arm") == 1)["prompt_id"]
    ours = drawn.filter(
        pl.col("generator") == "pi", pl.col("arm") > 0, pl.col("prompt_id").is_in(told.implode())
    )
    assert told.n_unique() < 60
    found = row(measures, "coverage_unsupported")
    assert found["n"] == ours.height
    assert found["value"] == pytest.approx((ours["arm"] == 2).mean())


def test_rows_in_any_order_and_names_that_are_not_there(shuffled: Any):
    world = bandit(30, 4, {"pi": POLICY, "data": DATASET}, 6)
    logs = {("logp", "pi"): np.log(POLICY), ("logp", "ref"): np.log(REFERENCE)}
    scores = scored(world, logs)
    given: dict[str, Any] = {"generator": "pi", "reference": "ref", "model": EMBEDDER}
    tables = world["completions"], world["samples"], scores
    one = drive(coverage(*tables, **given), one_hot)
    other = drive(coverage(*(shuffled(each, 5) for each in tables), **given), one_hot)
    assert t.check("measures", one, where="").equals(t.check("measures", other, where=""))
    with pytest.raises(RecipeError, match=r"by 'rev'.*ref"):
        drive(coverage(*tables, **{**given, "reference": "rev"}), one_hot)
    with pytest.raises(RecipeError, match="generator 'po'"):
        drive(coverage(*tables, **{**given, "generator": "po", "policy": "pi"}), one_hot)


def test_intervals_of_means_cover_where_rows_of_a_prompt_are_alike():
    """Over seeds 0 to 199, with few prompts that differ more than their draws, and unequal many."""
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        sizes = random.integers(1, 9, 25)
        group = np.repeat(np.arange(25), sizes)
        value = 3.0 + random.normal(0, 2, 25)[group] + random.normal(0, 1, len(group))
        frame = pl.DataFrame({"subject": "pi", "group": group.astype(str), "x": value})
        found = averages(frame, "x", "m").row(0, named=True)
        covered += found["low"] < 3.0 < found["high"]
    assert 180 <= covered <= 198
