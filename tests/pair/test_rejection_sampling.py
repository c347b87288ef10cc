import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from prefdata.errors import RecipeError
from prefdata.pair.rejection_sampling import drawn, rejection_sampling
from tests.pair.planted import strengths_of

RNG = np.random.default_rng


def frequencies(rewards, k, beta, mode, n, seed=0):
    rng = RNG(seed)
    counts = np.zeros(len(rewards))
    for _ in range(n):
        counts[drawn(np.asarray(rewards, float), k, beta, rng, mode)] += 1
    return counts


def test_exact_draws_are_those_of_the_best_policy():
    rewards = np.array([0.0, 0.5, 1.0, -1.0, 0.2, 0.8])
    expected = np.exp(rewards / 0.5)
    counts = frequencies(rewards, 1, 0.5, "exact", 20_000)
    assert chisquare(counts, 20_000 * expected / expected.sum()).pvalue > 0.001


@pytest.mark.parametrize("mode", ["exact", "paper"])
def test_equal_rewards_are_drawn_alike_wherever_they_stand(mode):
    counts = frequencies([1.0] * 16, 4, 0.5, mode, 2_000)
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("mode", ["exact", "paper"])
def test_a_small_beta_is_the_best_k_and_a_great_one_any_k(mode):
    rewards = np.arange(10.0)
    assert sorted(drawn(rewards, 3, 1e-3, RNG(1), mode)) == [7, 8, 9]
    counts = frequencies(rewards, 3, 1e6, mode, 2_000)
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("mode", ["exact", "paper"])
def test_fewer_than_k_are_all_drawn_once(mode):
    assert sorted(drawn(np.array([1.0, 1.0, 3.0]), 8, 0.5, RNG(2), mode)) == [0, 1, 2]


def world(n_prompts=40, n=12):
    draw = RNG(7)
    rows = [
        (f"p{p}", f"p{p}c{c:02}", float(draw.normal())) for p in range(n_prompts) for c in range(n)
    ]
    return strengths_of(rows)


def test_the_first_round_has_disjoint_pairs():
    pairs, dropped = rejection_sampling(world(), k=8)
    assert dropped.is_empty()
    for (_,), own in pairs.group_by("prompt_id"):
        assert own.height == 4
        assert len({*own["chosen_id"], *own["rejected_id"]}) == 8
    assert (pairs["margin"] > 0).all()


def test_in_a_tournament_each_but_the_winner_loses_once():
    strengths = world()
    known = dict(strengths.select("completion_id", "strength").rows())
    pairs, _ = rejection_sampling(strengths, k=8, pairing="tournament")
    for (_,), own in pairs.group_by("prompt_id"):
        assert own.height == 7
        assert own["rejected_id"].n_unique() == 7
        [winner] = set(own["chosen_id"]) - set(own["rejected_id"])
        everyone = {*own["chosen_id"], *own["rejected_id"]}
        assert known[winner] == max(known[each] for each in everyone)


def test_odd_numbers_leave_one_over_or_give_a_bye():
    assert rejection_sampling(world(5), k=7)[0].height == 5 * 3
    assert rejection_sampling(world(5), k=7, pairing="tournament")[0].height == 5 * 6


def test_what_is_drawn_depends_on_its_prompt_only(shuffled):
    strengths = world()
    whole = rejection_sampling(strengths)[0]
    half = strengths.filter(pl.col("prompt_id").is_in(["p1", "p2", "p3"]))
    part = rejection_sampling(shuffled(half, 3))[0]
    assert part.sort("pair_id").equals(
        whole.filter(pl.col("prompt_id").is_in(["p1", "p2", "p3"])).sort("pair_id")
    )


def test_options_out_of_range():
    for options in ({"k": 1}, {"beta": 0.0}):
        with pytest.raises(RecipeError, match="at least 2, beta above 0"):
            rejection_sampling(world(2), **options)
