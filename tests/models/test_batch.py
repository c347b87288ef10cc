"""Whatever becomes of a batch, each of its rows is answered once or has its reason."""

import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from prefdata.errors import ModelError
from prefdata.models import batch_lines
from prefdata.models.account import Progress
from prefdata.models.clients import Clients
from prefdata.models.edge import Edge
from prefdata.models.journal import Entry, Journal, read
from prefdata.models.ledger import Ledger
from prefdata.models.purse import Purse
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests
from tests.models.conftest import VERDICT, ask

SpecOf = Callable[..., ModelSpec]
TEXTS = [f"Question {i};" for i in range(30)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.models.lane.FIRST_WAIT", 0.01)
    monkeypatch.setattr("prefdata.models.provider.FIRST_POLL", 0.01)
    monkeypatch.setattr("prefdata.models.batch.FIRST_QUEUE", 0.05)
    monkeypatch.setattr("prefdata.models.batch.HEARTBEAT", 0.05)


@pytest.fixture
def batch_of(spec_of: SpecOf) -> SpecOf:
    return lambda **how: spec_of(mode="batch", **how)


def asked(spec: ModelSpec, requests: Requests, ledger: Ledger, **how: Any) -> pl.DataFrame:
    with Edge({"m": spec}, ledger, **how) as edge:
        said = edge(requests)
    assert said["request_id"].to_list() == requests["request_id"].to_list()
    return said


def left_behind(ledger: Ledger) -> list[Path]:
    return list((ledger.folder / "batches").iterdir())


def test_a_batch_gives_what_single_requests_give(
    server: Any, spec_of: SpecOf, batch_of: SpecOf, ledger: Ledger, tmp_path: Path
):
    """All that a request may want: seeds of draws, structured output, choices, vectors."""
    live, batch = (of(temperature=0.3, seed=5) for of in (spec_of, batch_of))
    wants: list[dict[str, Any]] = [
        {"draw": pl.Series([0, 1, 2])},
        {"options": {"schema": VERDICT}},
        {"want": "choice", "options": {"choices": ["A", "B"]}},
        {"want": "embedding"},
    ]
    table = Requests(pl.concat([ask(live, TEXTS[:3], **how) for how in wants]))
    said = asked(batch, table, ledger)
    bodies = [each["body"] for each in server.requests]
    server.reset()
    with Ledger(tmp_path / "other") as other:
        assert said.equals(asked(live, table, other))
    assert said["error"].null_count() == table.height
    order = lambda body: json.dumps(body, sort_keys=True)  # noqa: E731
    alone = [each["body"] for each in server.requests]
    assert sorted(bodies, key=order) == sorted(alone, key=order)
    assert server.batches.created == 2, "chat and embeddings are two addresses"
    assert asked(live, table, ledger).equals(said), "it is the same ledger"
    assert not left_behind(ledger)


def test_a_table_is_cut_at_the_bounds_of_a_file(
    server: Any, batch_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    spec = batch_of(batch_size=12)
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    sizes = [each["request_counts"]["total"] for each in server.batches.batches.values()]
    assert sorted(sizes) == [6, 12, 12]
    monkeypatch.setattr(batch_lines, "MOST_BYTES", 2000)
    rows = ask(spec, TEXTS).to_dicts()
    parts = list(batch_lines.cut(rows, "m", 50_000))
    assert [row for part in parts for row in part] == rows
    bytes_of = [sum(len(batch_lines.line(row, "m")) for row in part) for part in parts]
    assert all(1800 < n_bytes <= 2000 for n_bytes in bytes_of[:-1])


def test_what_was_answered_is_kept_and_the_rest_asked_again(
    server: Any, batch_of: SpecOf, ledger: Ledger
):
    spec = batch_of()
    for kind, text in (("500", "Question 3;"), ("429", "Question 4;"), ("missing", "Question 5;")):
        server.fault(kind, match=text, times=1)
    server.fault("half a line", match="Question 6;", times=1)
    server.fault("unknown id", match="Question 7;", times=1)
    server.fault("empty", match="Question 8;", times=1)
    server.fault("last first", match="Question 9;", times=1)
    server.fault("twice", match="Question 10;", times=1)
    table = ask(spec, TEXTS)
    said = asked(spec, table, ledger)
    assert said["error"].null_count() == 30
    again = {text: n for text, n in server.asked().items() if n > 1}
    assert again == {f"Question {i};": 2 for i in range(3, 9)}
    assert server.batches.created == 2
    assert ledger.find(table["request_id"]).sort("request_id").equals(said.sort("request_id"))
    assert said["text"].n_unique() == 30


LASTING = {
    "500": ("server error 500", 3),
    "429": ("rate limited (429)", 3),
    "400": ("bad request (400): told to answer 400", 1),
    "404": ("bad request (404): told to answer 404", 1),
    "missing": ("batch gave no result", 3),
    "half a line": ("batch gave no result", 3),
    "empty": ("empty reply", 3),
    "filter": ("content filter", 1),
    "refusal": ("refused", 1),
}


@pytest.mark.parametrize("kind", LASTING)
def test_what_never_succeeds_is_its_rows_reason(
    kind: str, server: Any, batch_of: SpecOf, ledger: Ledger
):
    """One bad prompt costs one row, at most `retries` batches more, and nobody else anything."""
    reason, times = LASTING[kind]
    spec = batch_of(retries=2)
    server.fault(kind, match="Question 3;")
    said = asked(spec, ask(spec, TEXTS[:8]), ledger)
    assert said["error"].drop_nulls().to_list() == [reason]
    assert server.asked()["Question 3;"] == times
    assert sum(server.asked().values()) == 7 + times
    assert not left_behind(ledger)


@pytest.mark.parametrize("kind", ["batch expired", "batch failed", "batch gone", "no file"])
def test_a_batch_that_comes_to_nothing_is_made_again(
    kind: str, server: Any, batch_of: SpecOf, ledger: Ledger
):
    spec = batch_of()
    server.fault(kind, match="Question 0;", times=1)
    said = asked(spec, ask(spec, TEXTS), ledger)
    assert said["error"].null_count() == 30
    assert server.batches.created == 2
    kept = {"batch expired": 15}.get(kind, 0)
    if kind in ("batch expired", "batch failed"):
        assert len(server.requests) == 30, "what an expired batch has done is not asked again"
        last = server.batches.batches["batch_0002"]
        assert last["request_counts"]["total"] == 30 - kept


def test_a_cancelled_batch_is_not_asked_again_behind_ones_back(
    server: Any, batch_of: SpecOf, ledger: Ledger
):
    spec = batch_of()
    server.fault("batch cancelled", match="Question 0;")
    said = asked(spec, ask(spec, TEXTS), ledger)
    assert said["error"].drop_nulls().to_list() == ["batch cancelled"] * 15
    assert server.batches.created == 1
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    assert len(server.requests) == 30


def test_a_line_that_is_refused_beforehand_costs_only_itself(
    server: Any, batch_of: SpecOf, ledger: Ledger
):
    spec = batch_of()
    said = asked(spec, ask(spec, [*TEXTS, "bad line"]), ledger)
    assert said["error"].drop_nulls().to_list() == ["bad request (batch): not understood"]
    assert said["error"][-1] is not None
    assert len(server.requests) == 30


def test_a_full_queue_is_waited_for_and_what_never_fits_is_parted(
    server: Any, batch_of: SpecOf, ledger: Ledger
):
    spec = batch_of(batch_size=20, retries=1)
    server.batches.queue = 8
    said = asked(spec, ask(spec, TEXTS), ledger)
    assert said["error"].null_count() == 30
    assert set(server.seen().values()) == {1}
    server.batches.queue = 0
    said = asked(spec, ask(spec, ["never"]), ledger)
    assert said["error"].to_list() == ["batch queue is full: Enqueued limit reached"]


@pytest.mark.parametrize("kind", ["429", "500", "cut", "lost", "malformed"])
@pytest.mark.parametrize("what", ["POST /v1/files", "POST /v1/batches", "GET /v1"])
def test_a_fault_of_the_provider_is_outlived_and_nothing_is_paid_twice(
    kind: str, what: str, server: Any, batch_of: SpecOf, ledger: Ledger
):
    """Above all where a batch was made and nobody heard of it."""
    spec = batch_of()
    server.fault(kind, match=what, share=0.5, anew=True)
    server.fault(kind, match=what, times=1)
    said = asked(batch_of(retries=12), ask(spec, TEXTS), ledger)
    assert said["error"].null_count() == 30
    assert server.batches.created == 1
    assert set(server.seen().values()) == {1}


@pytest.mark.parametrize("what", ["POST /v1/files", "POST /v1/batches"])
def test_a_provider_that_takes_no_batches_is_complained_of(
    what: str, server: Any, batch_of: SpecOf, ledger: Ledger
):
    spec = batch_of(retries=1)
    for kind in ("500", "401", "400"):
        server.reset()
        server.fault(kind, match=what)
        with pytest.raises(ModelError, match=kind):
            asked(spec, ask(spec, TEXTS), ledger)
        assert not server.requests
    server.reset()
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    assert server.batches.created == 1
    assert not left_behind(ledger)


def test_a_wait_that_is_given_up_leaves_the_batch_running(
    server: Any, batch_of: SpecOf, ledger: Ledger, caplog: pytest.LogCaptureFixture
):
    server.batches.seconds = 0.6
    spec = batch_of()
    with Edge({"m": spec}, ledger) as edge:
        client = edge.clients.of("m")
        waiting = client.answer(ask(spec, TEXTS))
        while not edge.clients.health() or "progress" not in edge.clients.health()[0].state:
            assert next(waiting).is_empty(), "signs of life"
        (shown,) = edge.clients.health()
        assert shown.bound == 30
        assert shown.answered + shown.failed + shown.in_flight == 30
        waiting.close()
    assert "build again" in caplog.text or "same build" in caplog.text
    assert len(left_behind(ledger)) == 1
    said = asked(spec, ask(spec, TEXTS), ledger)
    assert said["error"].null_count() == 30
    assert server.batches.created == 1
    assert not left_behind(ledger)


def test_a_wait_is_watched_and_a_provider_waited_for_as_it_asks(
    server: Any, batch_of: SpecOf, ledger: Ledger
):
    server.batches.seconds = 0.6
    server.fault("429", match="POST /v1/files", times=1, retry_after=0.4)
    shown: list[Progress] = []
    spec = batch_of()
    began = time.monotonic()
    asked(spec, ask(spec, TEXTS), ledger, watch=shown.append)
    assert time.monotonic() - began >= 1.0
    waiting = [each for each in shown if each.done == 0]
    assert len(waiting) > 2, "whoever watches sees that it lives"
    assert (shown[-1].done, shown[-1].total, shown[-1].asked) == (30, 30, 30)


def test_closing_ends_a_wait_in_another_thread(server: Any, batch_of: SpecOf, ledger: Ledger):
    server.batches.seconds = 60.0
    spec = batch_of()
    ended: list[BaseException] = []

    def wait_for_it(edge: Edge) -> None:
        try:
            edge(ask(spec, TEXTS))
        except ModelError as error:
            ended.append(error)

    with Edge({"m": spec}, ledger) as edge:
        waiting = threading.Thread(target=wait_for_it, args=(edge,), daemon=True)
        waiting.start()
        until = time.monotonic() + 20
        while not server.batches.created and time.monotonic() < until:
            time.sleep(0.01)
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(ended) == 1


def test_another_models_failure_costs_its_own_rows_and_not_the_batch(
    server: Any, spec_of: SpecOf, batch_of: SpecOf, ledger: Ledger
):
    server.batches.seconds = 0.3
    server.fault("401", match="forbidden")
    batch, live = batch_of(), spec_of(temperature=0.5)
    both = [ask(batch, TEXTS, role="batch"), ask(live, ["forbidden"], role="live")]
    table = Requests(pl.concat(both))
    with Edge({"batch": batch, "live": live}, ledger) as edge:
        said = edge(table)
    assert said["error"].null_count() == len(TEXTS)
    assert "401" in said["error"][-1]
    assert ledger.find([table["request_id"][-1]]).is_empty(), "the next build asks it again"


def test_answers_that_nobody_wants_any_more_are_kept_all_the_same(
    server: Any, batch_of: SpecOf, ledger: Ledger
):
    server.batches.seconds = 0.3
    spec = batch_of()
    table = ask(spec, TEXTS)
    with Edge({"m": spec}, ledger) as edge:
        waiting = edge.clients.of("m").answer(table)
        while not edge.clients.health():
            next(waiting)
        waiting.close()
    fewer = Requests(table.head(10))
    assert asked(spec, fewer, ledger)["error"].null_count() == 10
    assert server.batches.created == 1
    with Edge({"m": spec}, ledger) as edge:
        assert edge(table)["error"].null_count() == 30
        assert edge.counts.cached == 30
    assert len(server.requests) == 30
    line = ledger.request(table["request_id"][20])
    assert line is not None
    assert line["request"]["model"] == "repeatable", "as if it had been taken in the usual way"


def test_calls_and_processes_share_a_batch(server: Any, batch_of: SpecOf, ledger: Ledger):
    """Two that want the same at once make one batch; the other waits for what it brings."""
    server.batches.seconds = 0.3
    spec = batch_of()
    table = ask(spec, TEXTS)
    said: list[pl.DataFrame] = []
    with Ledger(ledger.folder) as other:
        edges = [Edge({"m": spec}, each) for each in (ledger, other)]
        threads: list[threading.Thread] = []
        for edge in edges:
            ask_it = threading.Thread(target=lambda e=edge: said.append(e(table)))
            threads.append(ask_it)
            ask_it.start()
            until = time.monotonic() + 10
            while not server.batches.created and time.monotonic() < until:
                time.sleep(0.01)
        for thread in threads:
            thread.join(20)
        for edge in edges:
            edge.close()
    assert len(said) == 2
    assert said[0].equals(said[1])
    assert server.batches.created == 1
    assert not left_behind(ledger)


def at_once(ledger: Ledger, spec: ModelSpec, table: Requests) -> list[pl.DataFrame]:
    """What two builds say that are started at the same moment."""
    said: list[pl.DataFrame] = []
    with Ledger(ledger.folder) as other:
        edges = [Edge({"m": spec}, each) for each in (ledger, other)]
        threads = [threading.Thread(target=lambda e=e: said.append(e(table))) for e in edges]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for edge in edges:
            edge.close()
    assert [each["error"].null_count() for each in said] == [table.height] * 2
    return said


def test_two_that_look_at_the_same_moment_hand_over_once(
    server: Any, batch_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """Each waits, as long as it may, for the other to have seen that nothing is under way."""
    looking, entries = threading.Barrier(2, timeout=0.3), Journal.entries

    def together(journal: Journal) -> Any:
        found = entries(journal)
        with contextlib.suppress(threading.BrokenBarrierError):
            looking.wait()
        return found

    monkeypatch.setattr(Journal, "entries", together)
    spec = batch_of(batch_size=20)
    one, other = at_once(ledger, spec, ask(spec, TEXTS))
    assert one.equals(other)
    assert server.batches.created == 2
    assert set(server.seen().values()) == {1}
    assert not left_behind(ledger)


def test_what_is_asked_again_is_handed_over_once(
    server: Any, batch_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """While one has taken what a batch brought, another looks what is left to be asked."""
    server.fault("batch expired", match="Question 0;", times=1)
    drop = Entry.drop

    def slowly(entry: Entry) -> None:
        drop(entry)
        time.sleep(0.3)

    monkeypatch.setattr(Entry, "drop", slowly)
    spec = batch_of()
    at_once(ledger, spec, ask(spec, TEXTS))
    assert server.batches.created == 2
    assert set(server.seen().values()) == {1}
    assert not left_behind(ledger)


@pytest.mark.parametrize("step", [1, -1])
def test_a_kill_between_a_batch_and_the_one_that_asks_again_pays_nothing_twice(
    step: int, server: Any, batch_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """The same requests stand in two entries then, of which either may be looked at first."""
    server.fault("batch expired", match="Question 0;", times=1)
    drop, random, keys = Entry.drop, os.urandom, itertools.count(100, step)

    def killed(_: Entry) -> None:
        raise ModelError("killed here")

    monkeypatch.setattr(os, "urandom", lambda n: bytes([next(keys)]) * n if n == 12 else random(n))
    monkeypatch.setattr(Entry, "drop", killed)
    spec = batch_of()
    table = ask(spec, TEXTS)
    with pytest.raises(ModelError, match="killed here"):
        asked(spec, table, ledger)
    assert len(left_behind(ledger)) == 2
    monkeypatch.setattr(Entry, "drop", drop)
    assert asked(spec, table, ledger)["error"].null_count() == 30
    assert server.batches.created == 2
    assert set(server.seen().values()) == {1}
    assert not left_behind(ledger)


@pytest.mark.parametrize("fresh", [False, True])
def test_what_another_build_has_brought_meanwhile_is_found_and_not_paid(
    fresh: bool, server: Any, batch_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """All of another build happens between the look at the ledger and that at the journal."""
    spec = batch_of()
    table = ask(spec, TEXTS)
    answers = Clients.answers

    def later(*arguments: Any) -> Any:
        monkeypatch.setattr(Clients, "answers", answers)
        with Ledger(ledger.folder) as other:
            asked(spec, table, other)
        return answers(*arguments)

    monkeypatch.setattr(Clients, "answers", later)
    with Edge({"m": spec}, ledger, fresh=fresh) as edge:
        said = edge(table)
        assert (edge.counts.asked, edge.counts.cached) == ((30, 0) if fresh else (0, 30))
    assert said["error"].null_count() == 30
    assert server.batches.created == 1 + fresh


def test_an_endpoint_that_may_have_taken_a_batch_has_no_stand_in(
    another: Callable[..., Any], batch_of: SpecOf, ledger: Ledger
):
    servers = [another(), another()]
    spec = batch_of(base_url=[each.url for each in servers], retries=1)
    servers[0].fault("lost", match="POST /v1/batches", times=1)
    servers[0].fault("cut", match="GET /v1/batches")
    servers[0].fault("cut", match="POST /v1/batches")
    with pytest.raises(ModelError, match="is remembered"):
        asked(spec, ask(spec, TEXTS), ledger)
    assert [each.batches.created for each in servers] == [1, 0]
    servers[0].reset()
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    assert [each.batches.created for each in servers] == [1, 0]
    assert not left_behind(ledger)


@pytest.mark.parametrize("ahead", [-10, 0, 10])
def test_another_hosts_clock_keeps_nobody_waiting(ahead: int, batch_of: SpecOf, tmp_path: Path):
    """Whether it hands a batch over right now is told by the file system's clock."""
    entry = Journal(tmp_path).begin(
        "http://x/v1", "/v1/chat/completions", ask(batch_of(), ["x"]), 0
    )
    assert not entry.may_be_handed_over_elsewhere, "it is ours, and its lock is seen"
    entry.begun_on = "elsewhere"
    entry.begun += ahead * 86_400_000
    assert entry.may_be_handed_over_elsewhere
    hours_ago = entry.path.stat().st_mtime - 2 * 3600
    os.utime(entry.path, (hours_ago, hours_ago))
    assert not entry.may_be_handed_over_elsewhere
    entry.drop()
    assert not entry.may_be_handed_over_elsewhere


def test_endpoints_take_turns_and_stand_in_for_each_other(
    another: Callable[..., Any], batch_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FIRST_KEY", "first-of-two-keys")
    monkeypatch.setenv("SECOND_KEY", "second-of-two-keys")
    servers = [another(key="first-of-two-keys"), another(key="second-of-two-keys")]
    keys, urls = ["FIRST_KEY", "SECOND_KEY"], [each.url for each in servers]
    spec = batch_of(base_url=urls, api_key_env=keys, batch_size=10)
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    assert sorted(each.batches.created for each in servers) == [1, 2]
    servers[0].key = "changed"
    texts = [f"More {i}" for i in range(30)]
    assert asked(spec, ask(spec, texts), ledger)["error"].null_count() == 30
    assert sum(each.batches.created for each in servers) == 6


def test_what_the_protocol_cannot_say_is_refused(server: Any, batch_of: SpecOf, ledger: Ledger):
    spec = batch_of()
    with pytest.raises(ModelError, match="'hidden'"):
        asked(spec, ask(spec, ["x"], want="hidden"), ledger)
    assert not server.operations


def test_a_discount_is_in_the_cost(server: Any, batch_of: SpecOf, ledger: Ledger):
    spec = batch_of(price_in=1.0, price_out=2.0, max_tokens=99, batch_discount=0.5)
    with Edge({"m": spec}, ledger, purse=Purse(budget=1.0)) as edge:
        edge(ask(spec, TEXTS))
        full = (edge.counts.tokens_in + 2 * edge.counts.tokens_out) / 1e6
        assert edge.counts.cost == pytest.approx(full / 2)


def test_a_batch_is_for_the_protocol_only():
    with pytest.raises(ValidationError, match="'openai'"):
        ModelSpec(client="scripted", mode="batch")


def test_mode_leaves_ids_as_they_are_and_clients_apart(spec_of: SpecOf, batch_of: SpecOf):
    assert ask(spec_of(), ["x"]).equals(ask(batch_of(batch_discount=0.5), ["x"]))
    assert spec_of().served() != batch_of().served()


def test_an_entry_is_whole_or_known_to_be_damaged(batch_of: SpecOf, tmp_path: Path):
    table = ask(batch_of(), ["one\n two\u2028", '{"batch": "x"}'], options={"schema": VERDICT})
    entry = Journal(tmp_path).begin("http://x/v1", "/v1/chat/completions", table, 3)
    entry.note(file="file-1")
    whole = entry.path.read_bytes()
    again = read(entry.path)
    assert again.requests.equals(table)
    assert (again.round, again.batch) == (3, "")
    assert not again.lock(), "whoever began it still looks after it"
    entry.release()
    assert again.lock()
    os.write(again.held or -1, b'{"batch": "ba')  # the machine went down here
    again.release()
    torn = read(entry.path)
    assert torn.lock()
    torn.note(batch="batch_7")
    after = read(entry.path)
    assert (after.batch, after.requests.equals(table)) == ("batch_7", True)
    for cut in range(0, len(whole), 7):
        entry.path.write_bytes(whole[:cut])
        assert (found := read(entry.path)).is_damaged or found.requests.equals(table), cut
        assert found.key == entry.key
    for at in range(0, len(whole), 5):
        entry.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = read(entry.path)
        same = (found.url, found.where, found.round, found.begun_on, found.begun) == (
            *(entry.url, entry.where, entry.round, entry.begun_on, entry.begun),
        )
        assert found.is_damaged or (same and found.requests.equals(table)), at
        assert found.key == entry.key


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a letter": lambda whole: whole.replace(b"Question 7;", b"Question 8;", 1),
    "the head": lambda whole: bytes(20) + whole[20:],
    "a line": lambda whole: whole.replace(b'"messages"', b"#messages#", 1),
    "cut": lambda whole: whole[: len(whole) // 2],
    "all": lambda whole: bytes(len(whole)),
    "nothing left": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_batch_whose_entry_was_damaged_is_found_by_its_key(
    damage: str, server: Any, batch_of: SpecOf, ledger: Ledger
):
    server.batches.seconds = 0.6
    spec = batch_of()
    table = ask(spec, TEXTS)
    with Edge({"m": spec}, ledger) as edge:
        waiting = edge.clients.of("m").answer(table)
        while not edge.clients.health():
            next(waiting)
        waiting.close()
    (path,) = left_behind(ledger)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert asked(spec, ask(spec, ["of another"]), ledger)["error"].null_count() == 1
    assert path.exists(), "it is kept for whoever wants what it brings"
    assert asked(spec, table, ledger)["error"].null_count() == 30
    assert server.batches.created == 2
    assert set(server.seen().values()) == {1}
    assert not left_behind(ledger)


def test_a_damaged_entry_of_which_nobody_knows_is_told_and_kept(
    server: Any, batch_of: SpecOf, ledger: Ledger, caplog: pytest.LogCaptureFixture
):
    spec = batch_of()
    folder = ledger.folder / "batches"
    folder.mkdir(parents=True)
    (folder / "0123456789abcdef01234567.jsonl").write_bytes(b"what was this?")
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    (told,) = [each for each in caplog.messages if "was damaged" in each]
    assert "0123456789abcdef01234567.jsonl" in told
    assert server.url in told
    assert len(left_behind(ledger)) == 1


ASKING = """
import sys
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from tests.models.conftest import ask
url, folder = sys.argv[1:]
spec = ModelSpec(client="openai", model="repeatable", base_url=url, mode="batch", batch_size=40)
requests = ask(spec, [f"Question {i}" for i in range(200)])
with Edge({"m": spec}, Ledger(folder)) as edge:
    print(edge(requests)["error"].null_count(), flush=True)
"""


def asking(url: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", ASKING, url, str(folder)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("operation", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/"])
def test_a_killed_process_pays_nothing_twice(operation: str, server: Any, tmp_path: Path):
    """Killed at an operation of the provider's, when all is done on its side and not on ours."""
    server.batches.seconds = 0.5
    for kill in range(2):
        before = sum(each.startswith(operation) for each in server.operations)
        process = asking(server.url, tmp_path)
        until = time.monotonic() + 30
        while time.monotonic() < until and process.poll() is None:
            if sum(e.startswith(operation) for e in server.operations) > before + kill:
                break
            time.sleep(0.002)
        process.kill()
        process.communicate()
    process = asking(server.url, tmp_path)
    assert process.communicate(timeout=60)[0] == "200\n"
    assert set(server.seen().values()) == {1}
    assert len(server.seen()) == 200
    assert server.batches.created == 5
    assert not list((tmp_path / "batches").iterdir())


@pytest.mark.slow
def test_processes_at_once_hand_each_request_over_once(server: Any, tmp_path: Path):
    """Three builds that are started at the same moment, of which one is killed."""
    server.batches.seconds = 1.0
    started = [asking(server.url, tmp_path) for _ in range(3)]
    until = time.monotonic() + 60
    while not server.batches.created and time.monotonic() < until:
        time.sleep(0.002)
    started[0].kill()
    said = [each.communicate(timeout=60)[0] for each in started]
    assert said[1:] == ["200\n"] * 2
    assert set(server.seen().values()) == {1}
    assert server.batches.created == 5
    assert not list((tmp_path / "batches").glob("*.jsonl"))


def test_ctrl_c_says_how_to_go_on(server: Any, tmp_path: Path):
    server.batches.seconds = 60.0
    process = asking(server.url, tmp_path)
    until = time.monotonic() + 30
    while server.batches.created < 5 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert err.count("the same build again takes its answers") == 5
    assert all(each["status"] == "in_progress" for each in server.batches.batches.values())
    for each in server.batches.batches.values():
        each["until"] = 0.0
    assert asking(server.url, tmp_path).communicate(timeout=60)[0] == "200\n"
    assert server.batches.created == 5


def test_a_list_is_searched_page_by_page(
    server: Any, batch_of: SpecOf, ledger: Ledger, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    spec = batch_of(batch_size=1)
    asked(spec, ask(spec, [f"Earlier {i}" for i in range(130)]), ledger)
    spec = batch_of()
    table = ask(spec, TEXTS)
    entry = Journal(ledger.folder).begin(f"{server.url}", "/v1/chat/completions", table, 0)
    made = {
        "id": "batch_old",
        "endpoint": entry.where,
        "status": "in_progress",
        "until": 0.0,
        "looked": 0,
    }
    made |= {"metadata": {"prefdata": entry.key}, "created_at": time.time(), "errors": None}
    body = b"".join(batch_lines.line(row, "repeatable") for row in table.to_dicts())
    server.batches.files["file-old"] = body
    counts = {"total": 0, "completed": 0, "failed": 0}
    made |= {"input_file_id": "file-old", "request_counts": counts}
    made |= {"output_file_id": None, "error_file_id": None}
    server.batches.batches = {"batch_old": made, **server.batches.batches}
    entry.release()
    before = server.batches.created
    assert asked(spec, table, ledger)["error"].null_count() == 30
    assert server.batches.created == before
    assert not caplog.records
