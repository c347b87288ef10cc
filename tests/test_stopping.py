"""Ctrl-C: the first, and SIGTERM, stop gracefully and keep every answer; the second at once."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from prefdata.errors import ModelError
from prefdata.models import clients
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stopping import graceful, terminable
from prefdata.tables import Requests, Responses
from prefdata.watch import Event, Stopping
from tests.models.conftest import ask, own_environment, server

__all__ = ["own_environment", "server"]
IN_FLIGHT = 6
BOTH = (signal.SIGINT, signal.SIGTERM)
RECIPE = f"""
name = "stopped"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "openai"
model = "repeatable"
temperature = 0.9
seed = 1
concurrency = {IN_FLIGHT}

[[stages]]
use = "generate.sample"
model = "writer"
n = 4
"""
N = 20
COMMAND = "import sys; from prefdata import stopping; stopping.GRACE = float(sys.argv.pop(1)); \
from prefdata.cli import main; main()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"Question {i}"}) for i in range(N)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def start(
    folder: Path,
    server: Any,
    data: str,
    grace: float = 10,
    before: Callable[[], object] | None = None,
) -> "subprocess.Popen[str]":
    command = ["build", "recipe.toml", "--plain", "--json", "--data", data]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(grace), *command],
        cwd=folder,
        env={**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )


def until(server: Any, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(server.requests) < n:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kept(folder: Path, data: str) -> int:
    return sum(path.read_text().count("\n") for path in (folder / data).rglob("*.jsonl"))


def test_what_is_in_flight_is_finished_and_nothing_is_asked_twice(server: Any, folder: Path):
    server.latency = 0.2
    process = start(folder, server, "data")
    until(server, 3 * IN_FLIGHT)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    sent = len(server.requests)
    assert sent <= 5 * IN_FLIGHT, "nothing more is sent"
    said = json.loads(out.splitlines()[-1])
    assert said["kind"] == "Interrupted"
    assert f"{sent} requests were answered" in said["error"]
    assert said["error"].endswith("prefdata build recipe.toml --plain --json --data data")
    assert re.search(r"stopping: .* in flight", err)
    counts = {"asked": sent, "cached": 0, "failed": 0, "unsent": 4 * N - sent}
    assert said["requests"] == counts, "what was not sent did not fail"
    assert kept(folder, "data") == sent
    assert not (folder / "data" / "versions").exists()
    server.latency = 0.0
    resumed = start(folder, server, "data")
    built = json.loads(resumed.communicate(timeout=60)[0])
    assert built["requests"] == {"asked": 4 * N - sent, "cached": sent, "failed": 0, "unsent": 0}
    assert set(server.seen().values()) == {1}
    undisturbed = start(folder, server, "whole")
    assert json.loads(undisturbed.communicate(timeout=60)[0])["id"] == built["id"]


def test_sigterm_is_as_the_first_ctrl_c_however_often_it_comes(server: Any, folder: Path):
    """Also where Ctrl-C is ignored, as in what a shell runs in the background."""
    server.latency = 0.2
    process = start(folder, server, "data", before=ignore_ctrl_c)
    until(server, 2 * IN_FLIGHT)
    for _ in range(20):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    sent = len(server.requests)
    assert sent <= 4 * IN_FLIGHT, "nothing more is sent"
    said = json.loads(out)
    assert said["requests"] == {"asked": sent, "cached": 0, "failed": 0, "unsent": 4 * N - sent}
    assert said["error"].endswith("prefdata build recipe.toml --plain --json --data data")
    assert kept(folder, "data") == sent


def test_sigterm_gives_up_in_time_what_does_not_answer(server: Any, folder: Path):
    server.fault("stall", match="Question 3")
    process = start(folder, server, "data", grace=0.5, before=ignore_ctrl_c)
    until(server, 4 * 3 + 4)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["kind"] == "Interrupted"


def ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_what_does_not_answer_is_given_up_in_time(server: Any, folder: Path):
    server.fault("stall", match="Question 3")
    process = start(folder, server, "data", grace=1)
    until(server, 4 * 3 + 4)  # all before it, and some that stall
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    before = time.monotonic()
    out, _ = process.communicate(timeout=30)
    assert time.monotonic() - before < 10
    assert process.returncode == 130
    answered = sum(each["said"] == "ok" for each in server.requests)
    said = json.loads(out)
    assert f"{answered} requests were answered" in said["error"]
    assert kept(folder, "data") == answered
    asked, failed, unsent = (said["requests"][name] for name in ("asked", "failed", "unsent"))
    assert asked == len(server.seen()), "those given up were asked, and got no answer"
    assert (failed, unsent) == (asked - answered, 4 * N - asked)


def test_the_second_ends_at_once(server: Any, folder: Path):
    server.fault("stall", match="Question 3")
    process = start(folder, server, "data", grace=300)
    until(server, 4 * 3 + 4)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    before = time.monotonic()
    out, _ = process.communicate(timeout=30)
    assert time.monotonic() - before < 5
    assert process.returncode == 130
    assert "ended at once" in json.loads(out)["error"]
    assert kept(folder, "data") == sum(each["said"] == "ok" for each in server.requests)


class Computing:
    """An engine that never gives the control back and does not look at `close`."""

    def __init__(self, *_: object) -> None:
        self.is_asked = threading.Event()

    def answer(self, requests: Requests) -> Iterator[Responses]:
        self.is_asked.set()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.01)
        yield from ()

    def close(self) -> None:
        return None


@pytest.mark.parametrize("number", BOTH)
def test_an_engine_that_does_not_stop_is_interrupted(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engine = Computing()
    monkeypatch.setattr(clients, "open_client", lambda *_: engine)
    spec = ModelSpec(client="vllm", model="m")
    seen: list[Event] = []

    def interrupt() -> None:
        engine.is_asked.wait(20)
        os.kill(os.getpid(), number)

    before = [signal.getsignal(each) for each in BOTH]
    threading.Thread(target=interrupt, daemon=True).start()
    asked = ask(spec, ["a", "b"])
    with Ledger(tmp_path) as ledger, Edge({"m": spec}, ledger) as edge:
        since = time.monotonic()
        with pytest.raises(KeyboardInterrupt), graceful(edge.clients, seen.append, grace=0.2):
            edge(asked)
        assert time.monotonic() - since < 20
    assert seen == [Stopping(2, 0.2)]
    assert [signal.getsignal(each) for each in BOTH] == before


@pytest.mark.parametrize("number", BOTH)
def test_where_nothing_is_asked_it_is_an_exception_at_once(number: signal.Signals, tmp_path: Path):
    with Ledger(tmp_path) as ledger, Edge({}, ledger) as edge:
        with pytest.raises(KeyboardInterrupt), graceful(edge.clients, lambda _: None):
            signal.raise_signal(number)
        assert not edge.clients.is_stopping


def test_sigterm_is_an_exception_that_another_does_not_disturb():
    before, heard = signal.getsignal(signal.SIGTERM), 0
    with terminable():
        for _ in range(2):
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                signal.raise_signal(signal.SIGTERM)
                heard += 1
    assert heard == 2
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_program_that_handles_sigterm_itself_goes_on_doing_so(handler: Any, tmp_path: Path):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with (
            Ledger(tmp_path) as ledger,
            Edge({}, ledger) as edge,
            terminable(),
            graceful(edge.clients, lambda _: None),
        ):
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_forked_ends_by_sigterm(tmp_path: Path):
    with Ledger(tmp_path) as ledger, Edge({}, ledger) as edge, terminable():
        for heeding in (nullcontext(), graceful(edge.clients, lambda _: None)):
            with heeding:
                child = os.fork()
                if not child:
                    signal.raise_signal(signal.SIGTERM)
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_a_thread_that_is_not_the_main_one_changes_no_handler(tmp_path: Path):
    before, seen = signal.getsignal(signal.SIGINT), []

    def look() -> None:
        with (
            Ledger(tmp_path) as ledger,
            Edge({}, ledger) as edge,
            graceful(edge.clients, lambda _: None),
        ):
            seen.append(signal.getsignal(signal.SIGINT))

    call: Callable[[], None] = look
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert seen == [before]


class Terminated(BaseException):
    """What another program raises on a signal, as Prefect does."""


def test_what_is_in_flight_is_kept_where_another_ends_the_build_by_its_exception(
    server: Any, tmp_path: Path
):
    server.latency = 0.5
    spec = ModelSpec(
        client="openai", model="repeatable", base_url=server.url, concurrency=IN_FLIGHT
    )
    asked = ask(spec, [f"Question {i}" for i in range(4 * IN_FLIGHT)])
    seen: list[Event] = []

    def terminated(*_: Any) -> None:
        raise Terminated

    def stopped() -> None:
        with pytest.raises(ModelError, match="was stopped"):
            edge(asked)

    def signals() -> None:
        until(server, IN_FLIGHT)
        for _ in range(5):  # some send it again
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.02)

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        with Ledger(tmp_path) as ledger, Edge({"m": spec}, ledger) as edge:
            asking = threading.Thread(target=stopped)
            asking.start()
            threading.Thread(target=signals).start()
            with pytest.raises(Terminated), graceful(edge.clients, seen.append):
                asking.join()
            assert ledger.count(asked["request_id"]) == len(server.requests) == IN_FLIGHT
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [type(each) for each in seen] == [Stopping]
