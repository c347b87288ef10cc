from math import exp

import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.win_rate import win_rate
from prefdata.pair.all_pairs import all_pairs
from prefdata.select.margin import margin
from prefdata.tables import Votes


def votes_of(matrix, prompt="p"):
    """One vote for every two, with the preference that the matrix has."""
    n = len(matrix)
    rows = [
        {"completion_a": f"{prompt}c{i}", "completion_b": f"{prompt}c{j}", "annotator": "llm:j",
         "criterion": "overall", "draw": 0, "a_first": True, "prompt_id": prompt,
         "preference": matrix[i][j]}
        for i in range(n) for j in range(i + 1, n)
    ]  # fmt: skip
    return tables.typed(Votes, pl.DataFrame(rows))


def rates(votes, **options):
    strengths, scores = win_rate(votes, **options)
    return dict(strengths.select("completion_id", "strength").rows()), scores


MATRIX = [[0.5, 0.8, 0.9], [0.2, 0.5, 0.7], [0.1, 0.3, 0.5]]


def test_the_mean_of_a_row_of_the_matrix():
    found, _ = rates(votes_of(MATRIX))
    assert found == pytest.approx({"pc0": 2.2 / 3, "pc1": 1.4 / 3, "pc2": 0.3})
    assert sum(found.values()) == pytest.approx(1.5)
    alone, _ = rates(votes_of(MATRIX), with_self=False)
    assert alone == pytest.approx({"pc0": 0.85, "pc1": 0.45, "pc2": 0.2})


def test_a_circle_is_counted_and_nobody_wins():
    circle = [[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]]
    found, scores = rates(pl.concat([votes_of(circle), votes_of(MATRIX, "q")]), with_self=False)
    assert [found[f"pc{at}"] for at in range(3)] == pytest.approx([0.5] * 3)
    cycles = scores.filter(pl.col("score") == "cycles")
    assert dict(cycles.select("subject_id", "value").rows()) == {"p": 1.0, "q": 0.0}


def test_a_dominated_fourth_loses_to_all_in_the_circle():
    circle = [[0.5, 0.9, 0.1, 1.0], [0.1, 0.5, 0.9, 1.0], [0.9, 0.1, 0.5, 1.0], [0.0] * 3 + [0.5]]
    found, scores = rates(votes_of(circle), with_self=False)
    assert found["pc3"] == 0.0
    assert [found[f"pc{at}"] for at in range(3)] == pytest.approx([2 / 3] * 3)
    assert scores.filter(pl.col("score") == "cycles")["value"].to_list() == [1.0]


@pytest.mark.parametrize("with_self", [True, False])
def test_of_a_circle_no_pair_is_made_and_of_a_dominated_fourth_its_three_losses(with_self):
    """Direct Nash Optimization's pairs, by the difference of win rates."""
    circle = [[0.5, 0.9, 0.1, 1.0], [0.1, 0.5, 0.9, 1.0], [0.9, 0.1, 0.5, 1.0], [0.0] * 3 + [0.5]]
    alone = [row[:3] for row in circle[:3]]
    strengths, _ = win_rate(
        pl.concat([votes_of(alone), votes_of(circle, "q")]), with_self=with_self
    )
    pairs, dropped = all_pairs(strengths)
    kept = margin(pairs, min_margin=0.1)
    assert set(kept["rejected_id"]) == {"qc3"}
    assert set(kept["chosen_id"]) == {"qc0", "qc1", "qc2"}
    assert dropped.height == 6  # three ties in each circle


def test_win_rates_of_the_paper_s_preference_model():
    """Self-Play Preference Optimization's five scores, with itself at 1/2."""
    scores = [2, 1, 0, -1, -2]
    matrix = [[1 / (1 + exp(b - a)) for b in scores] for a in scores]
    found, _ = rates(votes_of(matrix))
    wanted = [0.809289, 0.666674, 0.5, 0.333326, 0.190711]
    assert [found[f"pc{at}"] for at in range(5)] == pytest.approx(wanted, abs=5e-7)
    assert matrix[0][4] == pytest.approx(0.982014, abs=5e-7)


def test_both_orders_count_alike_and_rows_may_stand_anyhow(shuffled):
    votes = votes_of(MATRIX)
    turned = votes.with_columns(a_first=pl.lit(False), preference=pl.col("preference") - 0.1)
    both = pl.concat([votes, turned])
    found, scores = rates(both)
    assert found["pc0"] == pytest.approx((0.5 + 0.75 + 0.85) / 3)
    again, other = rates(shuffled(both, 2))
    assert again == found
    assert scores.sort("subject_id", "score").equals(other.sort("subject_id", "score"))
