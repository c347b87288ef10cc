"""Agreement on public data: what scikit-learn computes, and what a benchmark published."""

from itertools import combinations

import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from prefdata import tables
from prefdata.measure.agreement import agreement
from prefdata.tables import Votes


def votes_of(frame, prompt="unit"):
    """Votes from `unit, annotator, preference`, and the prompt of each unit."""
    return tables.typed(
        Votes,
        frame.select(
            pl.format("a{}", "unit").alias("completion_a"),
            pl.format("b{}", "unit").alias("completion_b"),
            "annotator",
            pl.lit("quality").alias("criterion"),
            pl.lit(0).alias("draw"),
            pl.lit(None, pl.Boolean).alias("a_first"),
            pl.col(prompt).alias("prompt_id"),
            pl.col("preference").cast(pl.Float64),
            unscored=pl.when(pl.col("preference").is_null()).then(pl.lit("no verdict")),
        ),
    )


def test_pandalm_kappas_are_scikit_learns(shared):
    """Three people and two judges on 624 comparisons; unparsable replies are no labels."""
    given = shared("pandalm_test_3humans_2llms.parquet")
    said = {"0": 0.5, "1": 1.0, "2": 0.0}
    people = ["human1", "human2", "human3", "gpt35", "pandalm7b"]
    long = pl.concat(
        given.select(unit="id", annotator=pl.lit(f"human:{who}"), label=pl.col(who).cast(pl.String))
        for who in people
    )
    long = long.with_columns(
        preference=pl.col("label").replace_strict(said, default=None, return_dtype=pl.Float64)
    )
    made = agreement(votes_of(long), draws=200)
    for one, other in combinations(sorted(people), 2):
        both = given.select(pl.col(one, other).cast(pl.String))
        both = both.filter(pl.all_horizontal(pl.col(one, other).is_in(list(said))))
        subject = f"human:{one} & human:{other}"
        row = made.filter(pl.col("subject") == subject).row(0, named=True)
        assert row["n"] == both.height
        assert row["value"] == pytest.approx(cohen_kappa_score(both[one], both[other]), abs=1e-12)
        assert row["low"] < row["value"] < row["high"]


def test_the_kappas_that_llmbar_publishes(shared):
    """All 301 rows, exactly, by the convention of its evaluation.

    That makes every verdict but "1" a 0 (of the second response too, and of no verdict), while gold
    is 1 or 2: `kappa_agreement` compares these verdicts of the two orders, and `kappa_False` and
    `kappa_True` compare them with gold, as three classes. So low kappas with gold say little of a
    judge. The accuracies of the same rows are recomputed in test_gold.py.
    """
    items = shared("llmbar_items.parquet").select("id", "subset", "gold")
    said = shared("llmbar_llm_votes.parquet").join(items, on="id")
    name = pl.format("{}|{}|{}", "judge_model", "strategy", "subset")
    said = said.with_columns(who=name, unit=pl.format("{}~{}", "id", name))
    is_first = pl.col("winner").cast(pl.String) == "1"
    verdicts = said.select(
        "unit", "id",
        annotator=pl.format("llm:{}|{}", "who", "order"),
        preference=pl.when(is_first).then(1.0).otherwise(0.5),
    )  # fmt: skip
    gold = said.select(
        "unit", "id", annotator=pl.lit("human:gold"), preference=2.0 - pl.col("gold")
    )
    made = agreement(votes_of(pl.concat([verdicts, gold.unique()]), "id"), draws=1)
    kappa = dict(
        made.filter(pl.col("measure") == "cohen_kappa_votes").select("subject", "value").iter_rows()
    )
    published = shared("llmbar_published_statistics.parquet")
    assert published.height == 301
    for row in published.iter_rows(named=True):
        who = f"llm:{row['judge_model']}|{row['strategy']}|{row['subset']}"
        one, other = kappa[f"human:gold & {who}|ab"], kappa[f"human:gold & {who}|ba"]
        assert one == pytest.approx(row["kappa_False"], abs=1e-12), row
        assert other == pytest.approx(row["kappa_True"], abs=1e-12), row
        assert (one + other) / 2 == pytest.approx(row["kappa_average"], abs=1e-12), row
        both = kappa[f"{who}|ab & {who}|ba"]
        assert both == pytest.approx(row["kappa_agreement"], abs=1e-12), row
