import json

import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.constitution import constitution
from prefdata.errors import RecipeError
from prefdata.tables import Principles
from tests.annotate.replying import first
from tests.annotate.test_criteria_votes import principles
from tests.explain.planted import MODEL, run, world

JUDGE = judges.load("constitution")
GIVEN = {"judge": JUDGE, "model": MODEL}


def test_rules_stand_by_rank_and_bind():
    prompts, completions, pairs = world(3, {})
    second = pl.col("principle").str.contains("second")
    rules = principles("Select the first rule.", "Select the second rule.").with_columns(
        rank=pl.when(second).then(1).otherwise(2)
    )
    seen: list[str] = []

    def said(request):
        seen.append(first(request))
        return json.dumps({"verdict": "A"})

    votes = run(constitution(prompts, completions, Principles(rules), pairs, **GIVEN), said)
    assert all("1. Select the second rule.\n2. Select the first rule.\n" in text for text in seen)
    assert votes["annotator"].unique().to_list() == ["llm:m/constitution"]
    assert votes.height == 6
    assert (votes["preference"] == votes["a_first"].cast(pl.Float64)).all()


def test_without_rules_the_judge_is_another_annotator_and_sees_none():
    prompts, completions, pairs = world(3, {})
    seen: list[str] = []

    def said(request):
        seen.append(first(request))
        return json.dumps({"verdict": "B"})

    rules = principles("Select the first rule.")
    votes = run(constitution(prompts, completions, rules, pairs, rules=False, **GIVEN), said)
    assert votes["annotator"].unique().to_list() == ["llm:m/constitution-without"]
    assert not any("rule" in text.split("Prompt:")[0] for text in seen)
    empty = Principles(tables.empty("principles"))
    alone = run(constitution(prompts, completions, empty, pairs, rules=False, **GIVEN), said)
    assert votes.equals(alone)


def test_an_empty_constitution_gives_no_votes():
    prompts, completions, pairs = world(3, {})
    empty = Principles(tables.empty("principles"))
    assert run(constitution(prompts, completions, empty, pairs, **GIVEN)).is_empty()


def test_without_pairs_all_pairs_of_a_prompt_are_shown():
    prompts, completions, _ = world(3, {})
    some = constitution(prompts, completions, principles("Any."), **GIVEN, orders="random")
    assert run(some, lambda _: json.dumps({"verdict": "A"})).height == 3


def test_a_judge_of_another_kind_is_refused():
    prompts, completions, pairs = world(1, {})
    with pytest.raises(RecipeError, match="name a pairwise one"):
        run(
            constitution(
                prompts,
                completions,
                principles("x"),
                pairs,
                judge=judges.load("ultrafeedback"),
                model=MODEL,
            )
        )
