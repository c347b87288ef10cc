import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.pairwise import pairwise
from prefdata.errors import RecipeError
from prefdata.models.spec import ModelSpec
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Requests, Responses, Votes
from tests.annotate.replying import world

JUDGE = judges.load("helpfulness")
REASONED = JUDGE.model_copy(update={"reason": "first"})
MODEL = Model("grader", identity="m@1")
Reply = Callable[[dict], dict]


def answers(requests: Requests, reply: Callable[[str], str | None], **fields: object) -> Responses:
    """What a model would say; `reply` sees the last message."""
    texts = [reply(messages[-1]["content"]) for messages in requests["messages"].to_list()]
    blank = {"tokens_in": 1, "tokens_out": 1, "finish_reason": "stop", **fields}
    frame = pl.DataFrame({"request_id": requests["request_id"], "text": texts})
    return tables.typed(Responses, frame.with_columns(pl.lit(v).alias(k) for k, v in blank.items()))


def run(*tables_: pl.DataFrame, reply: Callable[[str], str | None], **options: object) -> Votes:
    options = {"judge": JUDGE, "model": MODEL, **options}
    votes = drive(pairwise(*tables_, **options), lambda requests: answers(requests, reply))
    return tables.typed(Votes, votes)


def prefers(good: Callable[[str], float]) -> Callable[[str], str]:
    """A judge that has read both replies and names the one with the larger value."""

    def reply(shown: str) -> str:
        a, b = (shown.split(f"Reply {x}:\n```\n")[1].split("\n```")[0] for x in "AB")
        verdict = "tie" if good(a) == good(b) else "A" if good(a) > good(b) else "B"
        return json.dumps({"verdict": verdict})

    return reply


def always(verdict: str) -> Callable[[str], str]:
    return lambda _: json.dumps({"verdict": verdict})


def test_every_pair_is_shown_in_both_orders():
    prompts, completions = world(3, 4)
    votes = run(prompts, completions, reply=always("tie"))
    expected = {
        (*sorted(two), order)
        for (_,), group in completions.group_by("prompt_id")
        for two in itertools.combinations(group["completion_id"], 2)
        for order in (True, False)
    }
    assert set(votes.select("completion_a", "completion_b", "a_first").rows()) == expected
    assert votes["preference"].to_list() == [0.5] * len(expected)
    assert votes["annotator"].unique().to_list() == ["llm:grader/helpfulness"]
    assert votes["criterion"].unique().to_list() == ["helpfulness"]


def test_the_preference_is_the_judges_whatever_the_order():
    prompts, completions = world(4, 3)
    votes = run(prompts, completions, reply=prefers(lambda text: -float(text.split()[1])))
    said = completions.with_columns(
        k=pl.col("completion").list.last().struct["content"].str.extract(r"answer (\d)").cast(int)
    ).select("completion_id", "k")
    votes = votes.join(said, left_on="completion_a", right_on="completion_id")
    votes = votes.join(said, left_on="completion_b", right_on="completion_id", suffix="_b")
    assert votes.height == 4 * 3 * 2
    assert (votes["preference"] == (votes["k"] < votes["k_b"]).cast(pl.Float64)).all()


@pytest.mark.parametrize("verdict", ["A", "B"])
def test_a_judge_that_always_says_the_same_contradicts_itself(verdict: str):
    votes = run(*world(), reply=always(verdict))
    assert (votes["preference"] == (votes["a_first"] == (verdict == "A")).cast(pl.Float64)).all()
    both = votes.group_by("completion_a", "completion_b").agg(pl.col("preference").sum())
    assert both["preference"].to_list() == [1.0] * both.height


def test_less_can_be_better():
    scale = JUDGE.criteria[0].scale.model_copy(update={"higher_is_better": False})
    criterion = JUDGE.criteria[0].model_copy(update={"scale": scale})
    worse = JUDGE.model_copy(update={"criteria": (criterion,)})
    votes = run(*world(), reply=always("A"), judge=worse)
    assert (votes["preference"] == (~votes["a_first"]).cast(pl.Float64)).all()


def noisy(shown: str) -> str:
    """A reply that depends on everything that is shown, sometimes malformed."""
    return ['{"verdict": "A"}', '{"verdict": "B"}', '{"verdict": "tie"}', "hm"][
        int(tables.digest(shown), 16) % 4
    ]


@settings(deadline=None, max_examples=12)
@given(st.randoms(), st.sampled_from(["both", "random", "a_first"]), st.sampled_from([None, 2, 4]))
def test_votes_depend_on_neither_row_order_nor_shards(random, orders: str, max_pairs: int | None):
    prompts, completions = world(9, 4)
    options = {"reply": noisy, "orders": orders, "max_pairs": max_pairs, "draws": 2, "seed": 3}
    whole = run(prompts, completions, **options)
    rows = list(range(completions.height))
    random.shuffle(rows)
    shuffled = run(prompts.reverse(), completions[rows], **options)
    assert shuffled.equals(whole)
    shards = []
    for i in range(7):
        mine = pl.col("prompt_id").is_in(prompts["prompt_id"].gather_every(7, i).to_list())
        shards.append(run(prompts.filter(mine), completions.filter(mine), **options))
    assert tables.typed(Votes, pl.concat(shards)).equals(whole)


