"""Rows whose label is likeliest wrong, by an aggregate's probability or the votes' mean."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.route.uncertainty import uncertainty
from prefdata.tables import Scores
from tests.route.planted import said, sides

ALL = {"share": 1.0, "audit": 0.0}


def preferences(values, model="m", score="preference"):
    rows = sides(len(values))
    ids = tables.pair_ids(rows["completion_a"], rows["completion_b"])
    frame = pl.DataFrame({"subject_id": ids, "value": pl.Series(values, dtype=pl.Float64)})
    named = frame.drop_nulls("value").with_columns(
        subject=pl.lit("pair"), score=pl.lit(score), model=pl.lit(model)
    )
    return tables.typed(Scores, named)


def gains(*given, **options):
    made = uncertainty(*given, budget=ALL, **options)
    return dict(made.select(pl.col("completion_a").str.head(6).cast(pl.Int64), "gain").rows())


def test_the_gain_is_the_probability_that_the_likelier_side_is_the_worse_one():
    votes = said({"llm:one": [1, 1, 0, 0.5], "llm:two": [1, 0, 0, 1]})
    assert gains(votes) == pytest.approx({0: 0, 1: 0.5, 2: 0, 3: 0.25})
    scored = preferences([0.9, 0.3, None, 0.5])
    # What the aggregate does not know, the votes say.
    assert gains(votes, None, scored) == pytest.approx({0: 0.1, 1: 0.3, 2: 0, 3: 0.5})


def test_calibrated_probabilities_buy_the_most_errors_that_can_be_bought():
    draw = np.random.default_rng(3)
    p = draw.uniform(0.05, 0.95, 4000)
    wrong = draw.random(4000) < np.minimum(p, 1 - p)
    votes = said({"llm:one": (p > 0.5).astype(float)})
    made = uncertainty(votes, None, preferences(p), budget={"share": 0.25, "audit": 0.0})
    at = made["completion_a"].str.head(6).cast(pl.Int64).to_numpy()
    # The quarter nearest to 1/2 is wrong with probability 0.3875 to 0.5, on average 0.44375.
    assert wrong[at].mean() == pytest.approx(0.44375, abs=4 * np.sqrt(0.247 / 1000))


def test_several_aggregates_need_a_choice_and_a_score_must_be_a_probability():
    votes = said({"llm:one": [1, 0]})
    both = tables.typed(Scores, pl.concat([preferences([0.9, 0.5]), preferences([0.6, 0.9], "n")]))
    with pytest.raises(RecipeError, match="the score 'preference' is by m, n; say whose"):
        gains(votes, None, both)
    assert gains(votes, None, both, score="preference@n") == pytest.approx({0: 0.4, 1: 0.1})
    with pytest.raises(RecipeError, match="no pair has a score 'preferance'"):
        gains(votes, None, both, score="preferance")
    with pytest.raises(RecipeError, match=r"some are not in \[0, 1\]"):
        gains(votes, None, preferences([0.1, 3.0], score="margin"), score="margin")
