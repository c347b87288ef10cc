"""Online routing fair to every group: regret within its bound, small groups, order of groups."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.route._sleeping import fit_groupwise, regrets
from prefdata.route.group_regret import group_regret
from prefdata.tables import Prompts
from tests.route.planted import named, said, sides


def stream(seed, n):
    """Three overlapping groups and all; each has a linear truth of its own, the last one counts."""
    draw = np.random.default_rng(seed)
    share = np.array([0.6, 0.4, 0.1])
    groups = np.concatenate([np.ones((n, 1), bool), draw.random((n, 3)) < share], 1)
    x = np.concatenate([np.ones((n, 1)), draw.uniform(-1, 1, (n, 3))], 1)
    slope = np.array([[0, 0.1, 0, 0], [0.2, 0.1, 0.1, 0], [-0.2, 0, 0.1, 0.1], [0, -0.2, -0.2, 0]])
    last = 3 - groups[:, ::-1].argmax(1)
    chance = 0.5 + (x * slope[last]).sum(1)
    return x, groups, (draw.random(n) < chance).astype(float)


def one_ridge(x, y):
    """A single forward ridge regression over all rounds."""
    a, b, made = np.eye(x.shape[1]), np.zeros(x.shape[1]), []
    for row, heard in zip(x, y, strict=True):
        a += np.outer(row, row)
        made.append(np.clip(row @ np.linalg.solve(a, b), 0, 1))
        b += heard * row
    return np.array(made)


def excess(x, y, said, inside):
    """The squared loss beyond that of the best linear prediction in hindsight."""
    best = np.linalg.lstsq(x[inside], y[inside], rcond=None)[0]
    return ((said - y)[inside] ** 2).sum() - ((x[inside] @ best - y[inside]) ** 2).sum(), best


@pytest.mark.parametrize("seed", range(3))
def test_regret_of_each_group_is_within_the_bound_of_the_source(seed):
    n = 3000
    x, groups, y = stream(seed, n)
    state, said = fit_groupwise(x, groups, y)
    found = regrets(x, groups, y, said, state)
    k, d = 4, 4
    for g, told in enumerate(found):
        inside = groups[:, g]
        lost, best = excess(x, y, said, inside)
        t = inside.sum()
        # AdaNormalHedge over sleeping learners, whose steps are at most 1, and Vovk's learner.
        of_mixture = np.sqrt(
            3 * t * (np.log(k) + np.log(2.5 + 1.5 * np.log1p(n)) + np.log1p(np.log(k)))
        )
        of_learner = best @ best + d * np.log1p(t * (x**2).sum(1).max() / d)
        assert told.rounds == t
        assert told.regret == pytest.approx(lost, abs=1e-6)
        assert lost <= told.bound <= of_mixture + of_learner


def test_a_small_group_loses_less_than_to_one_learner_of_all_and_all_lose_no_more():
    ratios = []
    for seed in range(3):
        x, groups, y = stream(seed, 3000)
        _, said = fit_groupwise(x, groups, y)
        single = one_ridge(x, y)
        small, of_one = (excess(x, y, each, groups[:, 3])[0] for each in (said, single))
        ratios.append(small / of_one)
        assert ((said - y) ** 2).mean() <= 1.02 * ((single - y) ** 2).mean()
    assert np.mean(ratios) <= 0.7


def test_average_regret_falls_with_the_number_of_rounds():
    halves, wholes = [], []
    for seed in range(3):
        x, groups, y = stream(seed, 4000)
        _, said = fit_groupwise(x, groups, y)
        for n, made in ((2000, halves), (4000, wholes)):
            inside = groups[:n, 3]
            made.append(excess(x[:n], y[:n], said[:n], inside)[0] / inside.sum())
    assert np.mean(halves) >= 1.3 * np.mean(wholes)


def test_the_order_of_groups_changes_nothing_and_who_sleeps_learns_nothing():
    x, groups, y = stream(1, 500)
    order = np.array([2, 0, 3, 1])
    one, other = fit_groupwise(x, groups, y), fit_groupwise(x, groups[:, order], y)
    np.testing.assert_allclose(one[1], other[1], atol=1e-9)
    np.testing.assert_allclose(one[0].regret[order], other[0].regret, atol=1e-9)
    alone, _ = fit_groupwise(x[groups[:, 3]], groups[groups[:, 3]][:, [3]], y[groups[:, 3]])
    np.testing.assert_allclose(one[0].inverse[3], alone.inverse[0], atol=1e-9)
    np.testing.assert_allclose(one[0].toward[3], alone.toward[0], atol=1e-9)


def world(seed=0, n=600, seen=400):
    """On prompts tagged "hard" models agree and are wrong half of the time, else hardly ever."""
    draw = np.random.default_rng(seed)
    hard = draw.random(n) < 0.2
    wrong = draw.random(n) < np.where(hard, 0.5, 0.05)
    truth = (draw.random(n) < 0.5).astype(float)
    label = np.where(wrong, 1 - truth, truth)
    heard = [t if at < seen else None for at, t in enumerate(truth)]
    votes = said({"llm:one": label, "llm:two": label, "human:u": heard})
    prompts = pl.DataFrame(
        {
            "prompt_id": sides(n)["prompt_id"],
            "prompt": [[{"role": "user", "content": str(at)}] for at in range(n)],
            "source": "test",
            "tags": [["hard"] if each else ["easy"] for each in hard],
        }
    )
    return votes, tables.typed(Prompts, prompts), hard, wrong


def test_rows_of_the_group_in_which_models_fail_come_first_where_their_votes_show_nothing():
    votes, prompts, hard, _ = world()
    made, told = group_regret(votes, prompts, budget={"share": 0.2, "audit": 0.0})
    at = made["completion_a"].str.head(6).cast(pl.Int64).to_numpy()
    n_hard = hard[400:].sum()
    assert (at >= 400).all()
    assert hard[at].sum() == min(n_hard, made.height)
    gain = made["gain"].to_numpy()
    assert abs(gain[hard[at]].mean() - 0.5) < 0.15
    values = named(told)
    for name in ("all", "tags:easy", "tags:hard"):
        assert values[f"group_regret {name}"] <= values[f"group_regret_bound {name}"]
    assert values["group_error tags:hard"] > values["group_error tags:easy"]


def test_the_order_of_rows_changes_nothing(shuffled):
    votes, prompts, _, _ = world(n=80, seen=40)
    one, other = (
        group_regret(each, p, budget={"rows": 10})
        for each, p in ((votes, prompts), (shuffled(votes, 1), shuffled(prompts, 2)))
    )
    assert one[0].equals(other[0])
    assert one[1].equals(other[1])


def test_without_people_it_is_the_lot_and_bad_options_are_refused():
    votes, prompts, _, _ = world(n=30, seen=0)
    made, told = group_regret(votes, prompts, budget={"rows": 10})
    assert made["gain"].to_list() == [0.0] * 10
    assert told.is_empty()
    with pytest.raises(RecipeError, match=r"ridge = 0\.0"):
        group_regret(votes, prompts, budget={"rows": 1}, ridge=0.0)
    with pytest.raises(RecipeError, match="no votes of 'llm:tow'"):
        group_regret(votes, prompts, budget={"rows": 1}, label="llm:tow")
    with pytest.raises(RecipeError, match="no pair has a score"):
        group_regret(votes, prompts, None, prices(), budget={"rows": 1}, features=["lenght"])


def prices():
    rows = sides(1)
    ids = tables.pair_ids(rows["completion_a"], rows["completion_b"])
    frame = pl.DataFrame({"subject_id": ids, "value": 1.0, "subject": "pair", "score": "length"})
    return tables.check("scores", frame, where="test")