def test_responses_are_joined_by_id_not_by_place():
    prompts, completions = world(5, 3)

    def shuffled(requests: Requests) -> Responses:
        said = answers(requests, noisy)
        return Responses(said.sample(fraction=1, shuffle=True, seed=1))

    votes = drive(pairwise(prompts, completions, judge=JUDGE, model=MODEL), shuffled)
    assert tables.typed(Votes, votes).equals(run(prompts, completions, reply=noisy))


def preferred(votes: Votes, completions: Completions) -> list[tuple[str, str]]:
    """The prompt and the preferred text of each vote."""
    better = pl.when(pl.col("preference") == 1).then("completion_a").otherwise("completion_b")
    rows = votes.select("prompt_id", completion_id=better).join(completions, on="completion_id")
    text = pl.col("completion").list.last().struct["content"]
    return sorted(rows.select("prompt_id", text).rows())


def test_ids_that_swap_a_and_b_leave_the_preferred_text_as_it_is():
    prompts, completions = world(4, 2)
    largest_first = pl.col("completion_id").sort(descending=True).over("prompt_id")
    swapped = Completions(completions.sort("completion_id").with_columns(largest_first))
    reply = prefers(lambda text: float(text.split()[1]))
    one = run(prompts, completions, reply=reply)
    other = run(prompts, swapped, reply=reply)
    assert preferred(one, completions) == preferred(other, swapped)
    both = one.join(other, on=["completion_a", "completion_b", "a_first"])
    assert both.height == 8
    assert (both["preference"] == 1 - both["preference_right"]).all()


def test_requests_are_the_ones_that_the_votes_name():
    prompts, completions = world(2, 2)
    asks = pairwise(prompts, completions, judge=JUDGE, model=MODEL)
    requests = next(asks)
    assert requests["request_id"].n_unique() == requests.height == 4
    options = json.loads(requests["options"][0])
    assert options == {"max_tokens": JUDGE.max_tokens, "schema": JUDGE.schema}
    assert list(options["schema"]["properties"]) == ["verdict"]
    with pytest.raises(StopIteration) as stop:
        asks.send(answers(requests, always("A")))
    votes = stop.value.value
    assert set(votes["request_id"]) == set(requests["request_id"])


def test_the_models_own_limit_wins_over_the_judges_hint():
    model = Model("grader", options={"max_tokens": 7, "temperature": 0.3})
    requests = next(pairwise(*world(1, 2), judge=JUDGE, model=model))
    options = json.loads(requests["options"][0])
    assert (options["max_tokens"], options["temperature"]) == (7, 0.3)
    model = Model("grader", options={"max_completion_tokens": 900})
    requests = next(pairwise(*world(1, 2), judge=JUDGE, model=model))
    assert "max_tokens" not in json.loads(requests["options"][0]), "it has a bound of its own"


@pytest.mark.parametrize("client", ["embedded", "vllm", "openai"])
def test_the_judges_limit_holds_where_a_recipe_gives_its_model_none(client: Any, tmp_path: Path):
    weights = tmp_path / "model.gguf"
    weights.write_bytes(b"GGUF")
    model = ModelSpec(client=client, model=str(weights)).resolve("grader")
    requests = next(pairwise(*world(1, 2), judge=JUDGE, model=model))
    assert json.loads(requests["options"][0])["max_tokens"] == JUDGE.max_tokens


def test_draws_are_asked_apart():
    requests = next(pairwise(*world(1, 2), judge=JUDGE, model=MODEL, draws=3))
    assert requests["request_id"].n_unique() == 6
    assert sorted(requests["draw"]) == [0, 0, 1, 1, 2, 2]


def test_a_malformed_reply_is_asked_for_once_more_with_the_complaint():
    prompts, completions = world(1, 2)
    asks = pairwise(prompts, completions, judge=JUDGE, model=MODEL)
    first = next(asks)
    said = answers(first, lambda _: "A is better")
    good = said.with_columns(
        text=pl.when(pl.col("request_id") == first["request_id"][0])
        .then(pl.lit('{"verdict": "A"}'))
        .otherwise("text")
    )
    second = asks.send(Responses(good))
    assert second.height == 1
    assert second["request_id"][0] not in set(first["request_id"])
    asked = dict(first.select("request_id", "messages").rows())[first["request_id"][1]]
    turns = second["messages"][0].to_list()
    assert turns[: len(asked)] == asked
    assert [turn["role"] for turn in turns[len(asked) :]] == ["assistant", "user"]
    assert turns[-2]["content"] == "A is better"
    assert "no verdict" in turns[-1]["content"]
    assert JUDGE.wording in turns[-1]["content"]
    with pytest.raises(StopIteration) as stop:
        asks.send(answers(second, always("B")))
    votes = stop.value.value
    assert votes["unscored"].null_count() == 2
    assert second["request_id"][0] in set(votes["request_id"])


