"""What curation does: the closed form against draws, the bound, and the published examples."""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.measure.curation_drift import Pool, curation_drift, favour, retrained
from tests.conftest import make_world, shuffle

Floats = NDArray[np.float64]


def pool_of(reward: Floats, p: Floats | None = None) -> Pool:
    start = np.full(len(reward), 1 / len(reward)) if p is None else p
    return Pool(start, reward, np.array([0]))


def atoms(seed: int = 0, n: int = 200) -> Pool:
    return pool_of(np.random.default_rng(seed).uniform(0, 2, n))


def gain(pool: Pool, p: Floats) -> float:
    return float((p * np.exp(pool.reward)).sum())


@pytest.mark.parametrize("k", [2, 3, 4, 16, 1000, None])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_chosen_is_a_distribution_and_gains_at_least_the_bound(k: int | None, seed: int):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(40, 0.5))
    pool = pool_of(random.normal(0, 3, 40), p)
    moved = p * favour(pool, p, k)
    assert moved.sum() == pytest.approx(1, abs=1e-9)
    e = np.exp(pool.reward)
    variance = (p * e**2).sum() - (p * e).sum() ** 2
    least = (p * e).sum() + (1 if k is None else (k - 1) / k) * variance / e.max()
    assert gain(pool, moved) >= least - 1e-9
    order = np.argsort(pool.reward)
    assert (np.diff(favour(pool, p, k)[order]) >= -1e-9).all()


def test_the_integral_is_what_drawing_and_choosing_gives():
    pool = atoms(1, 30)
    random = np.random.default_rng(2)
    for k in (2, 5):
        n = 400_000
        drawn = random.integers(0, 30, (n, k))
        noise = random.gumbel(size=(n, k))
        best = (pool.reward[drawn] + noise).argmax(1)
        seen = np.bincount(drawn[np.arange(n), best], minlength=30) / n
        told = pool.start * favour(pool, pool.start, k)
        assert np.abs(seen - told).max() < 4 * (told.max() / n) ** 0.5
    two = np.array([0.0, 1.3])
    odds = favour(pool_of(two), np.array([0.5, 0.5]), 2)
    # one of two drawn from (1/2, 1/2): itself again, or the other, with its odds
    sigmoid = 1 / (1 + np.exp(-1.3))
    assert odds == pytest.approx([0.5 + (1 - sigmoid), 0.5 + sigmoid])


def test_more_to_choose_from_gains_more_up_to_the_limit():
    """Of 200 atoms with r uniform in [0, 2] by the sheet's figures: 3.17, then 3.67 to 4.30."""
    found = {k: [] for k in (2, 4, 16, 100_000, None)}
    for seed in range(20):
        pool = atoms(seed)
        for k, gains in found.items():
            gains.append(gain(pool, pool.start * favour(pool, pool.start, k)))
    means = [float(np.mean(each)) for each in found.values()]
    assert all(a <= b + 1e-6 for a, b in pairwise(means))
    assert means[-2] == pytest.approx(means[-1], rel=1e-3)
    assert means == pytest.approx([3.67, 3.98, 4.21, 4.30, 4.30], abs=0.1)


@pytest.mark.parametrize(
    ("real", "best"),
    [(0.0, (1.0, 1.0, 1.0)), (0.2, (0.62, 0.71, 0.75)), (0.5, (0.30, 0.38, 0.44))],
)
def test_original_data_keeps_it_from_collapsing(real: float, best: tuple[float, ...]):
    pool = pool_of(np.linspace(0, 2, 5))
    for k, wanted in zip((2, 4, None), best, strict=True):
        trail = retrained(pool, k=k, real=real, rounds=50)
        assert all(p.sum() == pytest.approx(1, abs=1e-8) for p in trail)
        assert trail[-1][-1] == pytest.approx(wanted, abs=0.02)


def planted(beta: float, n: int = 3000) -> dict[str, Any]:
    """Two completions a prompt with rewards; chosen by sigmoid(beta difference)."""
    random = np.random.default_rng(5)
    made = make_world(n, 2)
    ids = made["completions"]["completion_id"].to_numpy()
    reward = dict(zip(ids, random.normal(0, 1, len(ids)), strict=True))
    rows = made["pairs"].to_dicts()
    for row in rows:
        a, b = row["chosen_id"], row["rejected_id"]
        wins = random.random() < 1 / (1 + np.exp(-beta * (reward[a] - reward[b])))
        row["chosen_id"], row["rejected_id"] = (a, b) if wins else (b, a)
    scores = pl.DataFrame({"subject_id": list(reward), "value": list(reward.values())})
    scores = scores.with_columns(subject=pl.lit("completion"), score=pl.lit("reward"))
    names = np.where(np.array(list(reward.values())) > 0, "good", "poor")
    samples = made["completions"].select(
        "completion_id", "prompt_id", draw=0, generator=pl.Series(names)
    )
    return {
        "completions": made["completions"],
        "scores": t.check("scores", scores, where="test"),
        "samples": t.check("samples", samples, where="test"),
        "pairs": made["pairs"].clear().vstack(pl.DataFrame(rows, made["pairs"].schema)),
        "prompts": made["prompts"],
    }


