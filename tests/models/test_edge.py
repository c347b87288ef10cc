"""The edge asks once, keeps everything, counts rightly and stops at its budget."""

import json
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

from prefdata import tables
from prefdata.errors import BudgetError, ModelError
from prefdata.models.account import Counts, Progress
from prefdata.models.claims import Claims
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.purse import BUDGET_REACHED, REQUESTS_REACHED, Purse
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests
from tests.models.conftest import ask

SpecOf = Callable[..., ModelSpec]
TEXTS = [f"Question {i}" for i in range(30)]


def test_what_was_answered_is_not_asked_again(server: Any, spec_of: SpecOf, ledger: Ledger):
    spec = spec_of()
    with Edge({"m": spec}, ledger) as edge:
        first = edge(ask(spec, TEXTS[:20]))
        more = edge(ask(spec, TEXTS))
        assert edge.counts == Counts(asked=30, cached=20, tokens_in=60, tokens_out=30 * 24)
    with Edge({"m": spec}, ledger) as later:
        assert later(ask(spec, TEXTS)).equals(more)
        assert later.counts == Counts(cached=30)
    assert more.head(20).equals(first)
    assert len(server.requests) == 30


def test_responses_are_a_sound_table_in_the_order_asked(
    server: Any, spec_of: SpecOf, ledger: Ledger
):
    server.scatter = 0.1
    spec = spec_of()
    requests = ask(spec, TEXTS)
    twice = Requests(pl.concat([requests, requests]))
    with Edge({"m": spec}, ledger) as edge:
        said = edge(twice)
        assert said["request_id"].to_list() == requests["request_id"].to_list()
        assert tables.check("responses", said, where="here").height == 30
        assert edge(Requests(requests.clear())).is_empty()


def test_nothing_that_leaves_the_answer_costs_a_request(
    server: Any, spec_of: SpecOf, ledger: Ledger
):
    spec, other = spec_of(), spec_of(concurrency=2, timeout=9, retries=1, price_in=1, price_out=1)
    with Edge({"m": spec}, ledger) as edge:
        edge(ask(spec, TEXTS))
    with Edge({"judge": other}, ledger) as edge:
        edge(ask(other, TEXTS, role="judge"))
        assert edge.counts == Counts(cached=30)


def test_models_are_asked_at_once(server: Any, spec_of: SpecOf, ledger: Ledger):
    server.latency = 0.3
    one, two = spec_of(), spec_of(temperature=0.1, concurrency=15)
    both = pl.concat([ask(one, TEXTS[:4], role="one"), ask(two, TEXTS[:4], role="two")])
    with Edge({"one": one, "two": two}, ledger) as edge:
        assert edge(Requests(both))["error"].null_count() == 8
    times = [each["at"] for each in server.requests]
    assert max(times) - min(times) < 0.3, "the second model did not wait for the first"


def test_what_nobody_answered_is_asked_again_and_a_refusal_is_not(
    server: Any, spec_of: SpecOf, ledger: Ledger
):
    spec = spec_of(retries=0)
    server.fault("500", match="Question 3", times=1)
    server.fault("400", match="Question 4", times=1)
    server.fault("filter", match="Question 5")
    with Edge({"m": spec}, ledger) as edge:
        first = edge(ask(spec, TEXTS[:8]))
        assert edge.counts.failed == first["error"].count() == 3
        second = edge(ask(spec, TEXTS[:8]))
        assert (edge.counts.asked, edge.counts.cached, edge.counts.failed) == (10, 6, 3)
    assert second["error"].drop_nulls().to_list() == ["content filter"]


def test_fresh_asks_each_once_more_and_the_newer_answer_stays(ledger: Ledger):
    spec = ModelSpec(client="scripted")
    requests = ask(spec, TEXTS[:3])
    with Edge({"m": spec}, ledger) as edge:
        old = edge(requests)
    altered = old.with_columns(text=pl.lit("old"))
    time.sleep(0.005)
    ledger.append(requests, altered)
    time.sleep(0.005)
    with Edge({"m": spec}, ledger) as edge:
        assert set(edge(requests)["text"]) == {"old"}
    with Edge({"m": spec}, ledger, fresh=True) as edge:
        assert edge(requests).equals(old)
        assert edge(requests).equals(old)
        assert (edge.counts.asked, edge.counts.cached) == (3, 3)
    with Edge({"m": spec}, Ledger(ledger.folder)) as edge:
        assert edge(requests).equals(old)


