import json
import random
from itertools import combinations

import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.combined import combined
from prefdata.errors import RecipeError
from prefdata.measure.position_bias import position_bias
from prefdata.tables import Ratings, Votes
from tests.annotate.replying import MODEL, first, keys, known, quality, run, shards, shown, world

TEN = judges.load("combined-10").model_copy(update={"reason": "none"})
CRITERIA = judges.load("ultrafeedback").criteria
ULTRA = TEN.model_copy(update={"criteria": CRITERIA, "name": "aspects"})
OPTIONS = {"judge": TEN, "model": MODEL}
BOTH = ["pairs", "all"]


def scores(request: dict) -> str:
    """A judge that knows: a better completion gets more points."""
    return json.dumps({x: min(5, 1 + known(text)) for x, text in shown(request).items()})


def by_place(request: dict) -> str:
    return json.dumps({x: 5 - at for at, x in enumerate(keys(request))})


def made(*given: pl.DataFrame, reply, **options: object) -> tuple[Votes, Ratings]:
    votes, ratings = run(combined(*given, **{**OPTIONS, **options}), reply)
    return tables.typed(Votes, votes), tables.typed(Ratings, ratings)


@pytest.mark.parametrize("together", BOTH)
def test_the_higher_score_is_preferred_in_both_orders(together: str):
    prompts, completions = world(3, 4)
    votes, ratings = made(prompts, completions, reply=scores, together=together)
    of = quality(completions)
    expected = {
        (*sorted(two), first)
        for (_,), group in completions.group_by("prompt_id")
        for two in combinations(group["completion_id"], 2)
        for first in (True, False)
    }
    assert set(votes.select("completion_a", "completion_b", "a_first").rows()) == expected
    assert votes.height == len(expected)
    for a, b, p in votes.select("completion_a", "completion_b", "preference").rows():
        assert p == float(of[a] > of[b])
    for id, rating, raw in ratings.select("completion_id", "rating", "raw").rows():
        assert (rating, raw) == (of[id] / 9, str(1 + of[id]))
    assert set(votes["annotator"]) == set(ratings["annotator"]) == {"llm:m/combined-10"}


@pytest.mark.parametrize(("together", "calls", "each"), [("pairs", 12, 6), ("all", 2, 2)])
def test_a_completion_is_rated_whenever_it_is_shown(together: str, calls: int, each: int):
    votes, ratings = made(*world(1, 4), reply=scores, together=together)
    assert ratings["request_id"].n_unique() == votes["request_id"].n_unique() == calls
    per = ratings.group_by("completion_id").agg(pl.col("draw").sort())
    assert per["draw"].to_list() == [list(range(each))] * 4


def test_equal_scores_are_a_tie():
    votes, _ = made(*world(1, 2), reply=lambda _: '{"A": 7, "B": 7}')
    assert votes["preference"].to_list() == [0.5, 0.5]
    assert votes["unscored"].null_count() == 2


@pytest.mark.parametrize("together", BOTH)
def test_a_judge_that_scores_by_place_cancels_itself(together: str):
    """Sheet 29: ratings by position are flat once they are back with their completions."""
    prompts, completions = world(30, 4)
    votes, ratings = made(prompts, completions, reply=by_place, together=together)
    both = votes.group_by("completion_a", "completion_b").agg(pl.col("preference").sum())
    assert both["preference"].to_list() == [1.0] * both.height
    means = ratings.group_by("completion_id").agg(pl.col("rating").mean())["rating"]
    assert means.round(9).n_unique() == 1
    measured = position_bias(votes).filter(pl.col("measure") == "position_bias")
    assert measured["value"].to_list() == [1.0]


def test_a_single_order_leaves_the_bias_and_both_show_it():
    prompts, completions = world(5, 3)
    votes, _ = made(prompts, completions, reply=by_place, orders="a_first", together="all")
    assert votes["a_first"].all()
    assert votes["preference"].to_list() == [1.0] * votes.height


@pytest.mark.parametrize("together", BOTH)
def test_a_rating_comes_back_to_the_completion_that_it_was_given_to(together: str):
    """Sheet 29: a judge that echoes a digest of the text round-trips whole."""

    def digest(text: str) -> int:
        return int(tables.digest(text), 16) % 10 + 1

    def echo(request: dict) -> str:
        return json.dumps({x: digest(text) for x, text in shown(request).items()})

    prompts, completions = world(20, 4)
    _, ratings = made(prompts, completions, reply=echo, together=together)
    text = pl.col("completion").list.last().struct["content"].alias("text")
    told = ratings.join(completions.select("completion_id", text), on="completion_id")
    assert told["raw"].to_list() == [str(digest(each)) for each in told["text"]]


