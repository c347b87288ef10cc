"""Judges against gold: planted accuracies, published benchmark cells, and tests of two judges."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from prefdata import tables
from prefdata.measure.gold import gold, mcnemar
from prefdata.measure.position_bias import position_bias
from prefdata.tables import Votes

GOLD = "human:gold"


def votes_of(rows):
    """Votes from (unit, annotator, preference or None, a_first, prompt)."""
    names = ["unit", "annotator", "preference", "a_first", "prompt_id"]
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    return tables.typed(
        Votes,
        frame.select(
            pl.format("a{}", "unit").alias("completion_a"),
            pl.format("b{}", "unit").alias("completion_b"),
            "annotator",
            pl.lit("quality").alias("criterion"),
            pl.lit(0).alias("draw"),
            pl.col("a_first").cast(pl.Boolean),
            pl.col("prompt_id").cast(pl.String),
            pl.col("preference").cast(pl.Float64),
            unscored=pl.when(pl.col("preference").is_null()).then(pl.lit("no verdict")),
        ),
    )


def measured(made, measure, subject="llm:j"):
    found = made.filter((pl.col("measure") == measure) & (pl.col("subject") == subject))
    return found.row(0, named=True)


def planted(seed, accuracies, n=400, tie_rate=0.0, name=""):
    """Judges that are right with their accuracy or say tie, on units of which gold knows all."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 2, n).astype(float)
    rows = [(f"{name}{u}", GOLD, truth[u], None, f"{name}p{u}") for u in range(n)]
    for judge, accuracy in accuracies.items():
        right, tied = draw.random(n) < accuracy, draw.random(n) < tie_rate
        said = np.where(tied, 0.5, np.where(right, truth, 1 - truth))
        rows += [(f"{name}{u}", judge, said[u], True, f"{name}p{u}") for u in range(n)]
    return rows


def test_planted_accuracies_and_tie_rates_are_recovered():
    made = gold(
        votes_of(planted(0, {"llm:j": 0.8, "llm:k": 0.6}, n=4000, tie_rate=0.25)), annotator=GOLD
    )
    for judge, accuracy in (("llm:j", 0.8), ("llm:k", 0.6)):
        hit = measured(made, "gold_accuracy", judge)
        assert abs(hit["value"] - (0.75 * accuracy + 0.125)) < 4 * hit["stderr"]
        verdict = measured(made, "gold_verdict_accuracy", judge)
        assert abs(verdict["value"] - 0.75 * accuracy) < 4 * verdict["stderr"]
        assert hit["n"] == 4000


def test_intervals_of_accuracies_and_of_their_difference_cover_over_seeds_0_to_199():
    """Each world has its own judges; the votes of all are one table, gold is common."""
    rows = []
    for seed in range(200):
        judges = {f"llm:j{seed:03}": 0.8, f"llm:k{seed:03}": 0.7}
        rows += planted(seed, judges, n=120, name=f"w{seed:03}-")
    made = gold(votes_of(rows), annotator=GOLD)
    for measure, subject, truth in (
        ("gold_accuracy", "^llm:j...$", 0.8),
        ("gold_accuracy", "^llm:k...$", 0.7),
        ("gold_accuracy_difference", "&", 0.1),
    ):
        mine = made.filter((pl.col("measure") == measure) & pl.col("subject").str.contains(subject))
        assert mine.height == 200
        assert 180 <= ((mine["low"] <= truth) & (truth <= mine["high"])).sum() <= 198


def test_equal_judges_are_told_apart_in_at_most_one_of_twenty_worlds():
    rows = []
    for seed in range(200):
        judges = {f"llm:j{seed:03}": 0.7, f"llm:k{seed:03}": 0.7}
        rows += planted(seed, judges, n=60, name=f"w{seed:03}-")
    p = gold(votes_of(rows), annotator=GOLD).filter(pl.col("measure") == "gold_mcnemar")["value"]
    assert p.len() == 200
    assert (p < 0.05).sum() <= 16
    assert (p < 0.5).sum() > 40


def test_mcnemar_is_the_binomial_test_of_the_discordant():
    b, c = np.meshgrid(range(12), range(12))
    found = mcnemar(pl.Series(b.ravel()), pl.Series(c.ravel()))
    for one, other, p in zip(b.ravel(), c.ravel(), found, strict=True):
        total = int(one + other)
        assert p == pytest.approx(binomtest(int(one), total).pvalue if total else 1.0)


