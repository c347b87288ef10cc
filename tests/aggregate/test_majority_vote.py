"""Majority vote: the Beta posterior of each two, win shares, and their invariances."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from prefdata import tables
from prefdata.aggregate.majority_vote import majority_vote
from prefdata.errors import RecipeError
from prefdata.tables import Votes
from tests.aggregate.planted import by_id, votes_from


def one_pair(wins, losses, ties=0):
    rows = [
        ("p", "a", "b", p) for p, n in ((1.0, wins), (0.0, losses), (0.5, ties)) for _ in range(n)
    ]
    return votes_from(rows)


@pytest.mark.parametrize(("wins", "losses", "ties"), [(1, 0, 0), (3, 5, 0), (2, 2, 3), (0, 9, 1)])
@pytest.mark.parametrize("prior", [0.5, 1.0, 3.0])
def test_the_posterior_is_scipys_beta(wins, losses, ties, prior):
    _, scores = majority_vote(one_pair(wins, losses, ties), prior=prior)
    posterior = stats.beta(wins + ties / 2 + prior, losses + ties / 2 + prior)
    row = scores.row(0, named=True)
    (majority,) = scores.filter(pl.col("score") == "majority")["value"]
    assert majority == pytest.approx(posterior.sf(0.5))
    assert row["subject_id"] == tables.pair_ids(["b"], ["a"])[0]
    assert row["value"] == pytest.approx(posterior.mean())
    assert row["stderr"] == pytest.approx(posterior.std())


def test_above_a_half_is_the_majority_and_a_tie_is_a_half():
    for wins in range(6):
        for losses in range(1, 6):
            value = majority_vote(one_pair(wins, losses))[1]["value"][0]
            assert np.sign(value - 0.5) == np.sign(wins - losses)


def test_strength_is_the_mean_over_opponents_and_not_over_votes():
    rows = [("p", "a", "b", 1.0)] * 8 + [("p", "a", "c", 0.0)] + [("p", "b", "c", 0.5)]
    strengths = by_id(majority_vote(votes_from(rows))[0])
    assert strengths["a"] == pytest.approx((9 / 10 + 1 / 3) / 2)
    assert strengths["b"] == pytest.approx((1 / 10 + 1 / 2) / 2)
    assert strengths["c"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_intervals_cover_the_planted_share():
    """Shares drawn from the uniform prior: posterior intervals must cover them."""
    draw = np.random.default_rng(0)
    share = draw.random(200)
    rows = [
        (f"p{i:03}", f"a{i:03}", f"b{i:03}", float(vote))
        for i, p in enumerate(share)
        for vote in draw.random(40) < p
    ]
    strengths, _ = majority_vote(votes_from(rows))
    a = strengths.filter(pl.col("completion_id").str.starts_with("a")).sort("completion_id")
    apart = np.abs(a["strength"].to_numpy() - share)
    assert 0.90 <= (apart < 1.96 * a["stderr"].to_numpy()).mean() <= 0.99


def random_votes(seed):
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(300):
        prompt = draw.integers(0, 20)
        i, j = sorted(draw.choice(4, 2, replace=False))
        rows.append((f"p{prompt}", f"{prompt}c{i}", f"{prompt}c{j}", draw.choice([0, 0.3, 0.5, 1])))
    return votes_from(rows)


def test_neither_the_order_of_rows_nor_shards_matter():
    votes = random_votes(0)
    whole = majority_vote(votes)
    shuffled = majority_vote(Votes(votes.sample(fraction=1, shuffle=True, seed=1)))
    number = pl.col("prompt_id").str.slice(1).cast(pl.Int64) % 7
    parts = [majority_vote(Votes(votes.filter(number == shard))) for shard in range(7)]
    for which, name in enumerate(("strengths", "scores")):
        checked = tables.check(name, whole[which], where="whole")
        assert tables.check(name, shuffled[which], where="shuffled").equals(checked)
        assert tables.union(name, *(p[which] for p in parts), where="shards").equals(checked)


def test_turning_the_votes_round_turns_the_shares_round():
    votes = random_votes(1)
    turned = Votes(votes.with_columns(preference=1 - pl.col("preference")))
    before, after = by_id(majority_vote(votes)[0]), by_id(majority_vote(turned)[0])
    for name, strength in before.items():
        assert after[name] == pytest.approx(1 - strength)


def test_unscored_votes_are_left_out_but_counted():
    rows = [("p", "a", "b", 1.0)]
    unscored = [("p", "a", "b", None)] * 9 + [("p", "a", "c", None)]
    one, other = majority_vote(votes_from(rows)), majority_vote(votes_from(rows + unscored))
    assert one[0].equals(other[0])
    counted = pl.col("score") == "abstentions"
    assert one[1].filter(~counted).equals(other[1].filter(~counted))
    assert [made[1].filter(counted)["value"][0] for made in (one, other)] == [0, 0.9]


def test_criteria_and_wrong_options():
    votes = Votes(
        pl.concat([one_pair(4, 0), votes_from([("p", "a", "b", 0.0)] * 4, criterion="harm")])
    )
    assert majority_vote(votes)[1]["value"][0] == pytest.approx(0.5)
    only = majority_vote(votes, criteria=["quality"])[1]["value"][0]
    assert only == pytest.approx(5 / 6)
    with pytest.raises(RecipeError, match="did you mean 'quality'"):
        majority_vote(votes, criteria=["qualitty"])
    with pytest.raises(RecipeError, match="prior is 0"):
        majority_vote(votes, prior=0)


def test_ties_and_abstentions_are_counted_as_wanted():
    rows = [("p", "a", "b", p) for p in (1.0, 1.0, 0.5, None, None, None)]
    votes = votes_from(rows)

    def score(name, **options):
        made = majority_vote(votes, **options)[1]
        return made.filter(pl.col("score") == name)["value"][0]

    assert score("preference") == pytest.approx(3.5 / 5)
    assert score("preference", ties="left_out") == pytest.approx(3 / 4)
    assert score("preference", abstentions="halves") == pytest.approx(5 / 8)
    assert score("preference", ties="left_out", abstentions="halves") == pytest.approx(4.5 / 7)
    assert score("ties") == pytest.approx(1 / 3)
    assert score("abstentions") == pytest.approx(1 / 2)
    silent = votes_from([("p", "a", "b", None)])
    assert [t.height for t in majority_vote(silent)] == [0, 0]
    assert majority_vote(silent, abstentions="halves")[1]["value"][0] == 0.5


def test_no_votes_give_no_rows():
    assert [made.height for made in majority_vote(Votes(tables.empty("votes")))] == [0, 0]
