import json

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.generate.sample import sample
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Dropped, Prompts, Requests, Responses, Samples

MODEL = Model("writer", identity="m@1", options={"temperature": 0.9, "seed": 10})


def questions(n: int = 3, system: str | None = None) -> Prompts:
    first = [{"role": "system", "content": system}] if system else []
    prompt = [[*first, {"role": "user", "content": f"question {i}"}] for i in range(n)]
    frame = {"prompt_id": tables.prompt_ids(prompt), "prompt": prompt, "source": "test"}
    return tables.typed(Prompts, pl.DataFrame(frame))


def answers(requests: Requests, reply) -> Responses:
    """What a model would say; `reply` makes the fields of a response from a request."""
    blank = {"text": None, "finish_reason": "stop", "error": None, "tokens_in": 1, "tokens_out": 1}
    rows = [{"request_id": row["request_id"], **blank, **reply(row)} for row in requests.to_dicts()]
    types = tables.schema("responses").dtypes
    schema = {name: types[name] for name in ("request_id", *blank)}
    return tables.typed(Responses, pl.DataFrame(rows, schema=schema))


def run(prompts: Prompts, reply, **options: object) -> tuple[Completions, Samples, Dropped]:
    asks = sample(prompts, **{"model": MODEL, **options})
    made = drive(asks, lambda requests: answers(requests, reply))
    kinds = (Completions, Samples, Dropped)
    return tuple(tables.typed(kind, table) for kind, table in zip(kinds, made, strict=True))


def echo(request: dict) -> dict:
    return {"text": f"{request['messages'][-1]['content']} / {request['draw']}"}


def test_every_draw_of_every_prompt_is_a_request_and_a_sample():
    prompts = questions(3)
    requests = next(sample(prompts, model=MODEL, n=4))
    assert requests["request_id"].n_unique() == requests.height == 12
    assert sorted(json.loads(o)["seed"] for o in requests["options"]) == sorted(
        [10, 11, 12, 13] * 3
    )
    completions, samples, dropped = run(prompts, echo, n=4)
    assert completions.height == samples.height == 12
    assert dropped.is_empty()
    assert sorted(samples["draw"]) == sorted([0, 1, 2, 3] * 3)
    assert samples["generator"].unique().to_list() == ["writer"]
    assert set(samples["request_id"]) == set(requests["request_id"])
    asked = dict(prompts.select("prompt_id", pl.col("prompt").list.last().struct["content"]).rows())
    drawn = samples.join(completions, on=["completion_id", "prompt_id"])
    for row in drawn.to_dicts():
        assert row["completion"] == [
            {"role": "assistant", "content": f"{asked[row['prompt_id']]} / {row['draw']}"}
        ]
    made = tables.completion_ids(completions["prompt_id"], completions["completion"])
    assert made.equals(completions["completion_id"])


def test_equal_texts_are_one_completion_with_several_samples():
    completions, samples, _ = run(questions(2), lambda _: {"text": "same"}, n=5)
    assert completions.height == 2
    assert samples.height == 10
    assert completions["prompt_id"].n_unique() == 2
    assert set(samples["completion_id"]) == set(completions["completion_id"])


def test_what_failed_or_is_blank_is_dropped_with_its_reason():
    replies = [
        {"text": "fine", "finish_reason": "length"},
        {"error": "timeout"},
        {"text": " \n"},
        {"text": None},
        {"text": "", "finish_reason": "content_filter"},
        {"text": "half", "error": "connection lost"},
    ]
    prompts = questions(1)
    completions, samples, dropped = run(prompts, lambda row: replies[row["draw"]], n=6)
    assert completions.height == 1
    assert samples.select("draw", "finish_reason").rows() == [(0, "length")]
    key = f"{prompts['prompt_id'][0]} writer"
    assert dropped.select("table", "key", "stage", "reason").rows() == [
        ("samples", f"{key} 1", "generate.sample", "error: timeout"),
        ("samples", f"{key} 2", "generate.sample", "empty completion"),
        ("samples", f"{key} 3", "generate.sample", "empty completion"),
        ("samples", f"{key} 4", "generate.sample", "refused"),
        ("samples", f"{key} 5", "generate.sample", "error: connection lost"),
    ]


def test_the_text_is_kept_as_it_is():
    text = "  indented\r\n\ttext \u200b\n"
    completions, _, _ = run(questions(1), lambda _: {"text": text})
    assert completions["completion"][0].to_list() == [{"role": "assistant", "content": text}]


def test_a_system_message_stands_above_the_prompts_own_and_makes_another_generator():
    plain = next(sample(questions(1), model=MODEL, system="Be brief."))
    assert [m["role"] for m in plain["messages"][0]] == ["system", "user"]
    both = next(sample(questions(1, system="You are a cook."), model=MODEL, system="Be brief."))
    turns = both["messages"][0].to_list()
    assert turns[0] == {"role": "system", "content": "Be brief.\n\nYou are a cook."}
    assert [turn["role"] for turn in turns] == ["system", "user"]
    names = set()
    for system in (None, "Be brief.", "Be long."):
        completions, samples, _ = run(questions(1), lambda _: {"text": "x"}, system=system)
        assert completions["prompt_id"].to_list() == questions(1)["prompt_id"].to_list()
        names |= set(samples["generator"])
    assert len(names) == 3


def test_samples_depend_on_neither_row_order_nor_shards_nor_the_order_of_responses():
    prompts = questions(9)

    def some(row: dict) -> dict:
        return {"error": "no"} if int(row["request_id"], 16) % 4 == 0 else echo(row)

    whole = run(prompts, some, n=3)
    assert whole[2].height > 0
    asks = sample(Prompts(prompts.reverse()), model=MODEL, n=3)
    made = drive(
        asks, lambda r: Responses(answers(r, some).sample(fraction=1, shuffle=True, seed=4))
    )
    kinds = (Completions, Samples, Dropped)
    for kind, table, expected in zip(kinds, made, whole, strict=True):
        assert tables.typed(kind, table).equals(expected)
    shards = [run(Prompts(prompts.gather_every(7, i)), some, n=3) for i in range(7)]
    for at, kind in enumerate(kinds):
        together = pl.concat([shard[at] for shard in shards])
        assert tables.typed(kind, together).equals(whole[at])


def test_no_prompts_make_nothing():
    assert [table.height for table in run(Prompts(questions(1).head(0)), echo)] == [0, 0, 0]


def test_a_wrong_number_of_draws_is_found_before_any_request():
    with pytest.raises(RecipeError, match="n = 0"):
        next(sample(questions(1), model=MODEL, n=0))
