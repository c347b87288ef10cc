"""Principles are annotators like any other: agreement, reliability and routing work on them."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from prefdata import judge as judges
from prefdata import tables
from prefdata.aggregate.reliability import reliability
from prefdata.explain.icai import icai
from prefdata.measure.agreement import agreement
from prefdata.route.disagreement import disagreement
from prefdata.tables import Votes
from tests.explain.planted import MODEL, WORDS, rule, run, world

TRUE = dict.fromkeys(WORDS[:3], 2.0)
SIDES = ["completion_a", "completion_b"]


@pytest.fixture(scope="module")
def voted() -> tuple[Votes, dict[str, str]]:
    """The votes of principles and of the label's annotator, and who speaks for which word."""
    prompts, completions, pairs = world(200, TRUE)
    options = {"draws": 1, "error": 0.0, "held_out": 0.0, "min_relevance": 0.0}
    judge = judges.load("principles")
    _, votes, *_ = run(icai(prompts, completions, pairs, judge=judge, model=MODEL, **options))
    label = tables.with_sides(pairs).select(
        *SIDES, "prompt_id", preference=pl.col("a_chosen").cast(pl.Float64),
        annotator=pl.lit("human:label"), criterion=pl.lit("principle"), draw=pl.lit(0, pl.Int64),
    )  # fmt: skip
    both = tables.union("votes", votes, label, where="test")
    return Votes(both), {w: f"principle:{tables.digest('principle', rule(w))}/m" for w in WORDS}


def verdicts(votes: pl.DataFrame, who: str) -> dict[tuple[str, str], float]:
    mine = votes.filter(pl.col("annotator") == who).drop_nulls("preference")
    return {(a, b): p for a, b, p in mine.select(*SIDES, "preference").rows()}


def test_kappas_of_principles_and_the_label_are_those_of_scikit_learn(voted):
    votes, of = voted
    three = ["human:label", *(of[word] for word in WORDS[:2])]
    found = agreement(Votes(votes.filter(pl.col("annotator").is_in(three))), draws=20)
    for one, other in combinations(sorted(three), 2):
        left, right = verdicts(votes, one), verdicts(votes, other)
        common = sorted(left.keys() & right.keys())
        expected = cohen_kappa_score(
            [str(left[u]) for u in common], [str(right[u]) for u in common]
        )
        row = found.filter(measure="cohen_kappa_votes", subject=f"{one} & {other}").row(
            0, named=True
        )
        assert row["value"] == pytest.approx(expected, abs=1e-9)
        assert row["n"] == len(common)


def test_what_the_labels_follow_discriminates_and_what_they_do_not_follow_does_not(voted):
    votes, of = voted
    _, scores, _ = reliability(votes)
    known = scores.filter(pl.col("score") == "discrimination")
    value = dict(known.select("subject_id", "value").rows())
    there = {word: value[who] for word, who in of.items() if who in value}
    others = [v for word, v in there.items() if word not in TRUE]
    assert len(others) > 20
    assert min(there[word] for word in TRUE) > np.quantile(others, 0.95)


def test_rows_on_which_principles_disagree_are_routed_to_people(voted):
    votes = Votes(voted[0].filter(pl.col("annotator") != "human:label"))
    pairs = world(200, TRUE)[2]
    rows = disagreement(votes, pairs, budget={"rows": 20})
    top = rows.filter(pl.col("reason") == "disagreement").sort("priority", descending=True)
    assert top.height >= 15
    assert set(top["annotator"]) == {"human"}
    a, b, gain = top.select(*SIDES, "gain").row(0)
    mine = votes.filter(
        pl.col("completion_a") == a, pl.col("completion_b") == b
    ).drop_nulls("preference")  # fmt: skip
    apart = [x != y for x, y in combinations(mine["preference"], 2)]
    assert gain == pytest.approx(np.mean(apart))
