"""Two thousand requests through every fault at once, into the ledger."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from tests.models.conftest import ask

N = 2000
PASSING = {"429": 0.10, "500": 0.05, "cut": 0.03, "malformed": 0.02}


def test_every_row_ends_answered_or_with_its_reason(
    server: Any,
    spec_of: Callable[..., ModelSpec],
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("prefdata.models.lane.FIRST_WAIT", 0.01)
    server.fault("400", share=0.01)
    for kind, share in PASSING.items():
        server.fault(kind, share=share, anew=True)
    spec = spec_of(concurrency=64, retries=8)
    table = ask(spec, [f"Question {i}" for i in range(N)])
    with Edge({"m": spec}, ledger) as edge:
        said = edge(table)
        asked = len(server.requests)
        found = edge(table.join(said.drop_nulls("text"), on="request_id", how="semi"))

    assert said["request_id"].to_list() == table["request_id"].to_list()
    reasons = said["error"].drop_nulls().unique().to_list()
    assert reasons == ["bad request (400): told to answer 400"]
    assert 5 <= said["error"].count() <= 40
    assert said.filter(said["error"].is_null())["text"].null_count() == 0
    assert found.equals(said.drop_nulls("text"))
    assert len(server.requests) == asked, "what has its answer is not asked again"

    fates: dict[str, list[str]] = defaultdict(list)
    for each in server.requests:
        fates[each["mark"]].append(each["said"])
    assert len(fates) == N
    for told in fates.values():
        assert set(told[:-1]) <= set(PASSING), "asked again in vain"
        assert told[-1] in ("ok", "400")
    assert {kind for told in fates.values() for kind in told} == {*PASSING, "ok", "400"}
