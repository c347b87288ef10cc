"""Replicas on a Ray that does what the test says: places none, loses some, and gives batches."""

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import polars as pl
import pytest

from prefdata.errors import ModelError
from prefdata.models.client import responses
from prefdata.models.ledger import Ledger
from prefdata.models.scripted import ScriptedClient
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses
from tests.models.conftest import ask

pytest.importorskip("prefect")

SPEC = ModelSpec(client="scripted", model="planted")
N = 40


class Lost(Exception):
    """As RayError."""


class Failed(Lost):
    """As RayTaskError: what was called raised its `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"traceback\n{cause}")
        self.cause = cause


class Ray:
    """Calls actors in this process, one at a time when it is waited for.

    `fate(actor, call, n)` is asked before the `n`-th call of an actor, by its number and the name
    of the call: "pends" leaves it for later, "dies" loses the actor's process, None lets it be.
    """

    class exceptions:
        RayError, RayTaskError = Lost, Failed

    def __init__(self, fate: Callable[[int, str, int], str | None]) -> None:
        self.fate = fate
        self.actors: list[Actor] = []
        self.calls: dict[str, tuple[Actor, str, tuple[Any, ...]]] = {}
        self.ended: dict[str, Any] = {}

    def remote(self, kind: Any) -> "Ray":
        self.kind = kind
        return self

    def options(self, **how: Any) -> Any:
        ray = self

        class Asked:
            def remote(self, *given: Any) -> "Actor":
                ray.actors.append(Actor(ray, len(ray.actors), given, how))
                return ray.actors[-1]

        return Asked()

    def wait(self, refs: list[str], timeout: float, **_: Any) -> tuple[list[str], list[str]]:
        for ref in refs:
            actor, name, given = self.calls[ref]
            fate = self.fate(actor.at, name, actor.n)
            if fate == "pends":
                continue
            actor.n += 1
            if fate == "dies":
                actor.start()
                self.ended[ref] = Lost(f"The actor {actor.at} died.\nmore")
            else:
                try:
                    self.ended[ref] = getattr(actor.made, name)(*given)
                except Exception as error:  # noqa: BLE001  (as Ray does)
                    self.ended[ref] = Failed(error)
            return [ref], []
        return [], refs

    def get(self, ref: str) -> Any:
        if isinstance(ended := self.ended.pop(ref), Exception):
            raise ended
        return ended

    def kill(self, actor: Any) -> None:
        pass


class Actor:
    def __init__(self, ray: Ray, at: int, given: tuple[Any, ...], how: dict[str, Any]) -> None:
        self.ray, self.at, self.given, self.how, self.n = ray, at, given, how, 0
        self.start()

    def start(self) -> None:
        self.made = self.ray.kind(*self.given)

    def __getattr__(self, name: str) -> Any:
        actor = self

        class Method:
            def remote(self, *given: Any) -> str:
                ref = f"{name} {len(actor.ray.calls)}"
                actor.ray.calls[ref] = actor, name, given
                return ref

        return Method()


class Slow:
    """A client that gives a sign of life and then a request at a time; counts what it answers."""

    def __init__(self) -> None:
        self.answered: list[str] = []

    def answer(self, asked: Requests) -> Iterator[Responses]:
        yield responses([])
        for one in asked.iter_slices(1):
            for batch in ScriptedClient(SPEC).answer(Requests(one)):
                self.answered += batch["request_id"].to_list()
                yield batch

    def close(self) -> None:
        pass


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    from prefdata.flows import replicas

    made = Slow()
    monkeypatch.setattr(replicas, "open_client", lambda *_: made)
    return made


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Ray]]:
    """So many replicas on a Ray of that fate."""
    from prefdata.flows import replicas

    def start(n: int, fate: Callable[[int, str, int], str | None]) -> tuple[Any, Ray]:
        ray = Ray(fate)
        monkeypatch.setitem(sys.modules, "ray", cast(Any, ray))
        monkeypatch.setattr(replicas, "AT_A_TIME", 2)
        many = SPEC.model_copy(update={"replicas": n})
        return replicas.Replicas(many, {}, replicas.Fleet(has_gpus=True)), ray

    return start


@pytest.fixture
def asked() -> Requests:
    return ask(SPEC, [f"question {at}" for at in range(N)])


def same(batches: list[Responses], asked: Requests) -> bool:
    """Whether each request was answered, once, as by one client."""
    alone = pl.concat(ScriptedClient(SPEC).answer(asked))
    return pl.concat(batches).sort("request_id").equals(alone.sort("request_id"))


def test_answers_come_batch_by_batch_with_signs_of_life(slow: Slow, starts: Any, asked: Requests):
    model, _ = starts(2, lambda *_: None)
    batches = list(model.answer(asked))
    assert same(batches, asked)
    assert len(slow.answered) == N
    assert sum(not batch.height for batch in batches) == 4  # each of two chunks of two replicas
    assert max(batch.height for batch in batches) == 1


def test_requests_go_to_the_replicas_that_run(slow: Slow, starts: Any, asked: Requests):
    """One that has no place is not waited for; nor is one whose node is gone for good."""
    model, ray = starts(3, lambda at, *_: "pends" if at == 0 else None)
    assert same(list(model.answer(asked)), asked)
    assert {actor.at for actor, name, _ in ray.calls.values() if name == "answer"} == {1, 2}

    def gone(at: int, name: str, n: int) -> str | None:
        if at != 1 or n < 4:
            return None
        return "dies" if name == "answer" else "pends"

    slow.answered.clear()
    model, _ = starts(3, gone)
    assert same(list(model.answer(asked)), asked)
    assert len(slow.answered) == N  # what came before it was lost is not asked again


def test_a_replica_that_starts_anew_goes_on(slow: Slow, starts: Any, asked: Requests):
    model, ray = starts(1, lambda at, name, n: "dies" if n == 6 else None)
    assert same(list(model.answer(asked)), asked)
    assert len(slow.answered) == N
    assert [name for _, name, _ in ray.calls.values()].count("ready") == 2


def test_what_is_lost_for_good_is_told(slow: Slow, starts: Any, asked: Requests):
    model, _ = starts(2, lambda *_: "dies")
    with pytest.raises(ModelError, match=r"^all .* were lost, also .* 3 times: The"):
        list(model.answer(asked))
    model, _ = starts(2, lambda at, name, n: "dies" if name == "answer" else None)
    with pytest.raises(ModelError, match=r"' was lost, 4 times.*The actor \d died\.; .*again"):
        list(model.answer(asked))


def test_none_that_runs_is_told_and_not_waited_for_without_end(
    starts: Any, asked: Requests, monkeypatch: Any, caplog: Any
):
    from prefdata.flows import replicas

    monkeypatch.setattr(replicas, "TOLD", -1.0)
    monkeypatch.setattr(replicas, "PLACED", 0.0)
    model, _ = starts(2, lambda *_: "pends")
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ModelError, match=r"runs on Ray since 0 minutes: each needs 1 GPUs"),
    ):
        list(model.answer(asked))
    assert "waiting until it is free" in caplog.text


def test_other_weights_on_a_machine_are_said_to_be(starts: Any, asked: Requests):
    from prefdata.flows import replicas

    model, _ = starts(1, lambda *_: None)
    other = SPEC.model_copy(update={"accuracy": 0.5})
    model._fleet.start()
    model._actors[0].made = replicas.Replica(SPEC, {}, replicas.identities(other, {}))
    with pytest.raises(ModelError, match=r"accuracy=0.9.*not .*accuracy=0.5.*same weights on all"):
        list(model.answer(asked))


def test_what_a_model_raises_is_raised(slow: Slow, starts: Any, asked: Requests, monkeypatch: Any):
    model, _ = starts(1, lambda *_: None)
    for error, said in (
        (ModelError("no such model"), r"^no such model$"),
        (ZeroDivisionError("of it"), r"^a replica of 'planted' failed: of it$"),
    ):

        def fails(asked: Requests, error: Exception = error) -> Iterator[Responses]:
            raise error

        monkeypatch.setattr(slow, "answer", fails)
        with pytest.raises(ModelError, match=said):
            list(model.answer(asked))
    model.close()
    with pytest.raises(ModelError, match="closed while asked"):
        list(model.answer(asked))


def test_all_that_were_opened_start_with_the_first_request_the_largest_first(
    slow: Slow, starts: Any, asked: Requests, monkeypatch: Any
):
    from prefdata.flows import replicas

    _, ray = starts(1, lambda *_: None)
    fleet = replicas.Fleet(has_gpus=True)
    nothing = cast(Ledger, None)
    small = ModelSpec(client="vllm", model="org/small", replicas=2)
    large = ModelSpec(client="vllm", model="org/large", engine={"tensor_parallel_size": 4})
    opened = [fleet.open(each, nothing, {"m": each}) for each in (small, large)]
    assert not ray.actors
    asked = Requests(asked.with_columns(model=pl.lit("m")))
    assert sum(batch.height for batch in opened[0].answer(asked)) == N
    assert [actor.how["num_gpus"] for actor in ray.actors] == [4, 1, 1]
    list(opened[1].answer(asked))
    assert len(ray.actors) == 3
