"""How many batches may be at a model at a time: whose limit it is, how a place is waited for."""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefdata.errors import ModelError, PrefdataError
from prefdata.models.spec import ModelSpec

pytest.importorskip("prefect")

HERE = "http://127.0.0.1:8000/v1"


def spec(model: str = "Qwen/Qwen3-8B", url: str = HERE, **how: Any) -> ModelSpec:
    return ModelSpec(client="openai", model=model, base_url=url, **how)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "org/a%b&c", "ft:gpt-4o:org::x", "m", "a b"])
def test_a_tag_is_a_name_that_prefect_takes(model: str):
    from prefdata.flows.limits import tag
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    made = tag(spec(model))
    assert GlobalConcurrencyLimitCreate(name=made, limit=1).name == made


def test_a_tag_is_of_what_is_served_and_where():
    from prefdata.flows.limits import tag

    alike = [spec(), spec(temperature=0.5), spec(rpm=60, api_key_env="OTHER"), spec(price_in=1)]
    assert len({tag(each) for each in alike}) == 1
    other = [spec(), spec(url="http://127.0.0.1:9000/v1"), spec("org/Qwen3-8B"), spec(revision="a")]
    assert len({tag(each) for each in other}) == 4
    assert tag(spec()).startswith("model:Qwen3-8B-")


def test_a_limit_is_kept_until_it_is_taken_away(server: str):
    from prefdata.flows import limits

    one, other = "model:one", "model:other"
    limits.put({one: 2})
    assert limits.limited([one, other, one]) == {one}
    limits.put({one: 0, other: 0})
    assert limits.limited([one, other]) == set()


def test_who_waits_for_a_place_has_it_when_it_is_free(server: str, monkeypatch: pytest.MonkeyPatch):
    from prefdata.flows import limits

    monkeypatch.setattr(limits, "LOOK", 0.1)
    limits.put({"model:waited": 1})
    looks, has = threading.Event(), threading.Event()

    def wait() -> None:
        with limits.held(["model:waited"], looks.set):
            has.set()

    with limits.held(["model:waited"], lambda: None):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert looks.wait(30)
        assert not has.is_set()
    assert has.wait(30)
    waiting.join()


def test_who_need_not_wait_any_more_does_not(server: str, monkeypatch: pytest.MonkeyPatch):
    from prefdata.flows import limits

    def check() -> None:
        raise ModelError("the build has ended")

    limits.put({"model:ended": 1})
    with (
        limits.held(["model:ended"], check),
        pytest.raises(ModelError, match="has ended"),
        limits.held(["model:ended"], check),
    ):
        pytest.fail("it has the place of another")


def outage(n: int) -> Callable[..., Any]:
    """Prefect's `concurrency` where its API does not answer n times, nor when a place is let go."""
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

    left = [n]

    @contextmanager
    def concurrency(names: list[str], **_: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise ConcurrencySlotAcquisitionError(names) from httpx.ConnectError("refused")
        yield
        raise httpx.ConnectError("refused")

    return concurrency


def test_an_api_that_does_not_answer_for_a_while_ends_no_build(monkeypatch: pytest.MonkeyPatch):
    from prefdata.flows import limits

    monkeypatch.setattr(limits, "LOOK", 0.0)
    monkeypatch.setattr(limits, "concurrency", outage(3))
    with limits.held(["model:x"], lambda: None):
        pass
    monkeypatch.setattr(limits, "OUTAGE", -1.0)
    monkeypatch.setattr(limits, "concurrency", outage(3))
    with (
        pytest.raises(PrefdataError, match=r"model:x, did not answer.*build again"),
        limits.held(["model:x"], lambda: None),
    ):
        pytest.fail("it has no place")


@pytest.mark.slow
def test_what_the_ledger_answers_waits_for_no_place(server: str, recipe: Path, tmp_path: Path):
    """As every night when nothing is new, while another is at the model for a day."""
    from prefdata.flows import limits
    from prefdata.flows.build import build_flow

    from prefdata.recipe import Recipe

    data = str(tmp_path / "data")
    first = build_flow(str(recipe), data=data)
    tags = {limits.tag(each) for each in Recipe.load(recipe).specs.values()}
    limits.put(dict.fromkeys(tags, 1))
    try:
        with limits.held(tags, lambda: None):
            again = build_flow(str(recipe), data=data)
    finally:
        limits.put(dict.fromkeys(tags, 0))
    assert again["id"] == first["id"]
    assert again["requests"]["asked"] == 0