def test_the_budget_is_never_exceeded_and_nearly_used(server: Any, spec_of: SpecOf, ledger: Ledger):
    spec = spec_of(price_in=1000.0, price_out=10_000.0, max_tokens=30)
    each = (2 * 1000 + 24 * 10_000) / 1e6
    budget = 20 * each
    with Edge({"m": spec}, ledger, purse=Purse(budget=budget)) as edge:
        said = edge(ask(spec, [f"Question {i}" for i in range(100)]))
        assert edge.counts.cost <= budget
        assert edge.counts.cost == pytest.approx(each * edge.counts.asked)
        assert edge.counts.asked >= 17, "what was reserved and not spent is used"
        assert said["error"].drop_nulls().unique().to_list() == [BUDGET_REACHED]
        assert edge.counts.unsent == 100 - edge.counts.asked == said["error"].count()
        assert edge.counts.failed == 0, "what was not sent did not fail"
        assert edge.limit == BUDGET_REACHED
    with Edge({"m": spec}, ledger, purse=Purse(budget=100 * each)) as richer:
        assert richer(ask(spec, [f"Question {i}" for i in range(100)]))["error"].count() == 0
        assert richer.limit == "", "none was reached"
        assert richer.counts.cached == edge.counts.asked


def test_what_a_server_does_not_count_is_not_free(server: Any, spec_of: SpecOf, ledger: Ledger):
    """Without `usage` in its replies a byte is a token, so a budget still ends the asking."""
    choice = {"index": 0, "message": {"content": "Fine"}, "finish_reason": "stop"}
    server.fault("raw", body=json.dumps({"choices": [choice]}))
    spec = spec_of(price_in=0.0, price_out=1e6, max_tokens=3)
    with Edge({"m": spec}, ledger, purse=Purse(budget=10.0)) as edge:
        said = edge(ask(spec, TEXTS))
    assert edge.counts.cost == 9, "no more than the three tokens that may be written, for each"
    assert len(server.requests) == said["error"].null_count() == 3


@pytest.mark.parametrize("budget", [None, 1e9])
def test_no_more_requests_are_sent_than_may_be(
    server: Any, spec_of: SpecOf, ledger: Ledger, budget: float | None
):
    spec = spec_of(price_in=1.0, price_out=1.0, max_tokens=9, retries=1)
    server.fault("500", match="Question 3", times=1)
    with Edge({"m": spec}, ledger, purse=Purse.of(budget, 12)) as edge:
        first = edge(ask(spec, TEXTS[:8]))
        assert first["error"].null_count() == 8
        second = edge(ask(spec, TEXTS))
        assert (edge.counts.asked, edge.counts.unsent, edge.counts.cached) == (12, 18, 8)
        assert edge(ask(spec, TEXTS[20:]))["error"].null_count() == 0
    assert second["error"].drop_nulls().to_list() == [REQUESTS_REACHED] * 18
    assert len(server.seen()) == 12
    with Edge({"m": spec}, ledger) as later:
        assert later(ask(spec, TEXTS))["error"].null_count() == 30


def test_models_share_a_budget(server: Any, spec_of: SpecOf, ledger: Ledger):
    free = spec_of(price_in=0, price_out=0)
    dear = spec_of(price_in=1000.0, price_out=10_000.0, max_tokens=30, temperature=0.2)
    other = dear.model_copy(update={"concurrency": 3})
    specs = {"free": free, "dear": dear, "other": other}
    asked = pl.concat([ask(spec, TEXTS, role=role) for role, spec in specs.items()])
    with Edge(specs, ledger, purse=Purse(budget=3.0)) as edge:
        said = asked.join(edge(Requests(asked.unique("request_id"))), on="request_id")
        assert edge.counts.cost <= 3.0
    assert said.filter(pl.col("model") == "free")["error"].count() == 0


def test_nothing_is_asked_that_cannot_be_kept(server: Any, spec_of: SpecOf, tmp_path: Path):
    """The folder of the ledger cannot be made: here because its parent is a file."""
    (tmp_path / "data").write_text("")
    edge = Edge({"m": spec_of()}, Ledger(tmp_path / "data" / "ledger"))
    with edge, pytest.raises(ModelError, match=r"cannot be written.*--data"):
        edge(ask(spec_of(), TEXTS))
    assert not server.requests


