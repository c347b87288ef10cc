"""What routing gained, told from the rows by lot: exact where all is known, unbiased elsewhere."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.routing import routing
from prefdata.route.uncertainty import uncertainty
from prefdata.tables import Votes
from tests.route.planted import named, said

N = 300


def world(seed):
    """Labels that are wrong where they are unsure, a queue, and people's votes on the queue."""
    draw = np.random.default_rng(seed)
    truth = draw.random(N) < 0.5
    doubt = draw.uniform(0, 0.5, N)
    wrong = draw.random(N) < doubt
    label = np.where(truth ^ wrong, 1 - doubt, doubt)
    return truth, wrong, said({"llm:one": label})


def answered(votes, truth, budget, seed):
    made = uncertainty(votes, budget=budget, seed=seed)
    at = made["completion_a"].str.head(6).cast(pl.Int64).to_numpy()
    heard = [None] * N
    for row in at:
        heard[row] = float(truth[row])
    both = pl.concat([votes, said({"human:u": heard})])
    return made, at, tables.typed(Votes, both)


def test_the_gain_is_estimated_without_bias_and_the_routed_rows_are_no_estimate_of_the_whole():
    truth, wrong, votes = world(0)
    share = []
    errors, routed = [], []
    for seed in range(60):
        made, at, heard = answered(votes, truth, {"rows": 100, "audit": 0.3}, seed)
        told = routing(heard, audit=0.3, seed=seed)
        values = named(told)
        errors.append(values["label_error random"])
        routed.append(values["label_error routed"])
        # Against what is known here: wrong rows among those routed, and what as many by lot have.
        mine = at[(made["reason"] != "random").to_numpy()]
        share.append(
            values["routing_gain routed"] - (wrong[mine].sum() - len(mine) * wrong.mean()) / N
        )
    for away in (np.array(errors) - wrong.mean(), np.array(share)):
        assert abs(away.mean()) < 4 * away.std() / np.sqrt(len(away))
    assert np.mean(routed) > wrong.mean() + 0.05


def test_the_rows_by_lot_are_those_of_the_queue_and_two_rounds_are_one_audit():
    truth, _, votes = world(1)
    first, _, heard = answered(votes, truth, {"rows": 50, "audit": 0.2}, 5)
    second = uncertainty(heard, budget={"rows": 50, "audit": 0.2}, seed=5)
    told = routing(heard, audit=0.2, seed=5).filter(subject="random", measure="label_error")
    assert told["n"].item() == (first["reason"] == "random").sum() == 10
    in_one = uncertainty(votes, budget={"rows": 100, "audit": 0.2}, seed=5)
    sides = ["completion_a", "completion_b"]
    both = pl.concat([first, second]).select(*sides, "reason")
    audited = in_one.filter(reason="random").select(sides)
    # Each of them was asked about by now, by lot or for its doubt.
    assert audited.join(both, on=sides, how="anti").is_empty()


def test_nothing_is_known_before_anybody_voted():
    _, _, votes = world(2)
    told = routing(votes)
    assert told["value"].null_count() == told.height == 3
    with pytest.raises(RecipeError, match=r"audit = 0\.0"):
        routing(votes, audit=0.0)
