"""Bradley-Terry: its optimum, its invariances, planted strengths and another library's answer."""

import choix
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from prefdata import tables
from prefdata.aggregate.bradley_terry import bradley_terry, fit_bradley_terry, standard_errors
from prefdata.errors import ConvergenceError, RecipeError, TableError
from prefdata.tables import Completions, Votes
from tests.aggregate.planted import by_id, votes_from

SOFT = [0.0, 0.25, 0.5, 1.0]


def random_votes(seed, n_prompts=12, k=4, n=15):
    draw = np.random.default_rng(seed)
    rows = []
    for prompt in range(n_prompts):
        for _ in range(n):
            i, j = draw.choice(k, 2, replace=False)
            rows.append((f"p{prompt}", f"p{prompt}c{i}", f"p{prompt}c{j}", draw.choice(SOFT)))
    return votes_from(rows)


def round_robin(n_worlds, k, n, seed, scale=1.0):
    """n votes on each two of k items in each of many worlds, from planted strengths."""
    draw = np.random.default_rng(seed)
    i, j = np.triu_indices(k, 1)
    one = (np.arange(n_worlds)[:, None] * k + i).ravel()
    other = (np.arange(n_worlds)[:, None] * k + j).ravel()
    theta = draw.normal(scale=scale, size=(n_worlds, k))
    theta = (theta - theta.mean(1, keepdims=True)).ravel()
    wins = draw.binomial(n, expit(theta[one] - theta[other])).astype(float)
    return theta, (one, other, wins, n - wins)


def connected_games(seed, n_items, n_games):
    """Games in which everyone is beaten by someone, so that an optimum exists without a prior."""
    draw = np.random.default_rng(seed)
    one = np.concatenate([np.arange(n_items), draw.integers(0, n_items, n_games)])
    other = np.concatenate([np.roll(np.arange(n_items), 1), draw.integers(0, n_items, n_games)])
    apart = one != other
    return one[apart], other[apart]


@pytest.mark.parametrize("n_items", [2, 5, 40, 90])
def test_agrees_with_choix_without_a_prior(n_items):
    one, other = connected_games(n_items, n_items, 20 * n_items)
    ones = np.ones(len(one))
    fit = fit_bradley_terry(one, other, ones, 0 * ones, n_items=n_items, prior=0)
    games = list(zip(one.tolist(), other.tolist(), strict=True))
    spectral = choix.ilsr_pairwise(n_items, games, alpha=0, tol=1e-10)
    direct = choix.opt_pairwise(n_items, games, alpha=0, method="Newton-CG", tol=1e-12)
    assert np.allclose(fit.strengths, spectral, atol=1e-6)
    assert np.allclose(fit.strengths, direct - direct.mean(), atol=1e-5)


@pytest.mark.parametrize("n_items", [5, 80])
def test_votes_one_by_one_and_added_up_have_the_same_optimum(n_items):
    draw = np.random.default_rng(n_items)
    theta = draw.normal(size=n_items)
    one = draw.integers(0, n_items, 8000)
    other = (one + draw.integers(1, n_items, len(one))) % n_items
    wins = (draw.random(len(one)) < expit(theta[one] - theta[other])).astype(float)
    apart = fit_bradley_terry(one, other, wins, 1 - wins, n_items=n_items)
    pairs, place = np.unique(np.stack([one, other]), axis=1, return_inverse=True)
    won, lost = (np.bincount(place.ravel(), each) for each in (wins, 1 - wins))
    added = fit_bradley_terry(*pairs, won, lost, n_items=n_items)
    assert np.allclose(apart.strengths, added.strengths, atol=1e-8)
    assert max(apart.residual, added.residual) < 1e-6


