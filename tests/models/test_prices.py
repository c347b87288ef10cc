"""What tokens cost: as stated, as listed where the vendor itself is asked, else unknown."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from prefdata.models import chat
from prefdata.models.client import responses
from prefdata.models.costs import cost, worst
from prefdata.models.ledger import Ledger
from prefdata.models.prices import Prices, listed
from prefdata.models.spec import ModelSpec
from tests.models.conftest import ask


def spec(**how: Any) -> ModelSpec:
    return ModelSpec(client="openai", model="gpt-4.1-mini", **how)


def test_a_list_price_holds_where_the_vendor_is_asked():
    found = spec().prices
    assert found is not None
    assert (found.read, found.written, found.cached) == (0.40, 1.60, 0.10)
    assert re.fullmatch(r"\d{4}-\d\d", found.noted)
    assert "price_in" in found.source
    assert spec(base_url="https://api.openai.com/v1").prices == found
    for elsewhere in ("http://127.0.0.1:8000/v1", "https://proxy.example/api.openai.com/v1"):
        assert spec(base_url=elsewhere).prices is None
    assert spec(base_url=["https://api.openai.com/v1", "http://127.0.0.1:1/v1"]).prices is None
    assert listed("gpt-4.1-mini-of-mine", None) is None


def test_the_environments_address_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert spec().prices is None


def test_the_recipe_goes_before_the_list():
    found = spec(price_in=1.0, price_out=2.0).prices
    assert found == Prices(1.0, 2.0)
    assert found.of(1_000_000, 500_000) == pytest.approx(2.0)
    assert spec(price_in=0.0).prices == Prices(0.0, 0.0)


def test_what_the_server_had_read_before_is_cheaper_where_that_price_is_known():
    known = Prices(2.0, 8.0, cached=0.5)
    assert known.of(1000, 0, cached=400) == pytest.approx((600 * 2.0 + 400 * 0.5) / 1e6)
    assert Prices(2.0, 8.0).of(1000, 0, cached=400) == pytest.approx(1000 * 2.0 / 1e6)


def test_a_batch_saves_its_share_of_every_price():
    half = Prices(2.0, 8.0, cached=0.5, batch_discount=0.5).in_batches()
    assert (half.read, half.written, half.cached) == (1.0, 4.0, 0.25)


def test_what_runs_here_is_free():
    assert ModelSpec(client="embedded", model="smollm2-135m").prices == Prices(0.0, 0.0)


def test_the_worst_a_request_costs_counts_the_given_completion():
    one = spec(price_in=1e6, price_out=0.0)
    given = ask(one, ["x"], want="logprobs")
    short = worst(given, {"m": one})
    more = given.with_columns(completion=given["messages"])
    (long,), (before,) = worst(more, {"m": one}).values(), short.values()  # pyright: ignore
    assert long > before


def test_what_a_server_had_in_its_cache_is_paid_as_such(
    server: Any, spec_of: Callable[..., ModelSpec], ledger: Ledger
):
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    said = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    cheaper = {**said, "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 64}}}
    spec = spec_of(price_in=10.0, price_out=0.0, price_cached=1.0)
    requests = ask(spec, ["a", "b"])
    rows = requests.to_dicts()
    answers = responses([*chat.read(rows[:1], said), *chat.read(rows[1:], cheaper)])
    assert answers["tokens_cached"].to_list() == [None, 64]
    assert cost(requests, answers, {"m": spec}) == pytest.approx((100 + 36) * 1e-5 + 64e-6)
    ledger.append(requests, answers)
    assert (
        ledger.find(requests["request_id"]).sort("request_id").equals(answers.sort("request_id"))
    ), "it is kept"
