import polars as pl
import pytest

from prefdata.errors import TableError
from prefdata.order.dcg_weights import dcg_weights
from prefdata.pair.all_pairs import all_pairs


def strengths_of(made, values):
    at = pl.int_range(pl.len()).over("prompt_id")
    return made["strengths"].with_columns(
        strength=at.replace_strict(dict(enumerate(values)), return_dtype=pl.Float64)
    )


def test_the_weights_of_the_formula(world):
    """psi = .9, .7, .4, .1: worked out by hand with natural logarithms."""
    made = world(2, 4)
    strengths = strengths_of(made, (0.9, 0.7, 0.4, 0.1))
    pairs, _ = all_pairs(strengths)
    rows = dcg_weights(pairs, strengths).pivot("score", index="subject_id", values="value")
    found = {
        (int(row["rank_chosen"]), int(row["rank_rejected"])): row["dcg_weight"]
        for row in rows.rows(named=True)
    }
    expected = {(1, 2): 0.1286, (1, 3): 0.3943, (1, 4): 0.6524,
                (2, 3): 0.0576, (2, 4): 0.1597, (3, 4): 0.0248}  # fmt: skip
    assert found == pytest.approx(expected, abs=5e-5)
    for row in rows.rows(named=True):
        psi = {1: 0.9, 2: 0.7, 3: 0.4, 4: 0.1}
        assert row["gain_chosen"] == pytest.approx(2 ** psi[int(row["rank_chosen"])] - 1)


def test_two_of_equal_strength_weigh_nothing(world):
    made = world(1, 3)
    strengths = strengths_of(made, (0.5, 0.5, 0.1))
    scores = dcg_weights(made["pairs"], strengths)
    weights = scores.filter(pl.col("score") == "dcg_weight")["value"]
    assert (weights == 0).sum() == 1
    assert (weights > 0).sum() == 2


def test_strengths_on_the_log_scale_are_refused(world):
    made = world()
    with pytest.raises(TableError, match=r"outside of \[0, 1\].*aggregate\.win_rate"):
        dcg_weights(made["pairs"], made["strengths"])