def test_agrees_with_choix_where_the_prior_is_written_as_games():
    """A prior of 1 is a win and a loss of everyone against one more item."""
    n, draw = 8, np.random.default_rng(3)
    one, other = draw.integers(0, n, 30), draw.integers(0, n, 30)
    one, other = one[one != other], other[one != other]
    ones = np.ones(len(one))
    fit = fit_bradley_terry(one, other, ones, 0 * ones, n_items=n, prior=1)
    games = list(zip(one.tolist(), other.tolist(), strict=True))
    games += [(i, n) for i in range(n)] + [(n, i) for i in range(n)]
    theirs = choix.ilsr_pairwise(n + 1, games, alpha=0, tol=1e-10)[:n]
    assert len(set(fit.component.tolist())) == 1
    assert np.allclose(fit.strengths, theirs - theirs.mean(), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    games=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 1), st.floats(0.01, 50)),
        min_size=1,
        max_size=40,
    ).filter(lambda games: any(one != other for one, other, _, _ in games)),
    prior=st.floats(0.001, 10),
)
def test_expected_wins_are_observed_wins(games, prior):
    one, other, share, weight = (
        np.array(c) for c in zip(*(g for g in games if g[0] != g[1]), strict=True)
    )
    wins, losses = share * weight, (1 - share) * weight
    fit = fit_bradley_terry(one, other, wins, losses, n_items=10, prior=prior)
    observed = np.full(10, prior)
    expected = 2 * prior * expit(fit.strengths - fit.anchor)
    for i, j, won, lost in zip(one, other, wins, losses, strict=True):
        p = expit(fit.strengths[i] - fit.strengths[j])
        observed[i] += won
        observed[j] += lost
        expected[i] += (won + lost) * p
        expected[j] += (won + lost) * (1 - p)
    assert np.allclose(observed, expected, atol=1e-7 * (1 + weight.sum()))
    assert fit.residual <= 1e-7 * (1 + weight.sum())
    for component in range(fit.component.max() + 1):
        assert abs(fit.strengths[fit.component == component].sum()) < 1e-9


def test_a_large_component_meets_the_same_optimum_as_a_small_one():
    """Above 64 items another solver is used: a copy of a small world inside a large one agrees."""
    _, games = round_robin(1, 12, 4, seed=5)
    small = fit_bradley_terry(*games, n_items=12)
    # A chain of balanced votes hangs on item 0 without moving it: it adds nothing but items.
    one, other = np.r_[0, np.arange(12, 100)], np.arange(12, 101)
    fill = np.full(len(one), 1.0)
    both = [np.concatenate(pair) for pair in zip(games, (one, other, fill, fill), strict=True)]
    large = fit_bradley_terry(*both, n_items=101, prior=1e-9)
    near = fit_bradley_terry(*games, n_items=12, prior=1e-9)
    apart = large.strengths[:12] - large.strengths[0]
    assert np.allclose(apart, near.strengths - near.strengths[0], atol=1e-5)
    assert small.residual < 1e-9
    assert large.residual < 1e-6
    errors, near_errors = (
        standard_errors(f, *g, prior=1e-9)[1][: len(games[0])]
        for f, g in ((large, both), (near, games))
    )
    assert np.allclose(errors, near_errors, rtol=1e-4)


def test_standard_errors_are_those_of_a_numerical_hessian():
    _, games = round_robin(1, 5, 6, seed=2)
    one, other, wins, losses = games
    prior = 0.3
    fit = fit_bradley_terry(*games, n_items=5, prior=prior)

    def loss(x):
        d = x[one] - x[other]
        votes = wins @ np.log(expit(d)) + losses @ np.log(expit(-d))
        return -votes - prior * np.log(expit(x) * expit(-x)).sum()

    at, h = fit.strengths - fit.anchor, 1e-4
    e = np.eye(5) * h
    hessian = [
        [
            (loss(at + a + b) - loss(at + a - b) - loss(at - a + b) + loss(at - a - b)) / 4 / h**2
            for a in e
        ]
        for b in e
    ]
    centre = np.eye(5) - 1 / 5
    covariance = centre @ np.linalg.inv(np.array(hessian)) @ centre
    of_item, of_difference = standard_errors(fit, *games, prior=prior)
    assert np.allclose(of_item**2, np.diag(covariance), rtol=1e-4)
    apart = np.eye(5)[one] - np.eye(5)[other]
    assert np.allclose(of_difference**2, np.einsum("ki,ij,kj->k", apart, covariance, apart), 1e-4)


def test_intervals_cover_planted_strengths():
    """95 % intervals over 200 seeds, one world of 6 completions for each."""
    worlds = [round_robin(1, 6, 20, seed, scale=0.7) for seed in range(200)]
    theta = np.concatenate([theta for theta, _ in worlds])
    shift = np.repeat(np.arange(200) * 6, 15)
    one, other, wins, losses = (
        np.concatenate(c) for c in zip(*(g for _, g in worlds), strict=True)
    )
    games = one + shift, other + shift, wins, losses
    fit = fit_bradley_terry(*games, n_items=1200)
    of_item, of_difference = standard_errors(fit, *games)
    inside = np.abs(fit.strengths - theta) < 1.96 * of_item
    assert 0.90 <= inside.mean() <= 0.99
    apart = (fit.strengths[games[0]] - fit.strengths[games[1]]) - (
        theta[games[0]] - theta[games[1]]
    )
    assert 0.90 <= (np.abs(apart) < 1.96 * of_difference).mean() <= 0.99


