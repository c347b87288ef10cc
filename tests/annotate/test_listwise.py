import json
import random

import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.listwise import listwise
from prefdata.errors import RecipeError
from prefdata.stage import drive
from prefdata.tables import Rankings, Requests
from tests.annotate.replying import MODEL, answers, first, known, quality, run, shards, shown, world

RANKING = judges.load("ranking")
BEST = judges.load("best")
SCALE = RANKING.criteria[0].scale.model_copy(update={"values": ("ranks",)})
STRICT = RANKING.model_copy(
    update={"criteria": (RANKING.criteria[0].model_copy(update={"scale": SCALE}),)}
)
OPTIONS = {"judge": RANKING, "model": MODEL}


def ranks(request: dict) -> str:
    """A judge that knows: rank 1 for the best, equal ones share the smaller rank."""
    said = {letter: known(text) for letter, text in shown(request).items()}
    return json.dumps({x: 1 + sum(o > k for o in said.values()) for x, k in said.items()})


def best(request: dict) -> str:
    said = {letter: known(text) for letter, text in shown(request).items()}
    return json.dumps({"verdict": max(said, key=lambda letter: said[letter])})


def as_shown(request: dict) -> str:
    return json.dumps({letter: at + 1 for at, letter in enumerate(shown(request))})


def made(*given: pl.DataFrame, reply, **options: object) -> Rankings:
    return tables.typed(Rankings, run(listwise(*given, **{**OPTIONS, **options}), reply))


def orders(rankings: Rankings, of: dict[str, int]) -> list[list[int]]:
    return [[of[id] for id in ids] for ids in rankings["ranking"].to_list()]


@pytest.mark.parametrize("judge", [RANKING, STRICT])
def test_a_judge_that_knows_gives_the_true_order(judge):
    prompts, completions = world(3, 5)
    rankings = made(prompts, completions, reply=ranks, judge=judge)
    assert orders(rankings, quality(completions)) == [[4, 3, 2, 1, 0]] * 6
    assert rankings["ranks"].to_list() == [[1, 2, 3, 4, 5]] * 6
    assert rankings["draw"].to_list() == [0, 1] * 3
    assert set(rankings["annotator"]) == {"llm:m/ranking"}
    assert set(rankings["criterion"]) == {"helpfulness"}


