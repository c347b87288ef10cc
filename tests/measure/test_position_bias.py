"""Position bias: judges whose bias is planted."""

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.bradley_terry import bradley_terry
from prefdata.measure.position_bias import position_bias
from prefdata.tables import Prompts, Votes


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
        pl.concat_str(pl.lit("p"), "unit").alias("prompt_id"),
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
        "tie_rate": 0.0,
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
    assert found["tie_rate"] == 0.5
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
        "first_shown_wins": 3, "position_bias": 1, "swap_consistency": 1, "tie_rate": 3,
        "unscored_share": 4,
    }  # fmt: skip


def test_without_a_known_order_there_is_nothing_to_say():
    made = position_bias(votes_of([(unit, None, 1.0) for unit in range(5)]))
    assert values(made) == {
        "first_shown_wins": None,
        "position_bias": None,
        "swap_consistency": None,
        "tie_rate": 0.0,
        "unscored_share": 0.0,
    }
    tables.check("measures", made, where="here")


def test_the_error_is_binomial_where_every_vote_is_a_group_of_its_own():
    made = position_bias(Votes(planted(3, says_first=0.4, n=50).filter(pl.col("a_first"))))
    (row,) = made.filter(pl.col("measure") == "first_shown_wins").to_dicts()
    share = row["value"]
    assert row["n"] == 50
    assert row["stderr"] == pytest.approx(np.sqrt(share * (1 - share) / 49))


def test_repeated_votes_and_prompts_of_one_group_do_not_make_it_surer():
    votes = planted(6, says_first=0.3, n=60)
    again = Votes(pl.concat([votes, votes.with_columns(draw=pl.col("draw") + 1)]))
    one, two = position_bias(votes), position_bias(again)
    assert np.allclose(one["stderr"], two["stderr"])
    assert np.allclose(one["low"], two["low"])
    assert (two["n"] == 2 * one["n"]).all()
    ids = votes["prompt_id"].unique().sort()
    asked = [[{"role": "user", "content": each}] for each in ids]
    groups = [f"g{at // 6}" for at in range(len(ids))]
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": asked, "source": "s", "group": groups})
    grouped = position_bias(votes, tables.typed(Prompts, prompts))
    assert np.allclose(grouped["value"], one["value"])
    single = position_bias(votes, tables.typed(Prompts, prompts.with_columns(group=pl.lit("g"))))
    assert single["low"].is_null().all()
    assert single["note"].str.contains("one prompt group").all()


def test_every_interval_covers_what_was_planted():
    """Where groups hold several votes that share a taste, over seeds 0 to 199."""
    worlds = []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        blind = np.repeat(draw.random(40) < 0.3, 3)
        better = np.repeat(draw.integers(0, 2, 40), 3).astype(float)
        for a_first in (True, False):
            said = np.where(blind, float(a_first), better)
            rows = [(f"{seed}-{u}", a_first, p) for u, p in enumerate(said)]
            worlds.append(votes_of(rows, f"llm:judge{seed:03}"))
    votes = pl.concat(worlds)
    at = pl.col("prompt_id").str.extract("-(.*)$").cast(pl.Int64) // 3
    group = pl.concat_str(pl.lit("q"), pl.col("annotator"), at)
    made = position_bias(Votes(votes.with_columns(prompt_id=group)))
    for name, truth in (("position_bias", 0.3), ("swap_consistency", 0.7)):
        mine = made.filter(pl.col("measure") == name)
        assert mine.height == 200
        assert mine["value"].is_between(0, 1).sum() >= 180
        covered = ((mine["low"] <= truth) & (truth <= mine["high"])).sum()
        assert 180 <= covered <= 198


def test_a_judge_who_always_says_the_first_tells_strengths_nothing(world):
    """Alone it leaves all completions equal; in a jury on equal terms it changes no order."""
    made = world(8, 4)
    honest = made["votes"]
    both = pl.concat([honest, honest.with_columns(a_first=~pl.col("a_first"))])
    blind = both.with_columns(
        annotator=pl.lit("llm:blind/helpfulness"), preference=pl.col("a_first").cast(pl.Float64)
    )
    found = position_bias(Votes(blind)).filter(pl.col("measure") == "position_bias")
    assert found["value"].to_list() == [1.0]
    strengths, _ = bradley_terry(Votes(blind))
    assert strengths["strength"].abs().max() < 1e-9
    order = [
        bradley_terry(Votes(votes))[0].sort("prompt_id", "strength")["completion_id"].to_list()
        for votes in (both, pl.concat([both, blind]))
    ]
    assert order[0] == order[1]


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
