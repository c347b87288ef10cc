"""The value of a person's vote: Bayes' rule by enumeration, labels against the jury, real votes."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.route.expected_gain import expected_gain, worth
from prefdata.tables import Scores
from tests.route.planted import said, sides

ALL = {"share": 1.0, "audit": 0.0}
DATA = Path(__file__).parents[1] / "data"


def scored(values, score="preference", model="m"):
    rows = sides(len(values))
    ids = tables.pair_ids(rows["completion_a"], rows["completion_b"])
    frame = pl.DataFrame({"subject_id": ids, "value": pl.Series(values, dtype=pl.Float64)})
    return frame.with_columns(subject=pl.lit("pair"), score=pl.lit(score), model=pl.lit(model))


def gains(votes, *scores, **options):
    there = tables.typed(Scores, pl.concat(scores)) if scores else None
    made = expected_gain(votes, None, there, budget=ALL, **options)
    return dict(made.select(pl.col("completion_a").str.head(6).cast(pl.Int64), "gain").rows())


def test_it_is_what_bayes_rule_expects_of_the_best_label_after_the_vote():
    for p in np.linspace(0, 1, 11):
        for person in (0.6, 0.8, 0.95, 1.0):
            # P(truth, answer) for a and b, and the better label for each answer.
            joint = np.array(
                [[p * person, p * (1 - person)], [(1 - p) * (1 - person), (1 - p) * person]]
            )
            after = joint.max(0).sum()
            belief = np.array([[p, 0.0, 1 - p]])
            for label, held in ((1.0, p), (-1.0, 1 - p), (np.nan, max(p, 1 - p))):
                made = worth(belief, np.array([label]), person)
                assert made[0] == pytest.approx(after - held)


def test_a_label_that_the_others_speak_against_is_worth_more_than_any_doubt():
    votes = said({"llm:one": [1, 1, 1], "llm:two": [1, 0, 0]})
    posterior = scored([0.9, 0.5, 0.1])
    assert gains(votes, posterior) == pytest.approx({0: 0.05, 1: 0.45, 2: 0.05})
    by_one = gains(votes, posterior, label="llm:one")
    assert by_one == pytest.approx({0: 0.05, 1: 0.45, 2: 0.85})
    # Where it did not vote, the label is the likeliest one.
    some = said({"llm:one": [None, 1, 1], "llm:two": [1, 0, 0]})
    assert gains(some, posterior, label="llm:one") == pytest.approx(by_one)


def test_where_ties_are_possible_a_tie_is_a_label_like_others():
    votes = said({"llm:one": [0.5, 1, 0]})
    made = gains(votes, scored([0.5, 0.6, 0.3]), scored([0.7, 0.2, 0.0], "tie"), label="llm:one")
    # P of a, tie, b: .15 .7 .15; .5 .2 .3; .3 0 .7.
    assert made == pytest.approx({0: 0.95 - 0.7, 1: 0.95 - 0.5, 2: 0.95 - 0.7})


def test_a_person_who_is_no_better_than_the_jury_gains_nothing():
    votes = said({"llm:one": [1, 1]})
    assert gains(votes, scored([0.9, 0.7]), person=0.7) == pytest.approx({0: 0, 1: 0})
    with pytest.raises(RecipeError, match=r"person = 0\.0"):
        gains(votes, person=0.0)
    with pytest.raises(RecipeError, match="no votes of 'llm:won'; did you mean 'llm:one'"):
        gains(votes, label="llm:won")
