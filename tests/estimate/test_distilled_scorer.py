"""A planted taste is found from pairs alone, and carried to completions that nobody judged."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate.distilled_scorer import distilled_scorer
from prefdata.stage import drive
from prefdata.tables import Completions, Pairs, Prompts, Requests, Responses
from tests.explain.planted import MODEL, WORDS, world

TASTE = {WORDS[0]: 2.0, WORDS[1]: 2.0, WORDS[2]: -2.0}
World = tuple[Prompts, Completions, Pairs]


def embeds(requests: Requests) -> Responses:
    """A text as which words it has; one that says "lost" gets no vector."""
    rows: list[dict[str, Any]] = []
    for request in requests.to_dicts():
        said = set(request["messages"][-1]["content"].split())
        vector = [float(word in said) for word in WORDS] if "lost" not in said else None
        rows.append({"request_id": request["request_id"], "vector": vector,
                     "tokens_in": 1, "tokens_out": 0})  # fmt: skip
    schema = tables.schema("responses").dtypes
    names = ("request_id", "vector", "tokens_in", "tokens_out")
    return tables.typed(Responses, pl.DataFrame(rows, {name: schema[name] for name in names}))


def scored(given: World, **options: Any) -> tuple[pl.DataFrame, dict[str, Any]]:
    prompts, completions, pairs = given
    made = drive(distilled_scorer(pairs, prompts, completions, **options), embeds)
    scores, measures = made
    tables.check("scores", scores, where="test")
    return scores, tables.check("measures", measures, where="test").row(0, named=True)


def truth(completions: Completions) -> pl.DataFrame:
    said = pl.col("completion").list[0].struct["content"].str.split(" ")
    worth = pl.sum_horizontal(
        weight * said.list.contains(word).cast(pl.Float64) for word, weight in TASTE.items()
    )
    return completions.select("completion_id", "prompt_id", truth=worth)


def agreement(scores: pl.DataFrame, completions: Completions) -> float:
    """Of two completions of a prompt that differ in truth, how often the better has more."""
    known = truth(completions).join(scores, left_on="completion_id", right_on="subject_id")
    both = known.join(known, on="prompt_id", suffix="_b").filter(
        pl.col("truth") > pl.col("truth_b")
    )
    return float(both.select((pl.col("value") > pl.col("value_b")).mean()).item())


@pytest.mark.parametrize("embedder", [MODEL, None])
def test_a_planted_taste_is_carried_to_completions_that_nobody_judged(embedder: Any):
    prompts, completions, pairs = world(600, TASTE)
    judged = Pairs(pairs.head(400))
    scores, measured = scored((prompts, completions, judged), embedder=embedder)
    assert scores.height == completions.height
    others = completions.join(judged, on="prompt_id", how="anti")
    assert others.height == 400
    assert agreement(scores, Completions(others)) > (0.95 if embedder else 0.75)
    assert measured["low"] > 0.5


def test_its_accuracy_is_that_of_pairs_it_was_not_fitted_on():
    """On labels that follow nothing it is a coin, although there are more features than needed."""
    given = world(120, {})
    _, measured = scored(given, embedder=MODEL, ridge=0.01)
    assert measured["n"] == 120
    assert measured["low"] < 0.5 < measured["high"]


def test_nothing_of_a_prompt_groups_own_labels_is_in_its_scores():
    prompts, completions, pairs = world(60, TASTE)
    mine = pairs.sort("pair_id").head(1)
    turned = mine.rename({"chosen_id": "rejected_id", "rejected_id": "chosen_id"})
    other = Pairs(pl.concat([turned.select(pairs.columns), pairs.sort("pair_id").slice(1)]))
    one, _ = scored((prompts, completions, pairs), embedder=MODEL)
    two, _ = scored((prompts, completions, other), embedder=MODEL)
    both = one.join(two, on="subject_id", suffix="_two")
    own = pl.col("subject_id").is_in([*mine["chosen_id"], *mine["rejected_id"]])
    values = both.filter(own)
    assert values["value"].to_list() == pytest.approx(values["value_two"].to_list())
    assert not np.allclose(both["value"], both["value_two"])


def test_order_of_rows_changes_nothing(shuffled: Any):
    given = world(40, TASTE)
    mixed: Any = tuple(shuffled(frame, 3) for frame in given)
    one, two = (scored(each, embedder=MODEL)[0].sort("subject_id") for each in (given, mixed))
    assert one.select("subject_id").equals(two.select("subject_id"))
    assert one["value"].to_list() == pytest.approx(two["value"].to_list())


def test_what_could_not_be_embedded_has_no_score():
    prompts, completions, pairs = world(40, TASTE, words=[*WORDS, "lost"])
    scores, _ = scored((prompts, completions, pairs), embedder=MODEL)
    lost = completions.filter(
        pl.col("completion").list[0].struct["content"].str.split(" ").list.contains("lost")
    )
    assert scores.height == completions.height - lost.height > 0
    assert scores.join(lost, left_on="subject_id", right_on="completion_id", how="semi").is_empty()


def test_too_few_groups_are_no_scores_but_a_reason():
    scores, measured = scored(world(3, TASTE), embedder=MODEL)
    assert scores.is_empty()
    assert measured["value"] is None
    assert "3 prompt groups" in measured["note"]


@pytest.mark.parametrize(("option", "value"), [("folds", 1), ("ridge", 0.0)])
def test_options_out_of_range_are_refused(option: str, value: float):
    with pytest.raises(RecipeError, match=f"{option} = "):
        scored(world(4, TASTE), **{option: value})
