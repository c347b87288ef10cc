"""Position bias: judges whose bias is planted."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.measure.position_bias import position_bias
from prefdata.tables import Votes


def votes_of(rows, annotator="llm:judge"):
    """Votes from (unit, a_first, preference or None)."""
    frame = pl.DataFrame(rows, schema=["unit", "a_first", "preference"], orient="row", strict=False)
    frame = frame.select(
        pl.concat_str(pl.lit("a"), "unit").alias("completion_a"),
        pl.concat_str(pl.lit("b"), "unit").alias("completion_b"),
        pl.lit(annotator).alias("annotator"),
        pl.lit("quality").alias("criterion"),
        pl.lit(0).alias("draw"),
        pl.col("a_first").cast(pl.Boolean),
        pl.lit("p").alias("prompt_id"),
        pl.col("preference").cast(pl.Float64),
        pl.when(pl.col("preference").is_null()).then(pl.lit("no verdict")).alias("unscored"),
    )
    return tables.typed(Votes, frame)


def planted(seed, says_first, n=1000):
    """A judge who looks at the better side (a or b by the toss of a coin) or says the first."""
    draw = np.random.default_rng(seed)
    rows = []
    for unit in range(n):
        better = float(draw.random() < 0.5)
        for a_first in (True, False):
            blind = draw.random() < says_first
            rows.append((unit, a_first, float(a_first) if blind else better))
    return votes_of(rows)


def values(made, annotator="llm:judge"):
    chosen = made.filter(pl.col("subject") == annotator)
    return dict(chosen.select("measure", "value").iter_rows())


def test_a_judge_who_always_says_the_first():
    found = values(position_bias(planted(0, says_first=1.0)))
    assert found == {
        "first_shown_wins": 1.0,
        "position_bias": 1.0,
        "swap_consistency": 0.0,
        "unscored_share": 0.0,
    }


def test_a_judge_who_always_says_the_second():
    rows = [(unit, a_first, float(not a_first)) for unit in range(9) for a_first in (True, False)]
    found = values(position_bias(votes_of(rows)))
    assert found["position_bias"] == -1
    assert found["first_shown_wins"] == found["swap_consistency"] == 0


def test_a_judge_who_does_not_mind_the_order():
    found = values(position_bias(planted(1, says_first=0.0)))
    assert found["position_bias"] == 0
    assert found["first_shown_wins"] == 0.5
    assert found["swap_consistency"] == 1


def test_quality_is_not_taken_for_bias():
    """Where the better side is mostly shown first, only what both orders show is a bias."""
    rows = [(u, True, 1.0) for u in range(90)] + [(u, False, 1.0) for u in range(10)]
    found = values(position_bias(votes_of(rows)))
    assert found["first_shown_wins"] == pytest.approx(0.9)
    assert found["position_bias"] == 0


def test_a_planted_bias_is_recovered_within_its_interval():
    judges = [
        planted(seed, says_first=0.3, n=200).with_columns(annotator=pl.lit(f"llm:judge{seed}"))
        for seed in range(200)
    ]
    made = position_bias(Votes(pl.concat(judges))).filter(pl.col("measure") == "position_bias")
    assert made.height == 200
    assert 180 <= ((made["value"] - 0.3).abs() < 1.96 * made["stderr"]).sum() <= 198


def test_ties_are_half_and_a_tie_in_one_order_is_not_consistent():
    found = values(position_bias(votes_of([(0, True, 0.5), (0, False, 1.0)])))
    assert found["first_shown_wins"] == pytest.approx(0.25)
    assert found["swap_consistency"] == 0
    assert (
        values(position_bias(votes_of([(0, True, 0.5), (0, False, 0.5)])))["swap_consistency"] == 1
    )


def test_unscored_votes_count_as_unscored_only():
    rows = [(0, True, 1.0), (0, False, 1.0), (1, True, None), (1, False, 0.0)]
    made = position_bias(votes_of(rows))
    n = dict(made.select("measure", "n").iter_rows())
    assert values(made)["unscored_share"] == 0.25
    assert values(made)["swap_consistency"] == 1
    assert n == {
        "first_shown_wins": 3, "position_bias": 1, "swap_consistency": 1, "unscored_share": 4,
    }  # fmt: skip


def test_without_a_known_order_there_is_nothing_to_say():
    made = position_bias(votes_of([(unit, None, 1.0) for unit in range(5)]))
    assert values(made) == {
        "first_shown_wins": None,
        "position_bias": None,
        "swap_consistency": None,
        "unscored_share": 0.0,
    }
    tables.check("measures", made, where="here")


def test_the_error_is_binomial():
    made = position_bias(planted(3, says_first=0.4, n=50))
    for row in made.filter(pl.col("measure") != "position_bias").iter_rows(named=True):
        share = row["value"]
        assert row["stderr"] == pytest.approx(np.sqrt(share * (1 - share) / row["n"]))


def test_invariance_to_names_row_order_and_swapped_sides():
    one, other = planted(4, 0.2, n=80), planted(5, 0.9, n=80)
    named = other.with_columns(annotator=pl.lit("llm:other"))
    votes = Votes(pl.concat([one, named]))
    made = position_bias(votes)
    assert position_bias(Votes(votes.sample(fraction=1, shuffle=True, seed=0))).equals(made)
    assert values(made, "llm:other") == values(position_bias(other))
    swapped = votes.with_columns(preference=1 - pl.col("preference"), a_first=~pl.col("a_first"))
    again = position_bias(Votes(swapped))
    assert np.allclose(again["value"], made["value"])


def test_no_votes_give_no_measures():
    assert position_bias(Votes(tables.empty("votes"))).is_empty()