def test_each_criterion_is_a_call_of_its_own_and_may_not_apply():
    asked: set[str] = set()

    def reply(request: dict) -> str:
        text = request["messages"][-1]["content"]
        (criterion,) = (c.name for c in CRITERIA if f"{c.name}: " in text)
        asked.add(criterion)
        if criterion == "honesty":
            return '{"A": "N/A", "B": 4}'
        return '{"A": 5, "B": 1}'

    votes, ratings = made(*world(1, 2), reply=reply, judge=ULTRA, orders="a_first")
    assert asked == {c.name for c in CRITERIA}
    rows = {row["criterion"]: row for row in votes.to_dicts()}
    assert (rows["honesty"]["preference"], rows["honesty"]["unscored"]) == (None, "not applicable")
    assert rows["helpfulness"]["preference"] == 1.0
    honest = ratings.filter(pl.col("criterion") == "honesty").sort("completion_id")
    assert honest.select("rating", "raw", "unscored").rows() == [
        (None, "N/A", "not applicable"),
        (0.75, "4", None),
    ]


def test_where_less_is_better_the_smaller_number_is_preferred():
    scale = TEN.criteria[0].scale.model_copy(update={"higher_is_better": False})
    criterion = TEN.criteria[0].model_copy(update={"scale": scale})
    fewer = TEN.model_copy(update={"criteria": (criterion,)})
    votes, ratings = made(
        *world(1, 2), reply=lambda _: '{"A": 2, "B": 9}', judge=fewer, orders="a_first"
    )
    assert votes["preference"].to_list() == [1.0]
    assert sorted(ratings["rating"]) == pytest.approx([1 / 9, 8 / 9])


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("A wins", "no verdict"),
        ('{"A": 7}', "malformed verdict"),
        ('{"A": 11, "B": 3}', "off the scale"),
        ('{"A": "7", "B": 3}', "off the scale"),
        ('{"A": 0.8, "B": 3}', "off the scale"),
        ('{"A": 8/10, "B": 3/10}', "malformed verdict"),
        ('{"A": 7, "B": 3, "C": 1}', "malformed verdict"),
    ],
)
def test_an_unreadable_score_is_no_score_of_0(reply: str, why: str):
    """Sheets 29 and 74: "8/10" is not 0.8, and what cannot be read is neither 0 nor a tie."""
    votes, ratings = made(*world(1, 2), reply=lambda _: reply)
    assert votes["unscored"].to_list() == [why] * 2
    assert ratings["unscored"].to_list() == [why] * 4
    assert votes["preference"].null_count() == 2
    assert votes["rationale"].to_list() == [reply] * 2


def test_ten_is_more_than_nine():
    votes, _ = made(*world(1, 2), reply=lambda _: '{"A": 10, "B": 9}', orders="a_first")
    assert votes["preference"].to_list() == [1.0]


def noisy(request: dict) -> str:
    rng = random.Random(first(request))
    if rng.random() < 0.2:
        return "hm"
    return json.dumps({x: rng.randint(1, 10) for x in keys(request)})


@pytest.mark.parametrize("together", BOTH)
def test_results_depend_on_neither_row_order_nor_shards(together: str):
    prompts, completions = world(8, 4)
    options = {"reply": noisy, "together": together, "draws": 2}
    whole = made(prompts, completions, **options)
    assert 0 < whole[0]["unscored"].null_count() < whole[0].height
    mixed = completions.sample(fraction=1, shuffle=True, seed=5)
    again = made(prompts.reverse(), mixed, **options)
    parts = [
        made(*(shards(t, prompts, 3, at) for t in (prompts, completions)), **options)
        for at in range(3)
    ]
    for at, kind in enumerate((Votes, Ratings)):
        assert again[at].equals(whole[at])
        assert tables.typed(kind, pl.concat(part[at] for part in parts)).equals(whole[at])


def test_a_failed_request_is_votes_and_ratings_with_its_reason():
    votes, ratings = run(combined(*world(1, 2), **OPTIONS), lambda _: None, error="timeout")
    assert votes["unscored"].to_list() == ["error: timeout"] * 2
    assert ratings["unscored"].to_list() == ["error: timeout"] * 4


@pytest.mark.parametrize("together", BOTH)
def test_nothing_to_compare_asks_nothing(together: str):
    votes, ratings = made(*world(3, 1), reply=scores, together=together)
    assert votes.is_empty()
    assert ratings.is_empty()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge": judges.load("helpfulness")}, "pairwise judge"),
        ({"draws": 0}, "draws = 0"),
        ({"draws": 0, "together": "all"}, "draws = 0"),
        ({"max_pairs": 0}, "max_pairs = 0"),
        ({"max_pairs": 3, "together": "all"}, "max_pairs = 3 belongs"),
    ],
)
def test_wrong_options_are_found_before_any_request(options: dict, said: str):
    with pytest.raises(RecipeError, match=said):
        made(*world(1, 2), reply=scores, **options)


def test_more_completions_than_letters_are_refused():
    with pytest.raises(RecipeError, match="27 completions"):
        made(*world(1, 27), reply=scores, together="all")
