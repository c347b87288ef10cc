import math

import pytest

from prefdata import tables as t
from prefdata.annotate.pair_ranker import pair_ranker
from prefdata.errors import RecipeError
from prefdata.stage import Model
from prefdata.tables import Completions, Votes
from tests.annotate.planted import answered, text_of, world

MODEL = Model("ranker", "ranker", "ranker@1")
TEXTS = {"p": ["a", "bb", "cccc"], "q": ["a", "dd"]}


def ran(reply, **options):
    prompts, completions = world(TEXTS)
    made, asked = answered(pair_ranker(prompts, completions, model=MODEL, **options), reply)
    return t.typed(Votes, made), asked, text_of(completions)


def lead(row) -> float:
    first, second = (turn["content"] for turn in row["messages"][-2:])
    return float(len(first) - len(second))


def test_the_model_reads_the_prompt_and_both_candidates():
    _, asked, _ = ran(lambda row: {"number": lead(row)})
    assert set(asked["want"]) == {"reward"}
    assert asked["completion"].null_count() == asked.height
    for messages in asked["messages"]:
        assert [turn["role"] for turn in messages] == ["user", "assistant", "assistant"]


def test_both_orders_say_the_same_of_a_ranker_without_bias():
    votes, _, texts = ran(lambda row: {"number": lead(row)}, temperature=3.0)
    assert votes.height == 2 * 4
    for row in votes.to_dicts():
        value = len(texts[row["completion_a"]]) - len(texts[row["completion_b"]])
        assert row["preference"] == pytest.approx(1 / (1 + math.exp(-value / 3)))


def test_a_ranker_that_likes_the_first_place_is_seen_in_the_orders_and_cancels():
    votes, _, _ = ran(lambda _: {"number": 2.0})
    leaning = 1 / (1 + math.exp(-2.0))
    assert votes.filter("a_first")["preference"].to_list() == pytest.approx([leaning] * 4)
    assert votes["preference"].mean() == pytest.approx(0.5)
    one, _, _ = ran(lambda _: {"number": 2.0}, orders="a_first")
    assert one["preference"].mean() == pytest.approx(leaning)


def test_a_probability_is_taken_as_it_is_and_a_logit_is_none():
    votes, _, _ = ran(lambda _: {"number": 0.9}, number="probability", orders="a_first")
    assert set(votes["preference"]) == {0.9}
    votes, _, _ = ran(lambda _: {"number": 1.9}, number="probability")
    assert votes["preference"].null_count() == votes.height
    assert "is no probability" in votes["unscored"][0]


def test_what_failed_is_unscored():
    votes, _, _ = ran(lambda row: {"error": "cut"} if lead(row) > 0 else {"number": 0.0})
    assert votes["preference"].null_count() == 4
    assert set(votes["unscored"]) == {None, "error: cut"}


def test_order_of_rows_does_not_matter_and_options_are_checked():
    prompts, completions = world(TEXTS)
    shuffled = Completions(completions.sample(fraction=1.0, shuffle=True, seed=2))
    made = [
        answered(pair_ranker(prompts, each, model=MODEL), lambda row: {"number": lead(row)})[0]
        for each in (completions, shuffled)
    ]
    assert made[0].equals(made[1])
    assert ran(lambda _: {"number": 0.0}, max_pairs=1, orders="random")[0].height == 2
    with pytest.raises(RecipeError, match="above 0"):
        ran(lambda _: {"number": 0.0}, temperature=0.0)
