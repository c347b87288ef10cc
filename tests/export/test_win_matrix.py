import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.export.win_matrix import win_matrix


def preferences(made, probability, model="win_rate"):
    """Scores by `probability(at, other)` of the completions' numbers in their prompt."""
    ids = made["completions"].select(
        "prompt_id", "completion_id", at=pl.col("completion").list[0].struct["content"]
    )
    both = ids.join(ids, on="prompt_id").filter(
        pl.col("completion_id") < pl.col("completion_id_right")
    )
    rows = both.rows(named=True)
    value = [probability(int(row["at"][-1]), int(row["at_right"][-1])) for row in rows]
    frame = pl.DataFrame({
        "subject_id": tables.pair_ids(both["completion_id"], both["completion_id_right"]),
        "subject": "pair", "score": "preference", "model": model, "value": value,
    })  # fmt: skip
    return tables.check("scores", frame, where="test")


def test_the_matrix_says_who_beats_whom(world):
    made = world(3, 4)
    scores = preferences(made, lambda one, other: 0.5 + 0.1 * (one - other))
    rows = win_matrix(made["prompts"], made["completions"], scores)
    assert rows.height == 3
    for row in rows.rows(named=True):
        at = [int(each[0]["content"][-1]) for each in row["completions"]]
        n = len(at)
        for i in range(n):
            expected = [0.5 + 0.1 * (at[i] - at[j]) for j in range(n)]
            assert row["win_matrix"][i] == pytest.approx(expected)
            assert row["win_rates"][i] == pytest.approx(sum(expected) / n)
        assert sum(row["win_rates"]) == pytest.approx(n / 2)


def test_a_circle_stays_one(world):
    made = world(1, 3)
    circle = {(0, 1): 0.9, (1, 2): 0.9, (2, 0): 0.9}
    scores = preferences(made, lambda i, j: circle.get((i, j), 1 - circle.get((j, i), 0.5)))
    [row] = win_matrix(made["prompts"], made["completions"], scores).rows(named=True)
    assert row["win_rates"] == pytest.approx([0.5] * 3)
    assert max(max(each) for each in row["win_matrix"]) == pytest.approx(0.9)


def test_a_prompt_with_a_gap_has_no_row(world):
    made = world(3, 3)
    scores = preferences(made, lambda one, other: 0.5)
    assert win_matrix(made["prompts"], made["completions"], scores[1:]).height == 2
    both = pl.concat([scores, preferences(made, lambda one, other: 0.7, model="other")])
    rows = win_matrix(made["prompts"], made["completions"], both, model="win_rate")
    assert rows["win_rates"].explode().to_list() == pytest.approx([0.5] * 9)
    with pytest.raises(RecipeError, match="say whose"):
        win_matrix(made["prompts"], made["completions"], both)
    with pytest.raises(RecipeError, match="did you mean 'win_rate'"):
        win_matrix(made["prompts"], made["completions"], both, model="win_rat")