def test_a_build_without_an_answer_leaves_no_segment(server: Any, spec_of: SpecOf, ledger: Ledger):
    server.fault("401")
    with ledger, Edge({"m": spec_of()}, ledger) as edge, pytest.raises(ModelError):
        edge(ask(spec_of(), TEXTS))
    assert not list(ledger.folder.glob("*.jsonl"))


def test_a_budget_needs_prices(server: Any, spec_of: SpecOf, ledger: Ledger):
    edge = Edge({"m": spec_of()}, ledger, purse=Purse(budget=1.0))
    with pytest.raises(BudgetError, match="price_in"):
        edge(ask(spec_of(), TEXTS))
    assert not server.requests


def test_a_budget_needs_a_bound_of_what_is_written(server: Any, spec_of: SpecOf, ledger: Ledger):
    """A reply of any length could cost any sum: one that thinks for long wrote twice the budget."""
    prices = {"price_in": 1.0, "price_out": 1.0}
    with Edge({"m": (spec := spec_of(**prices))}, ledger) as edge:
        edge(ask(spec, TEXTS[:3]))
    with Edge({"m": spec}, ledger, purse=Purse(budget=1.0)) as edge:
        assert edge(ask(spec, TEXTS[:3]))["error"].null_count() == 3, "what is answered costs none"
        with pytest.raises(BudgetError, match=r"'m' may be of any length.*max_tokens"):
            edge(ask(spec, TEXTS))
    assert len(server.requests) == 3
    bounded = spec_of(**prices, options={"max_completion_tokens": 7})
    for each, how in (
        (bounded, {}),
        (spec_of(**prices | {"price_out": 0.0}), {}),
        (spec, {"want": "embedding"}),
        (spec, {"want": "choice", "options": {"choices": ["A", "B"]}}),
    ):
        with Edge({"m": each}, ledger, purse=Purse(budget=1.0)) as edge:
            assert edge(ask(each, TEXTS[3:6], **how))["error"].null_count() == 3


def test_progress_adds_up(server: Any, spec_of: SpecOf, ledger: Ledger):
    shown: list[Progress] = []
    spec = spec_of(price_in=1.0, price_out=1.0)
    server.latency = 0.05
    with Edge({"m": spec}, ledger, watch=shown.append) as edge:
        edge(ask(spec, TEXTS[:10]))
        edge(ask(spec, TEXTS))
    last = shown[-1]
    assert (last.done, last.total, last.asked, last.cached, last.failed) == (30, 30, 20, 10, 0)
    assert last.cost == pytest.approx((last.tokens_in + last.tokens_out) / 1e6)
    second = [each for each in shown if each.total == 30]
    assert [each.done for each in second] == sorted(each.done for each in second)


def test_an_unusable_model_leaves_the_others_as_they_are(
    server: Any, spec_of: SpecOf, ledger: Ledger
):
    good, bad = spec_of(concurrency=2), spec_of(temperature=0.9)
    server.fault("401", match="forbidden")
    texts = [f"fine {i}" for i in range(20)]
    both = [ask(good, texts, role="good"), ask(bad, ["forbidden", "forbidden too"], role="bad")]
    wanted = Requests(pl.concat(both))
    for cached in (0, 20):  # the second time all that the good one would be asked is known
        with Edge({"good": good, "bad": bad}, ledger) as edge:
            said = edge(wanted).join(wanted, on="request_id").partition_by("model", as_dict=True)
            assert said["good",]["error"].null_count() == 20
            assert said["bad",]["error"].str.contains("401").to_list() == [True, True]
            counts = edge.counts
            assert (counts.cached, counts.asked, counts.failed) == (cached, 22 - cached, 2)
    assert ledger.find(wanted["request_id"]).height == 20, "what failed is asked again"


def test_an_unusable_model_alone_is_an_error(server: Any, spec_of: SpecOf, ledger: Ledger):
    one, two = spec_of(), spec_of(temperature=0.9, concurrency=3)
    server.fault("401")
    both = [ask(one, ["a"], role="one"), ask(two, ["b"], role="two")]
    with (
        Edge({"one": one, "two": two}, ledger) as edge,
        pytest.raises(ModelError, match="401"),
    ):
        edge(Requests(pl.concat(both)))
    with Edge({"one": one}, ledger) as edge, pytest.raises(ModelError, match="401"):
        edge(both[0])


