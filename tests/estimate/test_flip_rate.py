"""Flip rates: planted ones are recovered, intervals cover, and what cannot be known is said."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from prefdata import tables as t
from prefdata.errors import RecipeError
from prefdata.estimate._margins import fit_margins
from prefdata.estimate.flip_rate import fit_repeats, fit_share, flip_rate
from prefdata.tables import Pairs, Scores, Votes

Floats = NDArray[np.float64]


def repeated(n: int, rate: float, m: int, seed: int) -> tuple[Floats, Floats]:
    """How many of m labels of each pair are for a and for b, each flipped on its own."""
    draw = np.random.default_rng(seed)
    truth = draw.random((n, 1)) < 0.5
    for_a = (truth ^ (draw.random((n, m)) < rate)).sum(1).astype(float)
    return for_a, m - for_a


def evidence(n: int, width: int, size: float, rate: float, seed: int) -> Floats:
    """Evidence for the labelled side, of margins with deviation `size`."""
    draw = np.random.default_rng(seed)
    u = draw.normal(size=width)
    u *= size / np.linalg.norm(u)
    x = draw.normal(size=(n, width))
    label = (draw.random(n) < expit(x @ u)) ^ (draw.random(n) < rate)
    return np.where(label, 1, -1)[:, None] * x


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3])
def test_repeats_recover_the_rate_and_not_the_share_of_disagreement(rate: float):
    n_a, n_b = repeated(20_000, rate, 2, seed=1)
    found = fit_repeats(n_a, n_b, np.arange(20_000))
    assert abs(found.value - rate) < 0.01
    disagreement = float(((n_a > 0) & (n_b > 0)).mean())
    assert disagreement > rate + 0.05  # what a cheap version calls the rate


@pytest.mark.parametrize(("n", "rate", "m"), [(1000, 0.2, 2), (300, 0.05, 3), (2000, 0.3, 2)])
def test_intervals_of_repeats_cover_over_200_worlds(n: int, rate: float, m: int):
    found = [fit_repeats(*repeated(n, rate, m, seed), np.arange(n)) for seed in range(200)]
    assert 0.9 <= np.mean([f.low <= rate <= f.high for f in found]) <= 0.99
    assert all(f.is_identified for f in found)


def test_intervals_cover_where_pairs_of_a_group_share_their_labels():
    """Copies of a pair are not more evidence: counting them as such would make intervals short."""
    groups = np.repeat(np.arange(250), 4)
    found = []
    for seed in range(200):
        n_a, n_b = repeated(250, 0.2, 2, seed)
        found.append(fit_repeats(np.repeat(n_a, 4), np.repeat(n_b, 4), groups))
    assert 0.9 <= np.mean([f.low <= 0.2 <= f.high for f in found]) <= 0.99


def test_repeats_by_chance_are_not_identifiable():
    found = fit_repeats(*repeated(300, 0.5, 2, seed=0), np.arange(300))
    assert not found.is_identified
    assert found.high == 0.5
    assert "not identifiable" in found.note


def test_labels_without_flips_have_rate_0():
    n_a, n_b = repeated(500, 0.0, 2, seed=0)
    found = fit_repeats(n_a, n_b, np.arange(500))
    assert found.value == 0
    assert 0 <= found.low <= 1e-9 < found.high < 0.01


def test_margins_recover_the_rate_where_they_are_large():
    found = [fit_margins(evidence(5000, 8, 4.0, 0.2, seed)).rate for seed in range(6)]
    assert all(abs(f.value - 0.2) < 0.03 for f in found)
    assert np.mean([f.low <= 0.2 <= f.high for f in found]) >= 0.75


def test_small_margins_are_said_to_be_not_identifiable():
    """A flatter curve may be flips or ambiguity: no interval of use, and so no value."""
    found = [fit_margins(evidence(3000, 4, 0.7, 0.2, seed)).rate for seed in range(5)]
    assert sum(not f.is_identified for f in found) >= 4
    assert all("not identifiable" in f.note for f in found if not f.is_identified)
    large = [fit_margins(evidence(3000, 4, 5.0, 0.2, seed)).rate for seed in range(4)]
    assert all(f.is_identified for f in large)


@pytest.mark.slow
@pytest.mark.long
def test_intervals_of_margins_cover_over_200_worlds():
    found = [fit_margins(evidence(3000, 4, 3.0, 0.15, seed)).rate for seed in range(200)]
    assert 0.9 <= np.mean([f.low <= 0.15 <= f.high for f in found]) <= 0.99


def test_the_fitted_direction_is_the_planted_one():
    draw = np.random.default_rng(3)
    u = np.array([2.0, -3.0, 0.0])
    x = draw.normal(size=(8000, 3))
    label = (draw.random(8000) < expit(x @ u)) ^ (draw.random(8000) < 0.1)
    fit = fit_margins(np.where(label, 1, -1)[:, None] * x)
    assert np.allclose(fit.u, u, atol=0.35)


@pytest.mark.parametrize("together", [1, 4], ids=["alone", "pairs of a group alike"])
def test_intervals_against_gold_cover_over_200_worlds(together: int):
    found = []
    for seed in range(200):
        wrong = (np.random.default_rng(seed).random(300) < 0.15).astype(float)
        groups = np.repeat(np.arange(300), together)
        found.append(fit_share(np.repeat(wrong, together), groups))
    assert 0.9 <= np.mean([f.low <= 0.15 <= f.high for f in found]) <= 0.99


def test_a_share_of_wrong_labels_above_a_half_is_said():
    found = fit_share(np.r_[np.ones(80), np.zeros(20)], np.arange(100))
    assert found.value == 0.8
    assert found.low > 0.7
    assert "more often wrong" in found.note


def make_votes(n: int, rates: dict[str, float], *, draws: int = 1, seed: int = 0) -> Votes:
    """Every annotator on every pair, a the better one of each, labels flipped at its rate."""
    draw = np.random.default_rng(seed)
    frames = [
        pl.DataFrame(
            {
                "completion_a": [f"a{at:05}" for at in range(n)],
                "completion_b": [f"b{at:05}" for at in range(n)],
                "prompt_id": [f"p{at:05}" for at in range(n)],
                "annotator": annotator,
                "criterion": "all",
                "draw": index,
                "preference": (draw.random(n) >= rate).astype(float),
            }
        )
        for annotator, rate in rates.items()
        for index in range(draws)
    ]
    return t.typed(Votes, pl.concat(frames))


def value(measures: pl.DataFrame, subject: str) -> float:
    return measures.filter(pl.col("subject") == subject)["value"].item()


def test_each_annotator_that_repeats_itself_has_a_rate_of_its_own():
    votes = make_votes(4000, {"human:careful": 0.05, "human:hasty": 0.3}, draws=2)
    found = flip_rate(votes)
    assert abs(value(found, "repeats: human:careful") - 0.05) < 0.02
    assert abs(value(found, "repeats: human:hasty") - 0.3) < 0.03


def test_people_together_and_against_gold():
    people = make_votes(3000, {f"human:{at}": 0.2 for at in range(3)}, seed=1)
    assert abs(value(flip_rate(people), "repeats: human:*") - 0.2) < 0.02
    expert = make_votes(3000, {"human:expert": 0.0})
    both = t.typed(Votes, pl.concat([people, expert]))
    found = flip_rate(both, gold="human:expert")
    for at in range(3):
        assert abs(value(found, f"gold: human:{at}") - 0.2) < 0.025


def test_the_labels_of_pairs_are_held_against_gold():
    votes = make_votes(1000, {"human:expert": 0.0})
    chosen, rejected = votes["completion_a"].to_list(), votes["completion_b"].to_list()
    for at in range(0, 1000, 10):
        chosen[at], rejected[at] = rejected[at], chosen[at]
    pairs = pl.DataFrame({"chosen_id": chosen, "rejected_id": rejected})
    pairs = pairs.with_columns(t.pair_ids(chosen, rejected), soft_label=1.0, n_votes=1)
    pairs = pairs.with_columns(prompt_id=votes["prompt_id"])
    found = flip_rate(votes, pairs=t.typed(Pairs, pairs), gold="human:*")
    assert value(found, "gold: pairs") == pytest.approx(0.1)


def test_margins_come_from_scores_of_pairs():
    d = evidence(4000, 1, 5.0, 0.1, seed=2)[:, 0]
    ids = [f"{at:020x}" for at in range(len(d))]
    pairs = pl.DataFrame({"pair_id": ids, "chosen_id": "x", "rejected_id": "y"})
    pairs = t.typed(Pairs, pairs.with_columns(soft_label=1.0, n_votes=1))
    scores = pl.DataFrame({"subject_id": ids, "subject": "pair", "score": "reward", "value": d})
    scores = t.typed(Scores, scores)
    found = flip_rate(pairs=pairs, scores=scores, margins=["reward"])
    assert abs(value(found, "margins") - 0.1) < 0.03
    with pytest.raises(RecipeError, match="no pair has a score 'rewards'"):
        flip_rate(pairs=pairs, scores=scores, margins=["rewards"])


def test_swapping_a_and_b_names_and_row_order_change_nothing(shuffled: Callable[..., pl.DataFrame]):
    votes = make_votes(500, {"human:1": 0.1, "human:2": 0.3}, draws=2, seed=4)
    swapped = votes.with_columns(
        completion_a=pl.col("completion_b").str.replace("b", "A"),
        completion_b=pl.col("completion_a").str.replace("a", "B"),
        preference=1 - pl.col("preference"),
    )
    assert flip_rate(votes).equals(flip_rate(Votes(shuffled(votes, 3))))
    assert flip_rate(votes).equals(flip_rate(t.typed(Votes, swapped)))


def test_ties_and_unscored_votes_are_no_labels():
    votes = make_votes(200, {"human:1": 0.1}, draws=2, seed=5)
    none, few = pl.lit(None, pl.Float64), votes.filter(pl.col("draw") == 0).head(50)
    tied = few.with_columns(draw=pl.lit(7, pl.Int64), preference=pl.lit(0.5))
    unscored = few.with_columns(
        draw=pl.lit(8, pl.Int64), preference=none, unscored=pl.lit("refused")
    )
    assert flip_rate(t.typed(Votes, pl.concat([votes, tied, unscored]))).equals(flip_rate(votes))


def test_an_unknown_gold_annotator_is_refused():
    with pytest.raises(RecipeError, match="no votes of 'human:exprt'"):
        flip_rate(make_votes(10, {"human:expert": 0.0}), gold="human:exprt")
