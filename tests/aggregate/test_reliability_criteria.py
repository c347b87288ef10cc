"""Reliability is of an annotator on a criterion: who is good at one need not be at another."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.reliability import reliability
from prefdata.tables import Votes
from tests.aggregate.planted import preferences_of, score_of

SLOPES = {
    "accuracy": np.array([1.8, 1.8, 1.6, 1.2, 0.2, 0.1, 0.3, 0.1]),
    "style": np.array([0.1, 0.3, 0.1, 0.2, 1.2, 1.6, 1.8, 1.8]),
}
NAMES = [f"p{i:03}" for i in range(250)]


def planted(seed, slopes=SLOPES, likes=None):
    """Whether a is better, and a vote of each annotator on each criterion, about one quality."""
    draw = np.random.default_rng(seed)
    apart = np.sqrt(2) * draw.normal(size=len(NAMES))
    frames = []
    for criterion, slope in slopes.items():
        for who, steep in enumerate(slope):
            first = draw.random(len(NAMES)) < 0.5
            lean = (likes or {}).get(criterion, 0.0)
            odds = steep * apart + np.where(first, lean, -lean)
            said = draw.random(len(NAMES)) < 1 / (1 + np.exp(-odds))
            columns = {
                "completion_a": [f"{name}/a" for name in NAMES],
                "completion_b": [f"{name}/b" for name in NAMES],
                "prompt_id": NAMES,
                "annotator": f"human:{who}",
                "criterion": criterion,
                "draw": 0,
                "a_first": first,
                "preference": said.astype(float),
            }
            frames.append(pl.DataFrame(columns))
    return apart > 0, tables.typed(Votes, pl.concat(frames))


def of_criterion(scores, criterion, name, column="value"):
    own = scores.filter(pl.col("model") == f"reliability:{criterion}")
    return np.array(list(score_of(own, name, column).values()))


def test_who_is_good_at_one_criterion_and_bad_at_another_is_found_to_be():
    """Each discrimination within its errors, and nobody's two are taken for one."""
    away = []
    for seed in range(4):
        _, votes = planted(seed)
        scores = reliability(votes)[1]
        for criterion, slopes in SLOPES.items():
            found, error = (
                of_criterion(scores, criterion, "discrimination", column)
                for column in ("value", "stderr")
            )
            away.append((found - slopes) / error)
            assert found[slopes > 1].min() > found[slopes < 0.5].max()
    assert np.mean(np.abs(away) < 1.96) >= 0.88
    assert abs(np.mean(away)) < 0.5


def test_one_reliability_for_both_criteria_would_lose_what_each_is_worth():
    """The same votes as draws on one criterion: good and bad ones of a person count alike."""
    right = {"apart": [], "together": []}
    for seed in (1, 2):
        better, votes = planted(seed)
        mixed = votes.with_columns(
            criterion=pl.lit("all"), draw=(pl.col("criterion") == "style").cast(pl.Int64)
        )
        for name, given in (("apart", votes), ("together", tables.typed(Votes, mixed))):
            p = preferences_of(reliability(given)[1], NAMES)
            right[name].append(((p > 0.5) == better).mean())
    assert np.mean(right["apart"]) > np.mean(right["together"]) + 0.02


def test_the_place_is_liked_on_the_criterion_on_which_it_was_planted():
    even = {name: np.full(4, 1.0) for name in SLOPES}
    _, votes = planted(7, even, {"style": 1.5})
    scores = reliability(votes)[1]
    assert of_criterion(scores, "style", "position_effect").min() > 0.9
    assert np.abs(of_criterion(scores, "accuracy", "position_effect")).max() < 0.5


def test_a_criterion_that_is_left_out_counts_for_nothing():
    _, votes = planted(8)
    own = Votes(votes.filter(pl.col("criterion") == "accuracy"))
    some = reliability(votes, criteria=["accuracy"])[1]
    alone = reliability(own)[1]
    assert some.equals(alone)
    assert not some["model"].str.contains("style").any()


def test_a_group_of_one_counts_as_before_on_both_criteria():
    _, votes = planted(11)
    alone, grouped = (reliability(votes, groups=g)[1] for g in (None, {"human:3": "one"}))
    assert alone.equals(grouped)


def test_votes_on_the_opposite_of_quality_count_the_other_way():
    """Everyone is asked who is worse too: the criterion's discriminations are below 0."""
    even = {"better": np.full(5, 1.2), "worse": np.full(5, -1.2)}
    better, votes = planted(9, even)
    scores = reliability(votes)[1]
    signs = {n: np.sign(of_criterion(scores, n, "discrimination")) for n in even}
    assert (signs["better"] == -signs["worse"]).all()
    assert len(set(signs["better"])) == 1
    p = preferences_of(scores, NAMES)
    assert abs(((p > 0.5) == better).mean() - 0.5) > 0.3, "which way up gold would have to say"


@pytest.mark.parametrize("gold", [True, False])
def test_gold_on_one_criterion_says_which_way_up_both_are(gold: bool):
    even = {"better": np.full(4, 1.2), "worse": np.full(6, -1.2)}
    better, votes = planted(10, even)
    told = votes.filter(pl.col("annotator") == "human:0", pl.col("criterion") == "better")
    told = told.sort("prompt_id").head(40).with_columns(
        annotator=pl.lit("human:gold"),
        a_first=pl.lit(None, pl.Boolean),
        preference=pl.Series(better[:40].astype(float)),
    )  # fmt: skip
    known = tables.typed(Votes, pl.concat([votes, told])) if gold else votes
    p = preferences_of(reliability(known, gold="human:gold" if gold else None)[1], NAMES)
    assert (((p > 0.5) == better).mean() > 0.8) == gold
