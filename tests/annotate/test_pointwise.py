import json

import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.pointwise import pointwise
from prefdata.errors import RecipeError
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Prompts, Ratings, Requests, Responses

ULTRA = judges.load("ultrafeedback").model_copy(update={"reason": "none"})
STEER = judges.load("helpsteer").model_copy(update={"reason": "none"})
MODEL = Model("grader", label="big", identity="m@1")
NAMES = [criterion.name for criterion in ULTRA.criteria]


def world(n_prompts: int = 2, n: int = 3) -> tuple[Prompts, Completions]:
    prompt = [[{"role": "user", "content": f"question {i}"}] for i in range(n_prompts)]
    prompts = pl.DataFrame(
        {"prompt_id": tables.prompt_ids(prompt), "prompt": prompt, "source": "test"}
    )
    ids = [p for p in prompts["prompt_id"] for _ in range(n)]
    said = [[{"role": "assistant", "content": f"answer {k}"}] for k in range(n_prompts * n)]
    made = {"completion_id": tables.completion_ids(ids, said), "prompt_id": ids, "completion": said}
    return tables.typed(Prompts, prompts), tables.typed(Completions, pl.DataFrame(made))


def answers(requests: Requests, reply, **fields: object) -> Responses:
    """What a model would say; `reply` sees a request."""
    blank = {"tokens_in": 1, "tokens_out": 1, "finish_reason": "stop", **fields}
    frame = pl.DataFrame(
        {
            "request_id": requests["request_id"],
            "text": pl.Series([reply(row) for row in requests.to_dicts()], dtype=pl.String),
        }
    ).with_columns(pl.lit(v).alias(k) for k, v in blank.items())
    return tables.typed(Responses, frame)


def run(*tables_: pl.DataFrame, reply, **options: object) -> Ratings:
    options = {"judge": ULTRA, "model": MODEL, **options}
    made = drive(pointwise(*tables_, **options), lambda requests: answers(requests, reply))
    return tables.typed(Ratings, made)


def graded(request: dict) -> str:
    """A grade for every key that is asked, which depends on all that is shown and on the key."""
    asked = json.loads(request["options"])["schema"]["properties"]
    shown = request["messages"][-1]["content"].partition("Reply:")[2]
    grades = {
        key: spec["enum"][int(tables.digest(shown.split("Grade")[0], key), 16) % len(spec["enum"])]
        for key, spec in asked.items()
    }
    return json.dumps(grades)


def test_one_row_for_each_completion_criterion_and_draw():
    prompts, completions = world(2, 3)
    ratings = run(prompts, completions, reply=graded, draws=2)
    assert ratings.height == 6 * 4 * 2
    assert set(ratings["criterion"]) == set(NAMES)
    assert ratings["annotator"].unique().to_list() == ["llm:big/ultrafeedback"]
    assert ratings["request_id"].n_unique() == 12
    owner = dict(completions.select("completion_id", "prompt_id").rows())
    assert [owner[c] for c in ratings["completion_id"]] == ratings["prompt_id"].to_list()


def test_grades_are_mapped_by_the_scale_and_kept_raw():
    reply = '{"instruction_following": 1, "honesty": "N/A", "truthfulness": 4, "helpfulness": 5}'
    ratings = run(*world(1, 1), reply=lambda _: reply)
    rows = {row["criterion"]: row for row in ratings.to_dicts()}
    found = {n: (rows[n]["rating"], rows[n]["raw"], rows[n]["unscored"]) for n in NAMES}
    assert found == {
        "instruction_following": (0.0, "1", None),
        "honesty": (None, "N/A", "not applicable"),
        "truthfulness": (0.75, "4", None),
        "helpfulness": (1.0, "5", None),
    }


def test_less_is_better_only_where_the_judge_says_so():
    asked = [criterion.name for criterion in STEER.criteria]
    reply = json.dumps(dict.fromkeys(asked, 3))
    ratings = run(*world(1, 1), reply=lambda _: reply, judge=STEER)
    found = dict(ratings.select("criterion", "rating").rows())
    assert found == {**dict.fromkeys(asked, 0.75), "verbosity": 0.25}
    assert ratings["raw"].to_list() == ["3"] * 5


