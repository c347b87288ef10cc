"""Whom labels serve: groups whose tastes are planted, and what their welfare then has to be."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.group_welfare import group_welfare
from prefdata.tables import Pairs, Ratings, Scores, Votes


def votes_of(y, known=None):
    """Votes from a matrix (pairs, people) of P(a preferred)."""
    at, who = np.nonzero(np.ones(y.shape, bool) if known is None else known)
    frame = pl.DataFrame(
        {
            "completion_a": [f"a{n:03}" for n in at],
            "completion_b": [f"b{n:03}" for n in at],
            "prompt_id": [f"p{n}" for n in at],
            "annotator": [f"human:{n:02}" for n in who],
            "criterion": "quality",
            "draw": 0,
            "preference": y[at, who].astype(float),
        }
    )
    return tables.typed(Votes, frame)


def pairs_of(chose_a):
    """A label for each pair."""
    frame = pl.DataFrame(
        {
            "pair_id": [f"pair{n}" for n in range(len(chose_a))],
            "prompt_id": [f"p{n}" for n in range(len(chose_a))],
            "chosen_id": [f"{'a' if a else 'b'}{n:03}" for n, a in enumerate(chose_a)],
            "rejected_id": [f"{'b' if a else 'a'}{n:03}" for n, a in enumerate(chose_a)],
            "soft_label": 1.0,
            "n_votes": 1,
        }
    )
    return tables.typed(Pairs, frame)


def two_groups(seed, n_pairs=200, n_people=30, minority=0.2, differ=0.4):
    """Tastes of a majority and a minority who differ on a share of the pairs; no noise."""
    draw = np.random.default_rng(seed)
    taste = draw.random(n_pairs) < 0.5
    other = taste ^ (np.arange(n_pairs) < differ * n_pairs)
    is_minor = np.arange(n_people) < minority * n_people
    y = np.where(is_minor, other[:, None], taste[:, None])
    groups = {
        "minor": [f"human:{n:02}" for n in np.flatnonzero(is_minor)],
        "major": [f"human:{n:02}" for n in np.flatnonzero(~is_minor)],
    }
    return y, taste, other, groups


def told(measures, measure="group_welfare"):
    rows = measures.filter(pl.col("measure") == measure)
    return dict(rows.select("subject", "value").iter_rows())


def test_the_majoritys_labels_cost_the_minority_what_they_differ_in():
    y, taste, other, groups = two_groups(0)
    served = told(group_welfare(pairs_of(taste), votes_of(y), groups=groups))
    assert served["major"] == 1
    assert served["minor"] == served["egalitarian"] == pytest.approx(0.6)
    assert served["utilitarian"] == pytest.approx(0.8 * 1 + 0.2 * 0.6)
    assert served["nash"] == pytest.approx(0.6**0.2)
    turned = told(group_welfare(pairs_of(other), votes_of(y), groups=groups))
    assert turned["utilitarian"] == pytest.approx(0.8 * 0.6 + 0.2 * 1)
    gap = told(group_welfare(pairs_of(taste), votes_of(y), groups=groups), "group_welfare_gap")
    assert gap["all"] == pytest.approx(0.4)


def test_labels_between_the_two_are_fairer_and_serve_all_a_little_less():
    y, taste, other, groups = two_groups(1)
    apart = np.flatnonzero(taste != other)
    between = taste.copy()
    between[apart[::2]] = other[apart[::2]]
    fair = told(group_welfare(pairs_of(between), votes_of(y), groups=groups))
    hard = told(group_welfare(pairs_of(taste), votes_of(y), groups=groups))
    assert fair["egalitarian"] == pytest.approx(0.8)
    assert fair["egalitarian"] > hard["egalitarian"]
    assert fair["utilitarian"] < hard["utilitarian"]


def test_the_functions_are_ordered_and_swapping_the_labels_mirrors_them():
    draw = np.random.default_rng(2)
    y = draw.choice([0.0, 0.5, 1.0], (50, 12))
    groups = {
        "x": [f"human:{n:02}" for n in range(4)],
        "y": [f"human:{n:02}" for n in range(4, 12)],
    }
    chose_a = draw.random(50) < 0.5
    served = told(group_welfare(pairs_of(chose_a), votes_of(y), groups=groups))
    assert served["egalitarian"] <= served["nash"] <= served["utilitarian"]
    means = np.abs(y - ~chose_a[:, None]).mean(0)
    assert served["utilitarian"] == pytest.approx(means.mean())
    by_hand = stats.gmean([means[:4].mean(), means[4:].mean()], weights=[4, 8])
    assert served["nash"] == pytest.approx(by_hand)
    mirrored = told(group_welfare(pairs_of(~chose_a), votes_of(y), groups=groups))
    for who in ("x", "y", "utilitarian"):
        assert served[who] + mirrored[who] == pytest.approx(1)


def test_everybody_counts_once_however_much_it_judged():
    y, taste, _, groups = two_groups(3)
    known = np.ones(y.shape, bool)
    known[::2, 6:] = False  # the majority judged half as much
    served = told(group_welfare(pairs_of(taste), votes_of(y, known), groups=groups))
    assert served["utilitarian"] == pytest.approx(0.8 * 1 + 0.2 * 0.6)


def test_the_interval_covers_the_welfare_of_the_people_that_were_drawn_from():
    covered = 0
    pairs = pairs_of(np.ones(20, bool))
    for seed in range(200):
        draw = np.random.default_rng(seed)
        own = draw.beta(6, 2, 40)  # how far each person agrees; 0.75 in the mean
        y = draw.random((20, 40)) < own
        measures = group_welfare(pairs, votes_of(y), seed=seed)
        row = measures.filter(pl.col("subject") == "utilitarian").row(0, named=True)
        covered += row["low"] <= 0.75 <= row["high"]
    assert 180 <= covered <= 198


def test_groups_that_were_estimated_are_used():
    y, taste, _, groups = two_groups(4)
    rows = [(who, float(at)) for at, name in enumerate(groups) for who in groups[name]]
    frame = pl.DataFrame(rows, schema=["subject_id", "value"], orient="row").with_columns(
        subject=pl.lit("annotator"), score=pl.lit("group")
    )
    scores = tables.typed(Scores, frame)
    served = told(group_welfare(pairs_of(taste), votes_of(y), scores=scores))
    assert served["group:0"] == pytest.approx(0.6)
    assert served["group:1"] == 1
    everyone = told(group_welfare(pairs_of(taste), votes_of(y)))
    assert everyone["everyone"] == everyone["egalitarian"] == everyone["utilitarian"]


def test_ratings_say_who_is_served_too():
    y, taste, _, groups = two_groups(5, n_pairs=20)
    rows = [
        (f"{side}{at:03}", f"p{at}", f"human:{who:02}", 0.7 if (side == "a") == y[at, who] else 0.4)
        for at in range(20)
        for who in range(30)
        for side in "ab"
    ]
    columns = ["completion_id", "prompt_id", "annotator", "rating"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    ratings = tables.typed(Ratings, frame.with_columns(criterion=pl.lit("q"), draw=0))
    by_votes = group_welfare(pairs_of(taste), votes_of(y), groups=groups)
    by_ratings = group_welfare(pairs_of(taste), ratings=ratings, of="ratings", groups=groups)
    assert by_votes.equals(by_ratings)
    tied = group_welfare(pairs_of(taste), ratings=ratings, of="ratings", tie_band=0.3)
    assert told(tied)["utilitarian"] == 0.5


def test_the_order_of_rows_does_not_matter(shuffled):
    y, taste, _, groups = two_groups(6)
    one = group_welfare(pairs_of(taste), votes_of(y), groups=groups)
    again = group_welfare(
        shuffled(pairs_of(taste), 1),
        shuffled(votes_of(y), 2),
        groups=dict(reversed(groups.items())),
    )
    assert one.equals(again)


def test_what_cannot_be_meant_is_refused():
    y, taste, _, _ = two_groups(7, n_pairs=5)
    pairs, votes = pairs_of(taste), votes_of(y)
    with pytest.raises(RecipeError, match="of = ratings, but no ratings"):
        group_welfare(pairs, votes, of="ratings")
    with pytest.raises(RecipeError, match="'human:00' is in several groups"):
        group_welfare(pairs, votes, groups={"a": ["human:00"], "b": ["human:00"]})
    with pytest.raises(RecipeError, match="of = 'both'"):
        group_welfare(pairs, votes, of="both")
    assert group_welfare(pairs, Votes(tables.empty("votes"))).is_empty()


def test_who_said_nothing_is_named_and_the_others_are_counted():
    y, taste, _, _ = two_groups(7, n_pairs=5)
    pairs, votes = pairs_of(taste), votes_of(y)
    known = {"a": ["human:00", "human:01"], "b": ["human:02"]}
    more = {"a": ["human:00", "human:01"], "b": ["human:02", "human:99"]}
    made = group_welfare(pairs, votes, groups=more)
    tables.check("measures", made, where="here")
    (silent,) = made.filter(pl.col("subject") == "human:99").rows(named=True)
    assert (silent["value"], silent["n"]) == (None, 0)
    assert silent["note"].startswith("no votes of 'human:99'")
    others = made.filter(pl.col("subject") != "human:99")
    assert others.equals(group_welfare(pairs, votes, groups=known))
