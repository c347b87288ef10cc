"""Structured output: a reply that says it in prose is asked for once more, by whoever reads it."""

from collections.abc import Callable
from typing import Any

import pytest

from prefdata.annotate.pairwise import pairwise
from prefdata.judge import load as load_judge
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stage import drive

World = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("mode", ["live", "batch"])
def test_a_judge_gets_one_chance_to_mend_its_reply(
    mode: str, server: Any, spec_of: Callable[..., ModelSpec], ledger: Ledger, world: World
):
    """The second question is another request, with an id and an answer of its own in the ledger."""
    spec = spec_of(mode=mode, temperature=0.0)
    tables = world(3, 2)
    judge = load_judge("helpfulness")
    server.fault("prose", match="question 1", total=2)
    server.fault("prose", match="question 2")
    with Edge({"m": spec}, ledger) as edge:
        stage = pairwise(
            tables["prompts"], tables["completions"], judge=judge, model=spec.resolve("m")
        )
        votes = drive(stage, edge)
        asked = edge.counts.asked
    # Both orders of three pairs; of two they were answered in prose, of one for good.
    assert asked == len(server.requests) == 6 + 4
    assert votes["unscored"].drop_nulls().to_list() == ["no verdict"] * 2
    again = [each["body"]["messages"] for each in server.requests[6:]]
    for turns in again:
        assert [turn["role"] for turn in turns[-2:]] == ["assistant", "user"]
        assert turns[-2]["content"] == "I would rather say it in my own words."
    lines = [ledger.request(each) for each in votes["request_id"]]
    assert all(line is not None for line in lines)
    for vote, line in zip(votes.to_dicts(), lines, strict=True):
        assert line is not None
        is_second = line["request"]["messages"][-2]["role"] == "assistant"
        assert is_second or vote["unscored"] is None, "a vote names the request that gave it"
    formats = [each["body"]["response_format"]["type"] for each in server.requests]
    assert set(formats) == {"json_schema"}