def test_the_paired_test_counts_what_just_one_has_right():
    rows = planted(1, {"llm:j": 0.9, "llm:k": 0.6}, n=300)
    said = {(u, who): p for u, who, p, *_ in rows}
    units = sorted({u for u, *_ in rows})
    b, c = (
        sum(said[u, GOLD] == said[u, one] and said[u, GOLD] != said[u, other] for u in units)
        for one, other in (("llm:j", "llm:k"), ("llm:k", "llm:j"))
    )
    made = gold(votes_of(rows), annotator=GOLD)
    test = measured(made, "gold_mcnemar", "llm:j & llm:k")
    assert test["n"] == b + c
    assert test["note"] == f"right where the other is not: {b} and {c}"
    apart = measured(made, "gold_accuracy_difference", "llm:j & llm:k")
    assert apart["value"] == pytest.approx((b - c) / 300)
    assert apart["low"] > 0
    assert test["value"] < 0.001


def test_both_orders_are_one_comparison_and_one_wrong_order_is_not_both():
    rows = [(u, GOLD, 1.0, None, f"p{u}") for u in range(4)]
    rows += [(u, "llm:j", 1.0, True, f"p{u}") for u in range(4)]
    rows += [(u, "llm:j", float(u > 0), False, f"p{u}") for u in range(4)]
    made = gold(votes_of(rows), annotator=GOLD)
    assert measured(made, "gold_accuracy")["value"] == 0.875
    assert measured(made, "gold_accuracy")["n"] == 4
    assert measured(made, "gold_both_orders")["value"] == 0.75
    assert measured(made, "gold_verdict_accuracy")["value"] == 0.75


def test_ties_of_gold_count_for_verdicts_only():
    rows = [(0, GOLD, 0.5, None, "p"), (1, GOLD, 1.0, None, "q")]
    rows += [(0, "llm:j", 0.5, True, "p"), (1, "llm:j", 0.5, True, "q")]
    made = gold(votes_of(rows), annotator=GOLD)
    assert measured(made, "gold_accuracy")["value"] == 0.5
    assert measured(made, "gold_accuracy")["n"] == 1
    assert measured(made, "gold_verdict_accuracy")["value"] == 0.5


def test_what_an_unscored_vote_is():
    rows = [(u, GOLD, 1.0, None, f"p{u}") for u in range(4)]
    rows += [(u, "llm:j", None if u else 1.0, True, f"p{u}") for u in range(4)]
    votes = votes_of(rows)
    assert measured(gold(votes, annotator=GOLD), "gold_accuracy")["n"] == 1
    wrong = gold(votes, annotator=GOLD, unscored="wrong")
    assert measured(wrong, "gold_accuracy")["value"] == 0.25
    assert measured(wrong, "gold_verdict_accuracy")["value"] == 0.25


def test_invariance_to_row_order_names_and_swapped_sides():
    rows = planted(2, {"llm:j": 0.8, "llm:k": 0.6}, n=80, tie_rate=0.2)
    votes = votes_of(rows)
    made = gold(votes, annotator=GOLD)
    shuffled = Votes(votes.sample(fraction=1, shuffle=True, seed=0))
    assert gold(shuffled, annotator=GOLD).equals(made)
    swapped = Votes(votes.with_columns(preference=1 - pl.col("preference")))
    assert gold(swapped, annotator=GOLD).equals(made)
    names = {"llm:j": "llm:k", "llm:k": "llm:j"}
    renamed = gold(Votes(votes.with_columns(pl.col("annotator").replace(names))), annotator=GOLD)
    one, other = (measured(m, "gold_accuracy_difference", "llm:j & llm:k") for m in (made, renamed))
    assert one["value"] == pytest.approx(-other["value"])
    assert one["low"] == pytest.approx(-other["high"])


def test_names_without_votes_are_null_with_the_reason_and_nothing_gives_nothing():
    votes = votes_of(planted(3, {"llm:j": 0.8}, n=4))
    made = tables.check("measures", gold(votes, annotator="human:golf"), where="test")
    assert measured(made, "gold_accuracy", "llm:j")["value"] is None
    assert set(made["measure"]) == {"gold_accuracy"}
    assert made["note"].unique().to_list() == [
        "no votes of 'human:golf'; did you mean 'human:gold'?"
    ]
    made = gold(votes, annotator=GOLD, judges=["llm:i", "llm:j"])
    assert measured(made, "gold_accuracy", "llm:i")["note"].startswith("no votes of 'llm:i'")
    assert measured(made, "gold_accuracy", "llm:j")["value"] is not None
    assert gold(Votes(tables.empty("votes")), annotator=GOLD).is_empty()
    tables.check("measures", gold(votes, annotator=GOLD), where="here")


