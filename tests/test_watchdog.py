"""What stands still is named: the model, the request, since when, and what ends the wait."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from prefdata.errors import ModelError
from prefdata.models import clients
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses
from prefdata.watch import Event, Pulse, Stuck
from prefdata.watchdog import watchdog
from tests.models.conftest import another, ask, ledger, own_environment, server, spec_of

__all__ = ["another", "ledger", "own_environment", "server", "spec_of"]
SpecOf = Callable[..., ModelSpec]


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def stuck(seen: list[Event]) -> list[Stuck]:
    return [each for each in seen if isinstance(each, Stuck)]


def test_the_request_that_waits_is_named_with_its_time_out(
    server: Any, spec_of: SpecOf, ledger: Ledger
):
    server.fault("stall", match="stuck", times=1)
    spec = spec_of(timeout=3.0, retries=1, stall_seconds=0.3)
    requests = ask(spec, ["quick", "stuck", "quick too"])
    seen: list[Event] = []
    with (
        Edge({"judge": spec}, ledger) as edge,
        watchdog(edge.clients, seen.append, lambda: "annotate.pairwise", every=0.05),
    ):
        said = edge(ask(spec, ["quick", "stuck", "quick too"], role="judge"))
    assert said["error"].null_count() == 3, "it was tried again"
    first = stuck(seen)[0]
    assert (first.stage, first.role, first.model) == ("annotate.pairwise", "judge", "repeatable")
    assert first.request_id == requests["request_id"][1]
    assert first.where == server.url
    assert first.in_flight == 1
    assert 0.3 <= first.quiet <= first.waited
    assert first.times_out_in is not None
    assert first.waited + first.times_out_in == pytest.approx(3.0, abs=0.1)
    told = [each.quiet for each in stuck(seen)]
    assert all(b >= 2 * a for a, b in itertools.pairwise(told)), "not again and again"
    pulses = [each for each in seen if isinstance(each, Pulse)]
    assert any(e.in_flight == 1 for pulse in pulses for e in pulse.endpoints)
    assert all(pulse.endpoints for pulse in pulses[:-1]), "models are asked all the while"


def test_when_nothing_is_asked_any_more_no_endpoint_is_shown(
    server: Any, spec_of: SpecOf, ledger: Ledger
):
    server.latency = 0.2
    spec = spec_of()
    seen: list[Event] = []
    with (
        Edge({"m": spec}, ledger) as edge,
        watchdog(edge.clients, seen.append, lambda: "s", every=0.02),
    ):
        edge(ask(spec, ["a"]))
        wait_for(lambda: seen[-1] == Pulse(()))
        time.sleep(0.1)
    assert seen.count(Pulse(())) == 1
    assert seen[0] != Pulse(())


def test_nothing_is_said_while_answers_come(server: Any, spec_of: SpecOf, ledger: Ledger):
    server.latency = 0.15
    spec = spec_of(concurrency=1, stall_seconds=1.0)
    seen: list[Event] = []
    with (
        Edge({"m": spec}, ledger) as edge,
        watchdog(edge.clients, seen.append, lambda: "s", every=0.02),
    ):
        edge(ask(spec, [f"Question {i}" for i in range(10)]))
    assert not stuck(seen)


def test_a_call_that_waits_for_its_turn_is_not_stuck(server: Any, spec_of: SpecOf, ledger: Ledger):
    server.latency = 0.2
    spec = spec_of(concurrency=1, stall_seconds=0.8)
    seen: list[Event] = []
    with (
        Edge({"m": spec}, ledger) as edge,
        watchdog(edge.clients, seen.append, lambda: "s", every=0.02),
    ):
        calls = [ask(spec, [f"Question {i} {j}" for i in range(8)]) for j in range(2)]
        threads = [threading.Thread(target=edge, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join(20)
    assert not stuck(seen)


class Hanging:
    """An engine without time-outs."""

    def __init__(self, _: object) -> None:
        self.closed = threading.Event()

    def answer(self, requests: Requests) -> Iterator[Responses]:
        self.closed.wait(30)
        raise ModelError("closed")
        yield

    def close(self) -> None:
        self.closed.set()


def test_an_engine_that_hangs_is_named_too(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clients, "open_client", lambda *_: Hanging(_))
    spec = ModelSpec(client="vllm", model="m", stall_seconds=0.1)
    requests = ask(spec, ["a", "b"])
    seen: list[Event] = []
    with (
        Edge({"m": spec}, ledger) as edge,
        watchdog(edge.clients, seen.append, lambda: "s", every=0.02),
    ):

        def end() -> None:
            with pytest.raises(ModelError):
                edge(requests)

        asking = threading.Thread(target=end)
        asking.start()
        wait_for(lambda: stuck(seen))
    asking.join(10)
    first = stuck(seen)[0]
    assert first.request_id == requests["request_id"][0]
    assert first.in_flight == 2
    assert first.times_out_in is None
    assert "vllm" in first.where


def test_patience_follows_the_time_outs():
    hosted = ModelSpec(client="openai", model="m", timeout=40)
    assert hosted.patience == 20
    assert ModelSpec(client="openai", model="m", stall_seconds=7).patience == 7
    assert ModelSpec(client="vllm", model="m").patience > 60