def test_a_call_for_each_criterion_asks_for_that_one_alone():
    prompts, completions = world(2, 2)
    asks = pointwise(prompts, completions, judge=ULTRA, model=MODEL, calls="per_criterion")
    requests = next(asks)
    assert requests["request_id"].n_unique() == requests.height == 4 * 4
    for row in requests.to_dicts():
        (key,) = json.loads(row["options"])["schema"]["properties"]
        text = row["messages"][-1]["content"]
        assert [name for name in NAMES if f"{name}: " in text] == [key]
    with pytest.raises(StopIteration) as stop:
        asks.send(answers(requests, graded))
    apart = tables.typed(Ratings, stop.value.value)
    together = run(prompts, completions, reply=graded)
    assert apart.drop("request_id").equals(together.drop("request_id"))
    assert apart["request_id"].n_unique() == 16


def test_one_malformed_criterion_does_not_touch_the_others_when_asked_apart():
    def reply(request: dict) -> str:
        said = graded(request)
        return "no idea" if "honesty" in said else said

    ratings = run(*world(1, 2), reply=reply, calls="per_criterion")
    blank = ratings.filter(pl.col("unscored") == "no verdict")
    assert blank["criterion"].to_list() == ["honesty"] * 2
    assert blank["rationale"].to_list() == ["no idea"] * 2
    assert ratings.filter(pl.col("criterion") != "honesty")["rating"].null_count() == 0


@pytest.mark.parametrize("calls", ["one", "per_criterion"])
def test_ratings_depend_on_neither_row_order_nor_shards_nor_the_order_of_responses(calls: str):
    prompts, completions = world(9, 3)

    def some(request: dict) -> str:
        return "hm" if int(request["request_id"], 16) % 5 == 0 else graded(request)

    whole = run(prompts, completions, reply=some, calls=calls)
    assert 0 < whole["unscored"].null_count() < whole.height
    shuffled = completions.sample(fraction=1, shuffle=True, seed=5)

    def ask(requests: Requests) -> Responses:
        return Responses(answers(requests, some).sample(fraction=1, shuffle=True, seed=2))

    asks = pointwise(prompts.reverse(), shuffled, judge=ULTRA, model=MODEL, calls=calls)
    assert tables.typed(Ratings, drive(asks, ask)).equals(whole)
    shards = []
    for i in range(7):
        mine = pl.col("prompt_id").is_in(prompts["prompt_id"].gather_every(7, i).to_list())
        options = {"reply": some, "calls": calls}
        shards.append(run(prompts.filter(mine), completions.filter(mine), **options))
    assert tables.typed(Ratings, pl.concat(shards)).equals(whole)


def test_the_reason_is_kept_beside_each_rating():
    judge = judges.load("helpfulness-rating").model_copy(update={"reason": "last"})
    ratings = run(*world(1, 1), reply=lambda _: '{"helpfulness": 2, "reason": "so"}', judge=judge)
    assert ratings.select("rating", "rationale").rows() == [(0.25, "so")]


def test_a_failed_request_leaves_every_criterion_unscored():
    def ask(requests: Requests) -> Responses:
        return answers(requests, lambda _: None, error="HTTP 500")

    ratings = tables.typed(Ratings, drive(pointwise(*world(1, 1), judge=ULTRA, model=MODEL), ask))
    assert ratings["unscored"].to_list() == ["error: HTTP 500"] * 4
    assert ratings["rating"].null_count() == ratings["raw"].null_count() == 4


def test_a_second_reply_replaces_the_first():
    asks = pointwise(*world(1, 2), judge=ULTRA, model=MODEL)
    first = next(asks)
    second = asks.send(answers(first, lambda _: '{"helpfulness": 9}'))
    assert second.height == 2
    with pytest.raises(StopIteration) as stop:
        asks.send(answers(second, graded))
    ratings = tables.typed(Ratings, stop.value.value)
    assert ratings.height == 8
    assert set(ratings["request_id"]) == set(second["request_id"])
    assert set(ratings["unscored"]) <= {None, "not applicable"}


def test_nothing_to_rate_asks_nothing():
    prompts, completions = world(1, 1)
    assert run(prompts, Completions(completions.head(0)), reply=graded).is_empty()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"judge": judges.load("helpfulness")}, "pairwise judge"), ({"draws": 0}, "draws = 0")],
)
def test_wrong_options_are_found_before_any_request(options: dict, said: str):
    with pytest.raises(RecipeError, match=said):
        run(*world(1, 1), reply=graded, **options)
