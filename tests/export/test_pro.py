import math

import polars as pl
import pytest

from prefdata.errors import TableError
from prefdata.export.pro import pro


def of(made, values):
    """Rows where every prompt's completions have these strengths."""
    at = pl.int_range(pl.len()).over("prompt_id")
    strength = at.replace_strict(dict(enumerate(values)), return_dtype=pl.Float64)
    strengths = made["strengths"].with_columns(strength=strength)
    return pro(made["prompts"], made["completions"], strengths)


def test_rewards_fall_and_temperatures_are_their_differences(world):
    for row in of(world(3, 3), [1.0, -1.0, 2.0]).rows(named=True):
        assert row["rewards"] == [2.0, 1.0, -1.0]
        assert row["temperatures"] == [[3.0, 1.0, 3.0], [2.0, 2.0]]
        assert row["sft_index"] == 0


def test_the_loss_of_the_paper_on_our_rows(world):
    """Mean log-probabilities -1, -1.5, -2: the value worked out from the formula by hand."""
    row = of(world(1, 3), [2.0, 1.0, -1.0]).row(0, named=True)
    p = [-1.0, -1.5, -2.0]
    losses = []
    for k, (own, *later) in enumerate(row["temperatures"]):
        top = math.exp(p[k] * own)
        rest = sum(math.exp(p[k + 1 + at] * t) for at, t in enumerate(later))
        losses.append(-math.log(top / (top + rest)))
    assert losses == pytest.approx([1.710455, 0.313262], abs=1e-6)


def test_completions_go_with_their_rewards(world):
    made = world(4, 4)
    rows = pro(made["prompts"], made["completions"], made["strengths"])
    known = dict(made["strengths"].select("completion_id", "strength").rows())
    for row in rows.rows(named=True):
        assert row["rewards"] == [known[id] for id in row["completion_ids"]]


def test_constant_rewards_teach_nothing_and_are_refused(world):
    with pytest.raises(TableError, match="learns nothing"):
        of(world(3, 3), [1.0, 1.0, 1.0])