def test_silence_of_one_of_several_models_is_no_end(ledger: Ledger):
    specs = {
        "good": ModelSpec(client="scripted", model="good"),
        "dead": ModelSpec(client="scripted", model="dead", failure_rate=1.0),
        "gone": ModelSpec(client="scripted", model="gone", failure_rate=1.0),
    }
    asked = {role: ask(spec, TEXTS[:5], role=role) for role, spec in specs.items()}
    with Edge(specs, ledger) as edge:
        said = edge(Requests(pl.concat([asked["good"], asked["dead"]])))
        assert said["error"].count() == 5
        with pytest.raises(ModelError, match="answered none of 5"):
            edge(Requests(pl.concat([asked["dead"], asked["gone"]])))


def test_an_unknown_model_is_named(ledger: Ledger):
    spec = ModelSpec(client="scripted")
    edge = Edge({"writer": spec}, ledger)
    with pytest.raises(ModelError, match="did you mean 'writer'"):
        edge(ask(spec, ["x"], role="writter"))


def test_calls_from_threads_ask_nothing_twice(server: Any, spec_of: SpecOf, ledger: Ledger):
    server.latency = 0.05
    spec = spec_of()
    requests = ask(spec, TEXTS)
    with Edge({"m": spec}, ledger) as edge:
        calls = [requests, Requests(requests.reverse()), Requests(requests.sample(20, seed=1))]
        threads = [threading.Thread(target=edge, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert edge.counts.asked == 30
        assert edge.counts.cached == 50
    assert set(server.seen().values()) == {1}


ASKING = """
import sys
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from tests.models.conftest import ask
url, folder, start = sys.argv[1:]
spec = ModelSpec(client="openai", model="repeatable", base_url=url, concurrency=8)
requests = ask(spec, [f"Question {i}" for i in range(int(start), int(start) + 200)])
with Edge({"m": spec}, Ledger(folder)) as edge:
    said = edge(requests)
    print(said["error"].null_count(), flush=True)
"""


def asking(url: str, folder: Path, start: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", ASKING, url, str(folder), str(start)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_costs_only_what_was_in_flight(server: Any, tmp_path: Path):
    server.latency, kills = 0.02, 2
    for kill in range(kills):
        process = asking(server.url, tmp_path)
        while len(server.requests) < 50 * (kill + 1):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.1)
    process = asking(server.url, tmp_path)
    assert process.communicate(timeout=60)[0] == "200\n"
    repeated = sum(count - 1 for count in server.seen().values())
    assert repeated <= kills * 8
    assert len(server.seen()) == 200


def test_processes_share_a_ledger_and_ask_nothing_twice(server: Any, tmp_path: Path):
    """Three builds at once, as when one forgot that another runs: each request is paid once."""
    server.latency = 0.005
    started = [asking(server.url, tmp_path, start) for start in (0, 100, 0)]
    assert [each.communicate(timeout=60)[0] for each in started] == ["200\n"] * 3
    assert len(server.requests) == 300
    assert asking(server.url, tmp_path, 50).communicate(timeout=60)[0] == "200\n"
    assert len(server.requests) == 300
    assert not list((tmp_path / "asking").glob("*.ids"))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_nobody_waits_for_a_process_that_is_gone_or_halted(
    end: signal.Signals,
    server: Any,
    spec_of: SpecOf,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
):
    """What it has answered is taken; the rest is asked, at once or when its claim stands still."""
    monkeypatch.setattr("prefdata.models.claims.STILL", 0.5)
    server.latency = 0.05
    first = asking(server.url, ledger.folder)
    while len(server.requests) < 60:
        time.sleep(0.01)
    os.kill(first.pid, end)
    try:
        before = len(server.requests)
        spec = spec_of()
        with Edge({"m": spec}, ledger) as edge:
            said = edge(ask(spec, [f"Question {i}" for i in range(200)]))
        assert said["error"].null_count() == 200
        assert edge.counts.asked + edge.counts.cached == 200
        assert edge.counts.cached >= before - 2 * 16
    finally:
        first.kill()
        first.communicate()


def test_who_waits_for_another_build_says_so(
    server: Any, spec_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """And nothing of it is left when it asks itself what the other has let go of."""
    monkeypatch.setattr("prefdata.models.claims.EVERY", 0.02)
    spec = spec_of()
    table = ask(spec, TEXTS)
    shown: list[Progress] = []
    waits = threading.Event()

    def watch(progress: Progress) -> None:
        shown.append(progress)
        if progress.awaited:
            waits.set()

    with Edge({"m": spec}, ledger, watch=watch) as edge:
        with Claims(ledger.folder).claimed(table["request_id"][:5].to_list()):
            calling = threading.Thread(target=edge, args=(table,))
            calling.start()
            assert waits.wait(20)
            assert len(server.requests) == len(TEXTS) - 5
        calling.join(20)
    awaited = [each for each in shown if each.awaited]
    assert {each.awaited for each in awaited} == {5}
    assert {each.done for each in awaited} == {len(TEXTS) - 5}
    assert all(f"process {os.getpid()}" in each.by for each in awaited)
    assert (shown[-1].awaited, shown[-1].by, shown[-1].done) == (0, "", len(TEXTS))
    assert len(server.requests) == len(TEXTS)


SLASHED = "sk-planted/with+a/slash-0123456789"
ESCAPED = {
    "slashes": SLASHED.replace("/", "\\/"),
    "code of one": SLASHED.replace("/", "\\u002F", 1),
    "codes of all": "".join(f"\\u{ord(each):04x}" for each in SLASHED),
    "json in it": SLASHED.replace("/", "\\\\/"),
}


@pytest.mark.parametrize("how", ESCAPED)
def test_a_secret_that_comes_back_escaped_is_not_kept(
    how: str, server: Any, spec_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """And all the rest of such a reply is as it was."""
    monkeypatch.setenv("MY_KEY", SLASHED)
    spec = spec_of(api_key_env="MY_KEY", retries=0)
    rest = 'a/b, a\\\\/b, \\u00e9\\ud83d\\ude00, \\ud83d, \\n\\"'
    answer = f'{{"content": "You sent {ESCAPED[how]} with {rest}"}}'
    body = f'{{"choices": [{{"index": 0, "message": {answer}, "finish_reason": "stop"}}]}}'
    server.fault("raw", match="answer", body=body)
    server.fault("raw", match="error", body=f'{{"error": {answer}}}', status=400)
    with Edge({"m": spec}, ledger) as edge:
        said = edge(ask(spec, ["answer", "error", "else"]))
    plain = json.loads(f'"{rest}"').encode(errors="replace").decode()
    assert said["text"][0] == f"You sent *** with {plain}"
    assert "You sent *** with" in said["error"][1]
    written = str(
        [said.to_dicts(), *(path.read_bytes() for path in ledger.folder.rglob("*.jsonl"))]
    )
    assert "slash-0123456789" not in written
    assert ESCAPED[how] not in written


def test_no_secret_is_ever_written(
    server: Any, spec_of: SpecOf, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_KEY", "sk-very-secret-0123456789")
    spec = spec_of(api_key_env="MY_KEY", retries=0)
    server.fault("400", match="Question 3")
    with Edge({"m": spec}, ledger) as edge:
        edge(ask(spec, TEXTS[:8]))
    assert all(each["authorized"] for each in server.requests)
    files = sorted(path for path in ledger.folder.rglob("*") if path.is_file())
    written = "".join(path.read_text() for path in files)
    assert written.count("Question") >= 7
    for word in ("sk-very", "secret", "MY_KEY", "Bearer", "uthorization", "127.0.0.1"):
        assert word not in written
    line = json.loads(written.splitlines()[0][21:])
    assert set(line["request"]) == {"model", "want", "messages", "options", "draw"}


def test_closing_ends_a_call_that_waits_in_another_thread(
    server: Any, spec_of: SpecOf, ledger: Ledger
):
    server.latency = 30.0
    spec = spec_of(timeout=60.0)
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
        while not server.requests and time.monotonic() < until:
            time.sleep(0.01)
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(ended) == 1
    with pytest.raises(ModelError, match="stopped"):
        edge(ask(spec, TEXTS))
