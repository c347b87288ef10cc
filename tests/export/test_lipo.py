import polars as pl
import pytest

from prefdata.errors import TableError
from prefdata.export.lipo import lipo


def row_of(made, values):
    at = pl.int_range(pl.len()).over("prompt_id")
    strength = at.replace_strict(dict(enumerate(values)), return_dtype=pl.Float64)
    strengths = made["strengths"].with_columns(strength=strength)
    return lipo(made["prompts"], made["completions"], strengths).row(0, named=True)


@pytest.mark.parametrize(
    ("psi", "weights"),
    [
        ((0.99, 0.5, 0.01), (0.304550, 0.706365, 0.076928)),
        ((0.51, 0.5, 0.49), (0.005238, 0.014142, 0.001845)),
    ],
)
def test_label_values_matter_not_ranks_only(world, psi, weights):
    """The weights of the formula at the labels' own ranks, worked out by hand."""
    row = row_of(world(1, 3), psi)
    assert row["psi"] == list(psi)
    matrix = row["label_rank_weights"]
    assert (matrix[0][1], matrix[0][2], matrix[1][2]) == pytest.approx(weights, abs=1e-6)
    for i in range(3):
        assert matrix[i][i] == 0
        assert [matrix[i][j] for j in range(3)] == [matrix[j][i] for j in range(3)]


def test_ties_weigh_nothing(world):
    row = row_of(world(1, 3), (0.5, 0.9, 0.5))
    assert row["label_rank_weights"][1][2] == 0


def test_strengths_that_are_no_labels_are_refused(world):
    made = world(2, 3)
    with pytest.raises(TableError, match=r"outside of \[0, 1\]"):
        lipo(made["prompts"], made["completions"], made["strengths"])