def test_many_votes_recover_what_was_planted():
    theta, games = round_robin(1, 30, 400, seed=9)
    fit = fit_bradley_terry(*games, n_items=30)
    slope, _ = np.polyfit(theta, fit.strengths, 1)
    assert np.corrcoef(theta, fit.strengths)[0, 1] > 0.995
    assert 0.97 < slope < 1.03


def test_with_ties_the_shares_are_right_and_without_them_they_are_not():
    """Ties planted by Rao and Kupper's model; each P must be wins and half of the ties."""
    draw = np.random.default_rng(4)
    k, n, t = 20, 300, 2.5
    i, j = np.triu_indices(k, 1)
    theta = draw.normal(size=k)
    d = theta[i] - theta[j]
    better, worse = expit(d - np.log(t)), expit(-d - np.log(t))
    counts = np.array(
        [draw.multinomial(n, p) for p in np.stack([better, worse, 1 - better - worse], 1)]
    ).astype(float)
    wins, losses, ties = counts.T
    truth = better + (1 - better - worse) / 2
    kept = fit_bradley_terry(i, j, wins + ties / 2, losses + ties / 2, n_items=k).strengths
    dropped = fit_bradley_terry(i, j, wins, losses, n_items=k).strengths
    assert ties.sum() / counts.sum() > 0.25
    assert abs(expit(kept[i] - kept[j]) - truth).mean() < 0.02
    assert abs(expit(dropped[i] - dropped[j]) - truth).mean() > 0.05
    assert np.polyfit(theta, dropped, 1)[0] > 1.2


def test_a_single_pair_that_always_wins_is_finite_and_a_prior_of_0_refuses_it():
    games = np.array([0]), np.array([1]), np.array([7.0]), np.array([0.0])
    weak = fit_bradley_terry(*games, n_items=2, prior=0.01).strengths
    strong = fit_bradley_terry(*games, n_items=2, prior=1).strengths
    assert 0 < strong[0] < weak[0] < 20
    with pytest.raises(ConvergenceError, match=r"residual.*iterations.*prior above 0"):
        fit_bradley_terry(*games, n_items=2, prior=0)


def test_a_fit_that_stops_too_early_raises():
    _, games = round_robin(3, 5, 9, seed=1)
    with pytest.raises(ConvergenceError, match=r"residual .* after 1 iterations"):
        fit_bradley_terry(*games, n_items=15, max_iterations=1)


def test_an_item_without_votes_has_strength_0():
    games = np.array([0]), np.array([2]), np.array([1.0]), np.array([0.0])
    fit = fit_bradley_terry(*games, n_items=3)
    assert fit.strengths[1] == 0
    assert fit.strengths[0] == -fit.strengths[2] > 0


def test_the_tables_keep_their_schemas():
    strengths, scores = bradley_terry(random_votes(0))
    tables.check("strengths", strengths, where="here")
    tables.check("scores", scores, where="here")
    assert strengths["strength"].is_not_null().all()
    within = strengths.group_by("prompt_id").agg(pl.col("strength").mean())
    assert within["strength"].abs().max() < 1e-9


def test_scores_are_the_sigmoid_of_the_difference_with_its_error():
    votes = random_votes(1)
    strengths, scores = bradley_terry(votes)
    theta = by_id(strengths)
    asked = votes.select("completion_a", "completion_b").unique(maintain_order=True)
    ids = tables.pair_ids(asked["completion_a"], asked["completion_b"])
    value = dict(scores.select("subject_id", "value").iter_rows())
    assert set(value) == set(ids)
    for id_, (a, b) in zip(ids, asked.iter_rows(), strict=True):
        assert value[id_] == pytest.approx(expit(theta[a] - theta[b]))
    assert ((scores["stderr"] > 0) & (scores["stderr"] < 0.5)).all()


def test_the_order_of_rows_does_not_matter():
    votes = random_votes(2)
    once = bradley_terry(votes)
    again = bradley_terry(Votes(votes.sample(fraction=1, shuffle=True, seed=3)))
    for one, other in zip(once, again, strict=True):
        assert one.equals(other)


def test_shards_of_prompts_give_what_the_whole_gives():
    votes = random_votes(4, n_prompts=20)
    number = pl.col("prompt_id").str.slice(1).cast(pl.Int64) % 7
    parts = [bradley_terry(Votes(votes.filter(number == shard))) for shard in range(7)]
    for which, name in enumerate(("strengths", "scores")):
        whole = tables.check(name, bradley_terry(votes)[which], where="whole")
        united = tables.union(name, *(part[which] for part in parts), where="shards")
        assert united.equals(whole)