def test_an_empty_reply_is_asked_for_again_without_an_empty_turn():
    asks = pairwise(*world(1, 2), judge=JUDGE, model=MODEL, orders="a_first")
    first = next(asks)
    second = asks.send(answers(first, lambda _: ""))
    turns = second["messages"][0].to_list()
    assert [turn["role"] for turn in turns] == ["system", "user"]
    assert turns[-1]["content"].startswith(first["messages"][0].to_list()[-1]["content"])


@pytest.mark.parametrize(("reask", "rounds"), [(True, 2), (False, 1)])
def test_a_stubborn_reply_is_kept_with_its_reason(reask: bool, rounds: int):
    asked: list[int] = []

    def ask(requests: Requests) -> Responses:
        asked.append(requests.height)
        return answers(requests, lambda _: "A, clearly")

    votes = drive(pairwise(*world(2, 2), judge=JUDGE, model=MODEL, reask=reask), ask)
    assert asked == [4] * rounds
    assert votes["unscored"].to_list() == ["no verdict"] * 4
    assert votes["rationale"].to_list() == ["A, clearly"] * 4
    assert votes["preference"].null_count() == 4
    tables.typed(Votes, votes)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": "timeout"}, "error: timeout"),
        ({"finish_reason": "content_filter"}, "refused"),
    ],
)
def test_a_failure_is_not_a_vote_and_is_not_asked_again(fields: dict, reason: str):
    rounds: list[int] = []

    def ask(requests: Requests) -> Responses:
        rounds.append(requests.height)
        return answers(requests, lambda _: None, **fields)

    votes = drive(pairwise(*world(1, 2), judge=JUDGE, model=MODEL), ask)
    assert rounds == [2]
    assert votes["unscored"].to_list() == [reason] * 2
    assert votes["preference"].null_count() == 2


def test_an_error_counts_even_beside_a_verdict():
    def ask(requests: Requests) -> Responses:
        return answers(requests, always("A"), error="stream broke off")

    votes = drive(pairwise(*world(1, 2), judge=JUDGE, model=MODEL), ask)
    assert votes["unscored"].to_list() == ["error: stream broke off"] * 2


def test_the_reason_becomes_the_rationale():
    votes = run(*world(1, 2), reply=lambda _: '{"reason": "so", "verdict": "A"}', judge=REASONED)
    assert votes["rationale"].to_list() == ["so", "so"]


def test_random_orders_are_balanced_and_come_from_the_seed():
    prompts, completions = world(40, 3)
    votes = run(prompts, completions, reply=always("A"), orders="random", seed=1)
    assert votes.height == 120
    assert 36 <= votes["a_first"].sum() <= 84  # 120 fair coins stay within with 1 - 1e-5
    other = run(prompts, completions, reply=always("A"), orders="random", seed=2)
    assert other["a_first"].to_list() != votes["a_first"].to_list()
    fixed = run(prompts, completions, reply=always("A"), orders="a_first")
    assert fixed["a_first"].all()


@pytest.mark.parametrize(("n", "max_pairs"), [(5, 4), (5, 5), (6, 6), (6, 12), (7, 9), (4, 99)])
def test_the_chosen_pairs_connect_all_and_are_spread_evenly(n: int, max_pairs: int):
    prompts, completions = world(6, n)
    votes = run(prompts, completions, reply=always("A"), orders="a_first", max_pairs=max_pairs)
    assert votes["prompt_id"].n_unique() == 6
    for _, group in votes.group_by("prompt_id"):
        pairs = group.select("completion_a", "completion_b").rows()
        assert len(set(pairs)) == len(pairs) == min(max_pairs, n * (n - 1) // 2)
        counts = [sum(one in pair for pair in pairs) for one in {x for p in pairs for x in p}]
        assert len(counts) == n
        assert max(counts) - min(counts) <= 1 + (max_pairs % n > 0)
        reached, before = {pairs[0][0]}, 0
        while len(reached) > before:
            before = len(reached)
            reached |= {x for pair in pairs if reached & set(pair) for x in pair}
        assert len(reached) == n


def test_a_prompt_with_one_completion_asks_nothing():
    assert run(*world(3, 1), reply=always("A")).is_empty()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge": judges.load("ultrafeedback")}, "pointwise judge"),
        ({"draws": 0}, "draws = 0"),
        ({"max_pairs": 0}, "max_pairs = 0"),
    ],
)
def test_wrong_options_are_found_before_any_request(options: dict, said: str):
    with pytest.raises(RecipeError, match=said):
        run(*world(1, 2), reply=always("A"), **options)