@pytest.mark.parametrize(("n", "window", "step"), [(9, 4, 2), (12, 8, 4), (7, 2, 1), (14, 5, 4)])
def test_one_pass_settles_the_first_and_enough_passes_all(n: int, window: int, step: int):
    prompts, completions = world(2, n)
    of = quality(completions)
    sliding = {"reply": ranks, "window": window, "step": step}
    once = orders(made(prompts, completions, **sliding), of)
    assert len(once) == 4, "two prompts, two draws"
    for order in once:
        assert sorted(order) == list(range(n)), "no completion is lost or twice in the list"
        top = window - step
        assert order[:top] == list(range(n - 1, n - 1 - top, -1))
    settled = -(-n // (window - step))
    often = orders(made(prompts, completions, **sliding, passes=settled), of)
    assert often == [list(range(n - 1, -1, -1))] * 4


def test_no_request_shows_more_than_the_window():
    sizes: list[int] = []

    def counted(request: dict) -> str:
        sizes.append(len(shown(request)))
        return ranks(request)

    made(*world(1, 11), reply=counted, window=4, step=2, draws=1)
    assert max(sizes) == 4
    assert len(sizes) == 5  # the last four, then 7 more, two at a time


@pytest.mark.parametrize("n", [2, 3, 8, 9, 30])
def test_the_best_of_k_is_found_whatever_the_window(n: int):
    prompts, completions = world(2, n)
    rankings = made(prompts, completions, reply=best, judge=BEST, window=4)
    of = quality(completions)
    assert rankings.height == 4
    for ids, places in rankings.select("ranking", "ranks").rows():
        assert of[ids[0]] == n - 1
        assert places == [1, *([2] * (n - 1))]
        assert ids[1:] == sorted(ids[1:])


def test_equal_ranks_are_ties_and_share_the_smaller_rank():
    def two_classes(request: dict) -> str:
        return json.dumps({x: 1 if known(t) >= 2 else 3 for x, t in shown(request).items()})

    rankings = made(*world(2, 4), reply=two_classes)
    assert rankings["ranks"].to_list() == [[1, 1, 3, 3]] * 4
    odd = made(*world(1, 3), reply=lambda _: '{"A": 2, "B": 2, "C": 3}')
    assert odd["ranks"].to_list() == [[1, 1, 3]] * 2, "what counts is their order"


@pytest.mark.parametrize(("window", "step"), [(2, 1), (4, 2), (5, 3), (8, 4)])
def test_a_judge_that_finds_all_alike_has_no_ranks_between_windows(window: int, step: int):
    """Windows overlap, and nothing has moved: each is equal to the next by what was said."""
    tied = made(
        *world(2, 9), reply=lambda r: json.dumps(dict.fromkeys(shown(r), 1)),
        window=window, step=step,
    )  # fmt: skip
    assert tied["ranks"].to_list() == [[1] * 9] * 4


def test_who_has_moved_away_leaves_no_tie_behind():
    """Of 0 1 2, first 1 and 2 are alike and then 1 is put before 0: 0 and 2 never met."""

    def reply(request: dict) -> str:
        at = list(shown(request))
        return json.dumps(dict.fromkeys(at, 1) if len(seen) == 0 else {at[0]: 2, at[1]: 1})

    seen: list[dict] = []

    def noted(request: dict) -> str:
        said = reply(request)
        seen.append(request)
        return said

    (found,) = made(*world(1, 3), reply=noted, window=2, draws=1)["ranks"].to_list()
    assert found == [1, 2, 3]


def test_a_strict_judge_may_not_give_a_rank_twice():
    rankings = made(*world(1, 3), reply=lambda _: '{"A": 1, "B": 1, "C": 3}', judge=STRICT)
    assert rankings["unscored"].to_list() == ["a value twice"] * 2
    assert rankings["ranking"].null_count() == rankings["ranks"].null_count() == 2
    assert rankings["rationale"].to_list() == ['{"A": 1, "B": 1, "C": 3}'] * 2


@pytest.mark.parametrize("n", [4, 5, 26])
def test_a_judge_that_ranks_as_shown_contradicts_itself_in_the_second_draw(n: int):
    rankings = made(*world(3, n), reply=as_shown, window=26, step=13)
    assert rankings["prompt_id"].n_unique() == 3
    for _, group in rankings.group_by("prompt_id"):
        first, second = group.sort("draw")["ranking"].to_list()
        assert first == second[::-1]


def test_orders_shown_come_from_the_seed_and_are_not_the_ids():
    prompts, completions = world(40, 4)
    one = made(prompts, completions, reply=as_shown, draws=1, seed=1)
    other = made(prompts, completions, reply=as_shown, draws=1, seed=2)
    assert one["ranking"].to_list() != other["ranking"].to_list()
    sorted_by_id = sum(ids == sorted(ids) for ids in one["ranking"].to_list())
    assert sorted_by_id <= 8  # of 40 with probability 1/24 each: more than 8 has 2e-5


def noisy(request: dict) -> str:
    """Depends on all that is shown, sometimes malformed."""
    rng = random.Random(first(request))
    letters = list(shown(request))
    if rng.random() < 0.2:
        return "hm"
    return json.dumps({x: rng.randint(1, len(letters)) for x in letters})


def test_rankings_depend_on_neither_row_order_nor_shards_nor_the_order_of_responses():
    prompts, completions = world(9, 7)
    options = {"reply": noisy, "window": 4, "step": 2, "draws": 3}
    whole = made(prompts, completions, **options)
    assert 0 < whole["unscored"].null_count() < whole.height
    mixed = completions.sample(fraction=1, shuffle=True, seed=5)
    assert made(prompts.reverse(), mixed, **options).equals(whole)
    parts = [
        made(*(shards(t, prompts, 4, at) for t in (prompts, completions)), **options)
        for at in range(4)
    ]
    assert tables.typed(Rankings, pl.concat(parts)).equals(whole)


def test_an_unreadable_window_is_asked_once_more_and_then_ends_its_list():
    asked: list[str] = []

    def stubborn(request: dict) -> str:
        asked.append(request["request_id"])
        return "C is best"

    rankings = made(*world(1, 9), reply=stubborn, window=4, step=2, draws=1)
    assert len(asked) == 2
    row = rankings.row(0, named=True)
    assert (row["unscored"], row["rationale"]) == ("no verdict", "C is best")
    assert row["request_id"] == asked[1]


def test_a_failed_request_is_a_row_with_its_reason_and_is_not_asked_again():
    rounds: list[int] = []

    def ask(requests: Requests):
        rounds.append(requests.height)
        return answers(requests, lambda _: None, error="HTTP 500")

    rankings = drive(listwise(*world(2, 3), **OPTIONS), ask)
    assert rounds == [4]
    assert tables.typed(Rankings, rankings)["unscored"].to_list() == ["error: HTTP 500"] * 4


def test_the_reasons_of_all_windows_are_kept():
    judge = BEST.model_copy(update={"reason": "first"})

    def reply(request: dict) -> str:
        said = json.loads(best(request))
        return json.dumps({"reason": f"among {len(shown(request))}", **said})

    rankings = made(*world(1, 5), reply=reply, judge=judge, window=3, draws=1)
    assert rankings["rationale"].to_list() == ["among 3\namong 3"]


def test_less_can_be_better():
    criterion = RANKING.criteria[0]
    scale = criterion.scale.model_copy(update={"higher_is_better": False})
    fewest = RANKING.model_copy(
        update={"criteria": (criterion.model_copy(update={"scale": scale}),)}
    )
    prompts, completions = world(1, 4)
    rankings = made(prompts, completions, reply=ranks, judge=fewest)
    assert orders(rankings, quality(completions)) == [[0, 1, 2, 3]] * 2


def test_one_completion_is_no_list():
    assert made(*world(3, 1), reply=ranks).is_empty()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge": judges.load("helpfulness")}, "pairwise judge"),
        ({"draws": 0}, "draws = 0"),
        ({"window": 1}, "window = 1"),
        ({"window": 27}, "window = 27"),
        ({"step": 8}, "step = 8; it is at least 1, at most 7"),
        ({"step": 0}, "step = 0"),
        ({"passes": 0}, "passes = 0"),
    ],
)
def test_wrong_options_are_found_before_any_request(options: dict, said: str):
    with pytest.raises(RecipeError, match=said):
        made(*world(1, 2), reply=ranks, **options)