def test_renaming_so_that_a_and_b_swap_changes_nothing_else():
    votes = random_votes(5)
    new = {
        name: f"z{99 - int(name.split('c')[1])}{name}" for name in by_id(bradley_terry(votes)[0])
    }
    rows = votes.select("prompt_id", "completion_a", "completion_b", "preference").iter_rows()
    renamed = votes_from([(prompt, new[a], new[b], p) for prompt, a, b, p in rows])
    before, after = by_id(bradley_terry(votes)[0]), by_id(bradley_terry(renamed)[0])
    assert (renamed["completion_a"] > renamed["completion_b"]).sum() == 0
    for name, strength in before.items():
        assert after[new[name]] == pytest.approx(strength, abs=1e-9)


def test_turning_every_vote_round_turns_every_strength_round():
    votes = random_votes(6)
    turned = Votes(votes.with_columns(preference=1 - pl.col("preference")))
    before, after = by_id(bradley_terry(votes)[0]), by_id(bradley_terry(turned)[0])
    for name, strength in before.items():
        assert after[name] == pytest.approx(-strength, abs=1e-9)


def test_unscored_votes_are_left_out_and_not_counted_as_losses():
    rows = [("p", "x", "y", 1.0), ("p", "x", "y", 0.0), ("p", "y", "z", 0.5)]
    none = [("p", "x", "y", None)] * 5 + [("p", "x", "w", None)]
    with_none, without = bradley_terry(votes_from(rows + none)), bradley_terry(votes_from(rows))
    assert with_none[0].equals(without[0])
    assert with_none[1].equals(without[1])


def test_votes_across_prompts_put_them_on_one_scale():
    rows = [("p", "a", "b", 1.0), ("p", "a", "b", 0.0), ("q", "c", "d", 1.0), ("q", "c", "d", 0.0)]
    apart = by_id(bradley_terry(votes_from(rows))[0])
    joined = by_id(bradley_terry(votes_from([*rows, *[(None, "b", "c", 1.0)] * 5]))[0])
    assert apart["a"] == pytest.approx(apart["c"], abs=1e-9)
    assert joined["a"] > 0.5 > -0.5 > joined["d"]
    assert sum(joined.values()) == pytest.approx(0, abs=1e-9)


def test_a_completion_with_votes_across_prompts_only_needs_the_completions():
    votes = votes_from([(None, "a", "b", 1.0)])
    with pytest.raises(TableError, match="completions"):
        bradley_terry(votes)
    said = [[{"role": "assistant", "content": "yes"}]] * 2
    known = {"completion_id": ["a", "b"], "prompt_id": ["p", "q"], "completion": said}
    completions = tables.typed(Completions, pl.DataFrame(known))
    assert bradley_terry(votes, completions)[0]["prompt_id"].to_list() == ["p", "q"]


def test_criteria_choose_and_weights_count_votes():
    rows = [("p", "a", "b", 1.0, "help"), ("p", "a", "b", 0.0, "harm")]
    votes = votes_from(rows)
    both, one = bradley_terry(votes)[0], bradley_terry(votes, criteria=["help"])[0]
    assert by_id(both)["a"] == pytest.approx(0, abs=1e-9)
    assert by_id(one) == by_id(bradley_terry(votes_from(rows[:1]))[0])
    weighed = by_id(bradley_terry(votes, weights={"help": 3.0})[0])
    thrice = by_id(bradley_terry(votes_from([*rows[:1] * 3, rows[1]]))[0])
    assert weighed["a"] == pytest.approx(thrice["a"], abs=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"criteria": ["qualty"]}, "did you mean 'quality'"),
        ({"weights": {"qualty": 2.0}}, "did you mean 'quality'"),
        ({"weights": {"quality": 0.0}}, "above 0"),
        ({"prior": -1.0}, "prior is -1.0"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(RecipeError, match=said):
        bradley_terry(random_votes(0), **options)


def test_no_votes_give_no_strengths():
    empty = Votes(tables.empty("votes"))
    assert [made.height for made in bradley_terry(empty)] == [0, 0]


def test_a_hundred_thousand_prompts_of_four():
    """Many small components at once: seconds, not minutes, and each at its own optimum."""
    theta, games = round_robin(100_000, 4, 2, seed=0, scale=1.5)
    fit = fit_bradley_terry(*games, n_items=400_000)
    assert fit.residual < 1e-9
    assert fit.component.max() == 99_999
    assert np.corrcoef(theta, fit.strengths)[0, 1] > 0.7