@pytest.fixture(scope="module")
def llmbar(shared):
    """Votes of every judge on every subset, each with units of its own, and the gold ones."""
    items = shared("llmbar_items.parquet").select("id", "subset", "gold")
    said = shared("llmbar_llm_votes.parquet").join(items, on="id")
    said = said.with_columns(
        who=pl.format("llm:{}|{}|{}", "judge_model", "strategy", "subset"),
        a_first=pl.col("order") == "ab",
        winner=pl.col("winner").cast(pl.Float64),
    ).with_columns(unit=pl.format("{}~{}", "id", "who"))

    def part(annotator, winner, a_first):
        return said.select(
            "unit", annotator, (2 - pl.col(winner)).alias("preference"), a_first, prompt_id="id"
        )

    truth = part(pl.lit(GOLD).alias("who"), "gold", pl.lit(None, pl.Boolean).alias("a_first"))
    truth = truth.with_columns(pl.col("preference").cast(pl.Float64)).unique()
    both = part("who", "winner", "a_first")
    by_order = part(pl.format("{}|{}", "who", "a_first").alias("who"), "winner", "a_first")
    return [votes_of(pl.concat([votes, truth]).rows()) for votes in (both, by_order)]


def test_the_accuracies_that_llmbar_publishes(llmbar, shared):
    """All 301 rows, exactly, where an unparsable verdict is wrong."""
    found = {}
    for votes in llmbar:
        made = gold(votes, annotator=GOLD, unscored="wrong")
        kept = made.select("measure", "subject", "value", "n").iter_rows()
        found |= {(measure, subject): (value, n) for measure, subject, value, n in kept}
    published = shared("llmbar_published_statistics.parquet")
    assert published.height == 301
    for row in published.to_dicts():
        who = f"llm:{row['judge_model']}|{row['strategy']}|{row['subset']}"
        cells = {
            "correct_False": ("gold_accuracy", f"{who}|true"),
            "correct_True": ("gold_accuracy", f"{who}|false"),
            "correct_both": ("gold_both_orders", who),
            "correct_average": ("gold_accuracy", who),
        }
        for column, key in cells.items():
            value, n = found[key]
            percent = float(row[column].rpartition("=")[2].strip(" %"))
            assert value * 100 == pytest.approx(percent, abs=1e-9), (column, row)
            if column != "correct_average":
                assert n == int(row[column].split("/")[1].split("=")[0])


def test_the_consistency_that_llmbar_publishes(llmbar, shared):
    """Its `equal` counts two unparsable verdicts as equal, `swap_consistency` neither way."""
    votes = llmbar[0].filter(pl.col("annotator") != GOLD)
    made = position_bias(Votes(votes)).filter(pl.col("measure") == "swap_consistency")
    same = {who: value * n for who, value, n in made.select("subject", "value", "n").iter_rows()}
    failed = votes.group_by("annotator", "completion_a").agg(
        pl.col("preference").is_null().all().alias("both"),
    )
    failed = dict(failed.group_by("annotator").agg(pl.col("both").sum()).iter_rows())
    published = shared("llmbar_published_statistics.parquet")
    assert published.height == 301
    for row in published.to_dicts():
        who = f"llm:{row['judge_model']}|{row['strategy']}|{row['subset']}"
        assert same[who] + failed[who] == pytest.approx(int(row["equal"].split("/")[0]))


def test_graded_votes_that_cancel_are_a_tie_on_whichever_side():
    """0.3 0.3 0.7 0.7: two draws in two orders of who leans to what was shown first."""
    once = votes_of([(u, GOLD, p, o, u) for u in range(4) for o, p in ((True, 0.3), (False, 0.7))])
    cancel = tables.typed(Votes, pl.concat([once, once.with_columns(draw=pl.lit(1, pl.Int64))]))
    judge = votes_of([(u, "llm:j", p, True, u) for u, p in enumerate((1.0, 1.0, 1.0, 0.5))])
    made = gold(Votes(pl.concat([cancel, judge])), annotator=GOLD)
    assert "gold_accuracy" not in made["measure"].to_list(), "gold decided on none"
    assert measured(made, "gold_verdict_accuracy")["value"] == 0.25