def measured(found: pl.DataFrame, name: str, subject: str) -> dict[str, Any]:
    t.check("measures", found, where="test")
    return found.filter(measure=name, subject=subject).row(0, named=True)


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_how_closely_the_choice_follows_the_score_is_found(beta: float):
    found = curation_drift(**planted(beta), rounds=2, k=2)
    row = measured(found, "drift_selection_strength", "pairs")
    assert abs(row["value"] - beta) < 3 * row["stderr"] < 0.5
    chosen = measured(found, "drift_chosen_exp_reward", "pairs")
    # both sides are different draws, so that one choice of two gains more than with repeats
    first = measured(found, "drift_exp_reward", "round 0")["value"]
    assert chosen["value"] > measured(found, "drift_exp_reward", "round 1")["value"] > first


def test_a_choice_without_chance_is_told_and_is_above_what_is_predicted():
    world = planted(1.0, 200)
    reward = dict(world["scores"].select("subject_id", "value").rows())
    better = [max(two, key=lambda id: reward[id]) for two in world["pairs"].select(
        "chosen_id", "rejected_id").rows()]  # fmt: skip
    worse = [min(two, key=lambda id: reward[id]) for two in world["pairs"].select(
        "chosen_id", "rejected_id").rows()]  # fmt: skip
    world["pairs"] = world["pairs"].with_columns(
        chosen_id=pl.Series(better), rejected_id=pl.Series(worse)
    )
    found = curation_drift(**world)
    row = measured(found, "drift_selection_strength", "pairs")
    assert row["value"] is None
    assert "always scores higher" in row["note"]
    most = measured(found, "drift_chosen_exp_reward", "pairs")["value"]
    assert most > measured(found, "drift_exp_reward", "round 1")["value"]


def test_generators_that_score_higher_take_over_and_variety_falls():
    found = curation_drift(**planted(1.0, 300), rounds=4)
    shares = [measured(found, "drift_share", f"round {at}: good")["value"] for at in range(5)]
    assert shares == sorted(shares)
    others = [measured(found, "drift_share", f"round {at}: poor")["value"] for at in range(5)]
    assert [a + b for a, b in zip(shares, others, strict=True)] == pytest.approx([1.0] * 5)
    entropies = [measured(found, "drift_entropy", f"round {at}")["value"] for at in range(5)]
    assert entropies == sorted(entropies, reverse=True)
    still = curation_drift(**planted(1.0, 300), rounds=4, real=1.0)
    assert measured(still, "drift_share", "round 4: good")["value"] == pytest.approx(shares[0])


def test_the_order_of_rows_and_the_number_of_draws():
    world = planted(1.0, 50)
    one = curation_drift(**world, k=3)
    other = curation_drift(**{name: shuffle(rows, 4) for name, rows in world.items()}, k=3)
    assert t.check("measures", one, where="t").equals(t.check("measures", other, where="t"))
    ids = world["samples"]["completion_id"]
    again = (
        world["samples"]
        .filter(pl.col("completion_id") == ids[0])
        .with_columns(draw=pl.lit(1, pl.Int64))
    )
    more = curation_drift(**{**world, "samples": pl.concat([world["samples"], again])}, k=3)
    assert not more.equals(one)


def test_what_cannot_be_is_refused():
    world = planted(1.0, 5)
    for wrong in ({"k": 1}, {"real": 1.5}, {"rounds": 0}, {"score": "rewardd"}):
        with pytest.raises(RecipeError, match=r"measure\.curation_drift"):
            curation_drift(**world, **wrong)
    far = world["scores"].with_columns(value=pl.col("value") * 1000)
    with pytest.raises(RecipeError, match="log odds"):
        curation_drift(**{**world, "scores": far})
    alone = world["scores"].head(1)
    nothing = curation_drift(world["completions"], alone)
    assert nothing["value"].to_list() == [None]
