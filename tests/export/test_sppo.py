import polars as pl
import pytest

from prefdata.aggregate.win_rate import win_rate
from prefdata.errors import TableError
from prefdata.export.sppo import sppo


def test_each_side_has_its_win_rate_and_the_pair_its_probability(world):
    made = world(4, 3)
    rates, _ = win_rate(made["votes"], made["completions"])
    rows = sppo(made["prompts"], made["completions"], made["pairs"], rates)
    known = dict(rates.select("completion_id", "strength").rows())
    assert rows.height == made["pairs"].height
    for row in rows.rows(named=True):
        assert row["chosen_probs_win"] == known[row["chosen_id"]]
        assert row["chosen_probs_lose"] == known[row["rejected_id"]]
        assert row["chosen_probs"] == row["soft_label"]
        assert row["chosen_probs_win"] > row["chosen_probs_lose"]


def test_strengths_that_are_no_rates_are_refused(world):
    made = world()
    with pytest.raises(TableError, match=r"use aggregate\.win_rate"):
        sppo(made["prompts"], made["completions"], made["pairs"], made["strengths"])
    lost = made["strengths"].with_columns(strength=pl.lit(0.5))[1:]
    rows = sppo(made["prompts"], made["completions"], made["pairs"], lost)
    assert 0 < rows.height < made["pairs"].height
