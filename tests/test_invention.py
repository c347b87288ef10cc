"""Invented replies are well-formed, whatever was wanted, and the same for the same request."""

import json
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata import tables as t
from prefdata.judge import load, names
from prefdata.models.client import response, responses
from prefdata.planning.invention import Inventor, instance
from prefdata.stage import Model, requests
from prefdata.tables import Requests

SCHEMAS: dict[str, dict[str, Any]] = {
    "a ranking": {
        "type": "array",
        "items": {"enum": ["A", "B", "C", "D"]},
        "minItems": 4,
        "maxItems": 4,
        "uniqueItems": True,
    },
    "nested objects": {
        "type": "object",
        "properties": {
            "issues": {
                "type": "array",
                "minItems": 2,
                "items": {
                    "type": "object",
                    "properties": {"where": {"type": "integer"}, "why": {"type": "string"}},
                    "required": ["where", "why"],
                },
            }
        },
        "required": ["issues"],
    },
    "integers without bounds": {"type": "integer"},
    "an integer below": {"type": "integer", "maximum": -3},
    "an integer between": {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
    "a number between": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
    "several types": {"type": ["null", "string"]},
    "alternatives": {"oneOf": [{"type": "boolean"}, {"type": "integer"}]},
    "a short string": {"type": "string", "maxLength": 5, "minLength": 2},
    "a tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"const": "x"}],
                "items": False},
    "parts": {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}},
                         "required": ["a"]},
                        {"properties": {"b": {"type": "null"}}, "required": ["b"]}]},
    "one that refers to itself": {
        "$ref": "#/$defs/tree",
        "$defs": {"tree": {"type": "object", "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "required": ["name"]}},
    },
    "anything": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", SCHEMAS)
@given(luck=st.integers(0, 2**80))
def test_an_instance_is_valid(kind: str, luck: int):
    jsonschema.validate(instance(SCHEMAS[kind], luck), SCHEMAS[kind])


@pytest.mark.parametrize("judge", names())
def test_every_bundled_judge_is_answered_with_a_verdict(judge: str):
    schema = load(judge).schema
    said = [instance(schema, luck * 7919) for luck in range(50)]
    for each in said:
        jsonschema.validate(each, schema)
    assert len({json.dumps(each) for each in said}) > 1, "not always the same verdict"


def asked(want: str, n: int = 40, **options: Any) -> Requests:
    said = t.conversations(
        "messages", [[{"role": "user", "content": f"Question {i}"}] for i in range(n)]
    )
    given = [[{"role": "assistant", "content": f"One two  three\n{i} äöü"}] for i in range(n)]
    completion = t.conversations("completion", given)
    return requests(Model("m"), want, said, completion=completion, options=options)


def invented(wanted: Requests, inventor: Inventor | None = None) -> list[dict[str, Any]]:
    said = [(inventor or Inventor()).reply(row) for row in wanted.iter_rows(named=True)]
    t.check("responses", responses(said), where="here")
    return said


def test_choices_have_probabilities():
    for said in invented(asked("choice", choices=["A", "B", "tie"])):
        shares = {each["token"]: math.exp(each["logprob"]) for each in said["logprobs"]}
        assert set(shares) == {"A", "B", "tie"}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-9)
        assert said["text"] == max(shares, key=shares.__getitem__)


def test_log_probabilities_are_those_of_the_completion_and_their_sum():
    wanted = asked("logprobs")
    for row, said in zip(wanted.iter_rows(named=True), invented(wanted), strict=True):
        text = row["completion"][0]["content"]
        assert "".join(each["token"] for each in said["logprobs"]) == text
        assert all(each["logprob"] <= 0 for each in said["logprobs"])
        assert said["number"] == pytest.approx(sum(e["logprob"] for e in said["logprobs"]))


def test_tokens_are_counted_alike_wherever_a_number_of_them_is_wanted():
    counts = [said["number"] for said in invented(asked("tokens"))]
    assert counts == [len(said["logprobs"]) for said in invented(asked("logprobs"))]


@pytest.mark.parametrize("want", ["hidden", "embedding"])
def test_vectors_have_one_length_that_of_real_ones_where_there_are_some(want: str):
    wanted = asked(want)
    inventor = Inventor()
    assert len({len(said["vector"]) for said in invented(wanted, inventor)}) == 1
    real = responses([response(wanted["request_id"][0], vector=[0.5] * 7)])
    inventor.see(wanted, real)
    assert {len(said["vector"]) for said in invented(wanted, inventor)} == {7}
    if want == "hidden":
        assert all(said["number"] >= 4 for said in invented(wanted))


def test_rewards_are_numbers_and_differ():
    numbers = {said["number"] for said in invented(asked("reward"))}
    assert len(numbers) == 40
    assert all(map(math.isfinite, numbers))


def test_the_same_request_has_the_same_reply():
    for want in ("text", "reward", "hidden", "logprobs"):
        assert invented(asked(want)) == invented(asked(want))
