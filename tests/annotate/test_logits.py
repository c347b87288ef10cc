import math

import polars as pl
import pytest

from prefdata import tables as t
from prefdata.annotate.logits import logits
from prefdata.errors import RecipeError
from prefdata.judge import load
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Prompts, Requests, Responses, Votes

MODEL = Model("judge", "smol", "smol@1")


def world() -> tuple[Prompts, Completions]:
    asked = [[{"role": "user", "content": f"question {i}"}] for i in range(3)]
    prompts = pl.DataFrame({"prompt": asked, "source": "test"}).with_columns(t.prompt_ids(asked))
    said = [[{"role": "assistant", "content": f"answer {'x' * i}"}] for i in range(1, 4)]
    rows = [(p, c) for p in prompts["prompt_id"] for c in said]
    completions = pl.DataFrame(
        {"prompt_id": [p for p, _ in rows], "completion": [c for _, c in rows]},
    ).with_columns(t.completion_ids([p for p, _ in rows], [c for _, c in rows]))
    return t.typed(Prompts, prompts), t.typed(Completions, completions)


def votes(read: object, **options: object) -> Votes:
    """The votes of a judge that gives `read(messages)` to the letters A and B."""
    asked: list[Requests] = []

    def ask(requests: Requests) -> Responses:
        asked.append(requests)
        rows = [
            {
                "request_id": row["request_id"],
                "tokens_in": 1,
                "tokens_out": 1,
                **read(row["messages"][-1]["content"]),  # pyright: ignore
            }
            for row in requests.to_dicts()
        ]
        frame = pl.DataFrame(rows, schema=t.schema("responses").dtypes)
        return Responses(frame.sample(fraction=1.0, shuffle=True, seed=1))

    prompts, completions = world()
    stage = logits(prompts, completions, judge=load("helpfulness"), model=MODEL, **options)  # pyright: ignore
    made = t.typed(Votes, drive(stage, ask))
    assert {row for a in asked for row in a["want"]} == {"choice"}
    return made


def letters(a: float, b: float) -> dict[str, object]:
    shares = {"A": a, "B": b}
    given = [{"token": k, "logprob": math.log(v)} for k, v in shares.items() if v]
    return {"logprobs": given, "text": "A"}


def test_a_judge_that_likes_the_first_place_cancels_over_both_orders():
    made = votes(lambda _: letters(0.9, 0.05))
    assert made.height == 3 * 3 * 2
    first = made.filter("a_first")["preference"]
    assert first.to_list() == pytest.approx([0.9 / 0.95] * 9)
    both = made.group_by("completion_a", "completion_b").agg(pl.col("preference").mean())
    assert both["preference"].to_list() == pytest.approx([0.5] * 9)


def test_an_opinion_survives_the_order_in_which_it_is_asked():
    def prefers_longer(content: str) -> dict[str, object]:
        a, b = (content.index("Reply A"), content.index("Reply B"))
        return (
            letters(0.8, 0.2)
            if content[a:b].count("x") > content[b:].count("x")
            else letters(0.2, 0.8)
        )

    made = votes(prefers_longer)
    _, completions = world()
    length = pl.col("completion").list.first().struct.field("content").str.len_chars()
    known = completions.select("completion_id", n=length)
    longer = (
        made.join(known, left_on="completion_a", right_on="completion_id")
        .join(known, left_on="completion_b", right_on="completion_id", suffix="_b")
        .with_columns(expected=pl.when(pl.col("n") > pl.col("n_b")).then(0.8).otherwise(0.2))
    )
    assert longer["preference"].to_list() == pytest.approx(longer["expected"].to_list())


def test_no_letter_and_no_answer_are_unscored_with_the_reason():
    made = votes(lambda _: {"error": "no choice among the likely tokens"})
    assert made["preference"].null_count() == made.height
    assert made["unscored"].unique().to_list() == ["error: no choice among the likely tokens"]
    assert votes(lambda _: letters(0.0, 0.0))["unscored"].unique().to_list() == [
        "error: no letter was likely"
    ]


def test_letters_that_were_next_to_impossible_are_no_vote():
    """What would have been said is something else; the ratio of two accidents is no opinion."""

    def mostly_silent(mass: float):
        return lambda _: {**letters(0.9, 0.1), "number": mass}

    made = votes(mostly_silent(0.004))
    assert made["preference"].null_count() == made.height
    assert made["unscored"].unique().to_list() == ["A and B together have 0.004, below 0.01"]
    assert votes(mostly_silent(0.01))["unscored"].null_count() == made.height
    assert votes(mostly_silent(0.004), min_letters=0.0)["preference"].null_count() == 0
    assert votes(mostly_silent(0.4), min_letters=0.5)["preference"].null_count() == made.height
    # Who does not tell how likely the letters were is taken at its word.
    assert votes(lambda _: letters(0.9, 0.1), min_letters=1.0)["preference"].null_count() == 0
    with pytest.raises(RecipeError, match="min_letters"):
        votes(mostly_silent(0.5), min_letters=1.5)


def test_one_missing_letter_has_no_probability():
    assert votes(lambda _: letters(0.0, 0.3), orders="a_first")["preference"].to_list() == [0.0] * 9


def test_the_judge_is_asked_for_a_letter_and_not_for_json():
    seen: list[str] = []
    votes(lambda content: (seen.append(content), letters(0.5, 0.5))[1])
    assert all("Answer with one letter only, A or B." in content for content in seen)
    assert not any("JSON" in content for content in seen)


def test_the_annotator_is_not_that_of_the_judges_written_verdicts():
    assert set(votes(lambda _: letters(0.5, 0.5))["annotator"]) == {"llm:smol/helpfulness:logits"}


def test_max_pairs_and_random_orders():
    assert votes(lambda _: letters(0.5, 0.5), max_pairs=1, orders="random").height == 3


def test_a_pointwise_judge_is_refused():
    prompts, completions = world()
    with pytest.raises(RecipeError, match="is a pointwise judge"):
        next(logits(prompts, completions, judge=load("helpfulness-rating"), model=MODEL))
