"""Every fault of an endpoint ends in an answer or a reason, never in a hang or a lost row."""

import email.utils
import json
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from prefdata import stage, tables
from prefdata.errors import ModelError
from prefdata.models.chat import choose
from prefdata.models.client import Client
from prefdata.models.edge import Edge
from prefdata.models.endpoint import Endpoint
from prefdata.models.lane import retry_after
from prefdata.models.ledger import Ledger
from prefdata.models.openai import OpenAIClient
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests
from tests.models.conftest import VERDICT, ask

SpecOf = Callable[..., ModelSpec]
TEXTS = [f"Question {i}" for i in range(40)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.models.lane.FIRST_WAIT", 0.01)


def answers(client: Client, requests: Requests) -> pl.DataFrame:
    """All responses; fails where one request has none or two."""
    said = pl.concat(client.answer(requests))
    assert sorted(said["request_id"]) == sorted(requests["request_id"])
    return requests.join(said, on="request_id", maintain_order="left")


def asked(spec: ModelSpec, requests: Requests) -> pl.DataFrame:
    client = OpenAIClient(spec)
    try:
        return answers(client, requests)
    finally:
        client.close()


def test_replies_find_their_requests_in_whatever_order_they_come(server: Any, spec_of: SpecOf):
    spec = spec_of()
    calm = asked(spec, ask(spec, TEXTS))
    server.scatter = 0.2
    stormy = asked(spec, ask(spec, TEXTS))
    assert stormy.equals(calm)
    assert calm["error"].null_count() == len(TEXTS)
    assert calm["text"].n_unique() == len(TEXTS)
    assert set(calm["tokens_in"]) == {2}


TRANSIENT = {
    "408": "server error 408",
    "409": "server error 409",
    "429": "rate limited (429)",
    "500": "server error 500",
    "503": "server error 503",
    "cut": "connection lost",
    "stall": "timeout",
    "malformed": "malformed reply",
    "html": "malformed reply",
    "empty": "empty reply",
}


def said(**changed: Any) -> str:
    """A reply as it should be but for what is changed in it."""
    choice = {"index": 0, "message": {"content": "Fine"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    whole = {"choices": [{**choice, **changed.pop("choice", {})}], "usage": usage}
    return json.dumps({**whole, **changed})


def lone(logprob: float, token: Any = "A") -> dict[str, Any]:
    entry = {"token": token, "logprob": logprob}
    return {"logprobs": {"content": [{**entry, "top_logprobs": [entry]}]}}


# Replies of which a part is not what the protocol says, and what is to come of them.
ODD = {
    said(choice={"finish_reason": {"type": "stop"}}): None,
    said(choice={"finish_reason": 7}): None,
    said(choice={"message": {"content": "a\ud800b"}}): None,
    said(choice={"message": {"content": "Fine", "refusal": ["no"]}}): "refused",
    said(usage=[1]): None,
    said(usage={"prompt_tokens": "many", "completion_tokens": -1}): None,
    said(usage={"prompt_tokens": 10**30, "completion_tokens": math.inf}): None,
    said(usage={"prompt_tokens": 1, "prompt_tokens_details": 5}): None,
    said(choice=lone(math.nan)): "malformed reply",
    said(choice=lone(1000.0)): "malformed reply",
    said(choice=lone(-1.0, None)): "malformed reply",
    said(choice=lone(-math.inf)): None,
    said(choices=[], error={"message": "Provider\nis full", "code": 529}): (
        "server error: Provider is full"
    ),
    "[" * 100_000: "malformed reply",
}


def test_an_odd_reply_costs_no_other_its_answer(server: Any, spec_of: SpecOf, ledger: Ledger):
    """Whatever a server says, the others are answered and kept, and what was paid for is taken."""
    spec = spec_of(retries=0)
    odd = [f"Odd {at};" for at in range(len(ODD))]
    for text, body in zip(odd, ODD, strict=True):
        server.fault("raw", match=text, body=body)
    with Edge({"m": spec}, ledger) as edge:
        answered = edge(ask(spec, [*TEXTS, *odd]))
    reasons = dict(zip(odd, answered["error"][len(TEXTS) :], strict=True))
    assert reasons == dict(zip(odd, ODD.values(), strict=True))
    assert answered["error"][: len(TEXTS)].null_count() == len(TEXTS)
    assert answered["text"][len(TEXTS) + 2] == "a?b"
    kept = sum(each in (None, "refused") for each in ODD.values())
    assert ledger.find(answered["request_id"]).height == len(TEXTS) + kept


@pytest.mark.parametrize("logprob", [math.nan, math.inf, 1000.0])
def test_no_probability_is_made_of_what_is_none(logprob: float, server: Any, spec_of: SpecOf):
    spec = spec_of(retries=0)
    server.fault("raw", body=said(choice=lone(logprob)))
    asked_for = ask(spec, ["x"], want="choice", options={"choices": ["A", "B"]})
    assert asked(spec, asked_for)["error"].to_list() == ["malformed reply"]


def test_a_reply_without_an_end_does_not_fill_the_memory(
    server: Any, spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("prefdata.models.endpoint.MOST_BYTES", 1 << 16)
    server.fault("raw", match="Question 1;", body=" " * (1 << 17))
    spec = spec_of(retries=0)
    first, other = asked(spec, ask(spec, ["Question 1;", "Question 2;"]))["error"]
    assert first.startswith("malformed reply: it has more than")
    assert other is None


def test_nothing_is_sent_where_a_server_redirects_to(
    server: Any, another: Callable[..., Any], spec_of: SpecOf
):
    """A prompt sent on would reach a host that nobody named, and a POST may come as a GET."""
    elsewhere = another()
    there = {"Location": f"{elsewhere.url}/chat/completions?api_key=not-for-logs"}
    server.fault("raw", status=307, headers=there)
    spec = spec_of()
    with pytest.raises(ModelError, match=f"redirects to {elsewhere.url}") as stopped:
        asked(spec, ask(spec, TEXTS))
    assert not elsewhere.requests
    assert "not-for-logs" not in str(stopped.value)


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_passing_fault_is_outlived(kind: str, server: Any, spec_of: SpecOf):
    spec = spec_of(timeout=0.5, retries=3)
    calm = asked(spec, ask(spec, TEXTS[:8]))
    server.fault(kind, share=0.6, times=1)
    assert asked(spec, ask(spec, TEXTS[:8])).equals(calm)
    assert max(server.asked().values()) == 3, "some were asked a second time after the fault"


def test_a_server_that_falls_silent_is_left_before_the_whole_time_is_over(
    server: Any, spec_of: SpecOf
):
    server.fault("stall", match="Question 3")
    spec = spec_of(timeout=300.0, read_timeout=0.3, retries=0)
    said = asked(spec, ask(spec, TEXTS[:5]))
    assert said["error"].to_list() == [None, None, None, "timeout", None]


def test_a_host_that_takes_no_connection_is_left_before_the_whole_time_is_over(spec_of: SpecOf):
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # nobody accepts it: the next connection gets no answer
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        spec = spec_of(base_url=url, timeout=300.0, connect_timeout=0.3, retries=0)
        with pytest.raises(ModelError, match=r"1 request failed, with '.*takes no connection'"):
            asked(spec, ask(spec, TEXTS[:1]))


@pytest.mark.parametrize(("kind", "reason"), TRANSIENT.items())
def test_a_lasting_fault_is_the_rows_reason(kind: str, reason: str, server: Any, spec_of: SpecOf):
    spec = spec_of(timeout=0.4, retries=1)
    server.fault(kind, match="Question 3")
    said = asked(spec, ask(spec, TEXTS[:8]))
    by_text = dict(zip(TEXTS[:8], said["error"], strict=True))
    assert by_text.pop("Question 3") == reason
    assert set(by_text.values()) == {None}
    assert server.asked()["Question 3"] >= 2


@pytest.mark.parametrize("kind", ["400", "422"])
def test_a_bad_request_is_its_rows_reason_and_not_repeated(kind: str, server: Any, spec_of: SpecOf):
    spec = spec_of()
    server.fault(kind, match="Question 3")
    said = asked(spec, ask(spec, TEXTS[:8]))
    assert said["error"].drop_nulls().to_list() == [f"bad request ({kind}): told to answer {kind}"]
    assert server.asked()["Question 3"] == 1


@pytest.mark.parametrize(
    ("kind", "reason", "text"),
    [
        ("filter", "content filter", None),
        ("refusal", "refused", "I cannot do that."),
        ("null", None, ""),
    ],
)
def test_refusing_is_a_reason(
    kind: str, reason: str | None, text: str | None, server: Any, spec_of: SpecOf
):
    spec = spec_of()
    server.fault(kind)
    said = asked(spec, ask(spec, TEXTS[:1]))
    assert said["error"].to_list() == [reason]
    assert text is None or said["text"].to_list() == [text]
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["401", "403", "404"])
def test_an_unusable_endpoint_stops_everything_at_once(
    kind: str, server: Any, spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-logs")
    spec = spec_of(concurrency=4)
    server.latency = 0.02
    server.fault(kind)
    with pytest.raises(ModelError, match=kind) as stopped:
        asked(spec, ask(spec, TEXTS))
    assert len(server.requests) <= 8
    assert "not-for-logs" not in str(stopped.value)


def test_a_dead_endpoint_is_noticed(spec_of: SpecOf, server: Any):
    spec = spec_of(retries=1)
    server.close()
    began = time.monotonic()
    with pytest.raises(
        ModelError, match="does not answer: 1 request failed, with 'connection refused"
    ):
        asked(spec, ask(spec, TEXTS))
    assert time.monotonic() - began < 60, "a guard against hanging"


def test_an_endpoint_that_fails_everybody_is_noticed(server: Any, spec_of: SpecOf):
    spec = spec_of(retries=0)
    server.fault("500")
    with pytest.raises(ModelError, match=r"[2-9]\d requests in a row failed, the last with"):
        asked(spec, ask(spec, [f"{i}" for i in range(500)]))
    assert len(server.requests) < 100


def test_nothing_hangs_when_nothing_answers(server: Any, spec_of: SpecOf):
    spec = spec_of(timeout=0.2, retries=0)
    server.fault("stall")
    began = time.monotonic()
    said = asked(spec, ask(spec, TEXTS[:10]))
    assert set(said["error"]) == {"timeout"}
    assert time.monotonic() - began < 60, "a guard against hanging"


def test_retry_after_is_waited_for(server: Any, spec_of: SpecOf):
    spec = spec_of()
    server.fault("429", times=1, retry_after=0.7)
    asked(spec, ask(spec, TEXTS[:2]))
    first, last = server.requests[0]["at"], server.requests[-1]["at"]
    assert last - first >= 0.7


@pytest.mark.parametrize("wait", [0, -5, "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_who_asks_to_be_asked_again_at_once_is_not_asked_a_thousand_times(
    wait: float | str, server: Any, spec_of: SpecOf
):
    """A date is past where a clock is wrong; 429 is waited out as long as a request may take."""
    server.fault("429", retry_after=wait, total=1000)
    spec = spec_of(timeout=0.3, retries=1)
    assert asked(spec, ask(spec, ["x"]))["error"].to_list() == ["rate limited (429)"]
    assert len(server.requests) < 50


def test_a_fault_that_asks_for_hours_is_tried_again_before(server: Any, spec_of: SpecOf):
    """Only who is overloaded or closed may send away for so long; a row must not wait for hours."""
    endpoint = Endpoint(spec_of(), server.url, None)
    for status in (408, 409, 500, 502):
        trouble = endpoint.trouble(status, {"retry-after": "7200"}, b"")
        assert (trouble.again, trouble.unusable, trouble.wait) == (True, False, None)
    closed = endpoint.trouble(503, {"retry-after": "7200"}, b"")
    assert closed.unusable
    assert "7200 seconds" in closed.reason


def test_a_rate_limit_is_learnt_and_nobody_is_lost(server: Any, spec_of: SpecOf):
    """More in flight than the server allows: fewer are sent, and all are answered."""
    spec = spec_of(concurrency=32, retries=2)
    server.latency = 0.02
    server.limit = 6
    said = asked(spec, ask(spec, [f"Item {i};" for i in range(600)]))
    assert said["error"].null_count() == 600
    late = server.requests[len(server.requests) // 2 :]
    assert sum(each["said"] == "429" for each in late) < 0.2 * len(late)
    assert server.most_in_flight == 6


def test_concurrency_is_used_and_kept(server: Any, spec_of: SpecOf):
    spec = spec_of(concurrency=8)
    server.latency = 0.05
    asked(spec, ask(spec, TEXTS))
    assert server.most_in_flight == 8


def test_no_more_is_asked_than_was_taken(server: Any, spec_of: SpecOf):
    """A response keeps its place until the next batch is wanted: a kill loses no more than that."""
    spec = spec_of(concurrency=4)
    client = OpenAIClient(spec)
    batches = client.answer(ask(spec, TEXTS))
    next(batches)
    time.sleep(0.3)
    assert len(server.requests) <= 4
    batches.close()
    assert answers(client, ask(spec, TEXTS)).height == len(TEXTS), "the places are free again"
    client.close()


def test_calls_from_threads_share_the_bound(server: Any, spec_of: SpecOf):
    spec = spec_of(concurrency=6)
    server.latency = 0.02
    client = OpenAIClient(spec)
    tables = [ask(spec, [f"{n} {i}" for i in range(20)]) for n in "abc"]
    threads = [threading.Thread(target=answers, args=(client, table)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    client.close()
    assert len(server.requests) == 60
    assert server.most_in_flight <= 6


def test_a_schema_constrains_the_reply(server: Any, spec_of: SpecOf):
    spec = spec_of()
    said = asked(spec, ask(spec, TEXTS[:5], options={"schema": VERDICT}))
    assert {json.loads(text)["verdict"] for text in said["text"]} <= {"A", "B", "tie"}
    sent = server.requests[0]["body"]["response_format"]
    assert sent == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": VERDICT, "strict": True},
    }


def test_options_are_sent_and_a_draw_has_its_own_seed(server: Any, spec_of: SpecOf):
    spec = spec_of(temperature=0.3, seed=5, options={"top_k": 40})
    asked(spec, ask(spec, ["x", "x"], draw=pl.Series([0, 2])))
    bodies = sorted((each["body"] for each in server.requests), key=lambda b: b["seed"])
    assert [body["seed"] for body in bodies] == [5, 7]
    assert all(b["temperature"] == 0.3 and b["top_k"] == 40 for b in bodies)


def test_the_bound_of_a_reply_is_sent_under_one_name(server: Any, spec_of: SpecOf):
    """Servers that know the newer name refuse a request with both; the model's own wins."""
    spec = spec_of(options={"max_completion_tokens": 900})
    asked(spec, ask(spec, ["x"], options={"max_tokens": 24}))
    asked(spec, ask(spec, ["x"], want="choice", options={"choices": ["A", "B"]}))
    text, choice = (each["body"] for each in server.requests)
    assert text["max_completion_tokens"] == 900
    assert choice["max_completion_tokens"] == 1
    assert "max_tokens" not in text
    assert "max_tokens" not in choice


def test_log_probabilities_are_kept_where_they_are_asked_for(server: Any, spec_of: SpecOf):
    spec = spec_of(options={"logprobs": True, "top_logprobs": 2})
    row = asked(spec, ask(spec, ["x"]))
    assert row["logprobs"].to_list() == [[{"token": " A", "logprob": -0.5}]]
    plain = spec_of()
    assert asked(plain, ask(plain, ["x"]))["logprobs"].to_list() == [None]


def test_choices_share_the_mass_of_their_tokens(server: Any, spec_of: SpecOf):
    spec = spec_of()
    row = asked(spec, ask(spec, ["A or B?"], want="choice", options={"choices": ["A", "B"]}))
    # the server says " A", "B", "A", " B" at -0.5, -1.5, -2.5, -3.5
    a, b = math.exp(-0.5) + math.exp(-2.5), math.exp(-1.5) + math.exp(-3.5)
    found = {each["token"]: math.exp(each["logprob"]) for each in row["logprobs"][0]}
    assert found == pytest.approx({"A": a / (a + b), "B": b / (a + b)})
    assert row["number"][0] == pytest.approx(a + b)
    assert row["text"][0] == "A"
    assert "response_format" not in server.requests[0]["body"]
    none = asked(spec, ask(spec, ["x"], want="choice", options={"choices": ["Z", "Q"]}))
    assert none["error"].to_list() == ["no choice among the likely tokens"]


@pytest.mark.parametrize("token", ['"A', "(A", "*A", "A.", " A:", "**A**", "\u201cA", "[A", "A\n"])
def test_a_letter_with_marks_around_it_is_that_letter(token: str):
    """What follows a bare letter would otherwise stand against nothing."""
    top = [(token, math.log(0.8)), ("A", math.log(0.02)), ("B", math.log(0.08)), ("AB", -1.0)]
    made = choose(top, ["A", "B"])
    assert made["text"] == "A"
    shares = {each["token"]: math.exp(each["logprob"]) for each in made["logprobs"]}
    assert shares == pytest.approx({"A": 0.82 / 0.9, "B": 0.08 / 0.9})
    assert made["number"] == pytest.approx(0.9), "what is left is something else"


def test_marks_alone_and_other_words_speak_for_no_choice():
    assert choose([("**", -0.1), ("(", -3.0), ("Answer", -4.0)], ["A", "B"])["text"] is None
    assert choose([("-", -0.1), ("-1", -1.0), ("1", -3.0)], ["-1", "1"])["text"] == "-1"


def test_embeddings(server: Any, spec_of: SpecOf):
    spec = spec_of(temperature=0.4)
    said = asked(spec, ask(spec, ["one", "two", "one more"], want="embedding"))
    assert said["vector"].list.len().to_list() == [8, 8, 8]
    assert said["vector"].n_unique() == 3
    assert "temperature" not in server.requests[0]["body"]


def rewards(spec: ModelSpec, texts: list[str]) -> Any:
    turns = [[{"role": "assistant", "content": text}] for text in texts]
    completion = pl.Series("completion", turns, dtype=tables.MESSAGES)
    return ask(spec, ["q"] * len(texts), want="reward", completion=completion)


def test_rewards_are_those_of_the_conversation_before_any_activation(server: Any, spec_of: SpecOf):
    spec = spec_of(base_url=server.url.removesuffix("/v1"), temperature=0.4)
    wanted = rewards(spec, ["a", "bbb"])
    said = wanted.join(asked(spec, wanted), on="request_id", maintain_order="left")
    assert said["number"].to_list() == [1.0, 3.0]
    assert said["tokens_in"].to_list() == [5, 5]
    sent = server.requests[0]["body"]
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant"]
    assert sent["use_activation"] is False
    assert "temperature" not in sent


def test_two_texts_are_scored_together(server: Any, spec_of: SpecOf):
    spec = spec_of()
    turns = [("user", "q"), ("assistant", "abcd"), ("assistant", "ab")]
    said = [[{"role": role, "content": text} for role, text in turns]]
    messages = pl.Series("messages", said, dtype=tables.MESSAGES)
    wanted = stage.requests(spec.resolve("m"), "reward", messages, options={"pair": True})
    assert asked(spec, wanted)["number"].to_list() == [float(len("q\n\nabcd") - 2)]
    assert server.requests[0]["body"]["text_2"] == "ab"


def test_a_classifier_of_several_labels_and_no_number_are_reasons(server: Any, spec_of: SpecOf):
    server.fault("duplicated", match="two")
    server.fault("malformed", match="none")
    spec = spec_of(base_url=server.url.removesuffix("/v1"), retries=0)
    wanted = rewards(spec, ["two labels", "none"])
    said = wanted.join(asked(spec, wanted), on="request_id", maintain_order="left")
    assert said["number"].to_list() == [None, None]
    assert said["error"].to_list() == [
        "the model gives 2 numbers; a reward model gives one",
        "malformed reply",
    ]


def test_what_the_protocol_cannot_say_is_refused(spec_of: SpecOf, server: Any):
    spec = spec_of()
    with pytest.raises(ModelError, match="'hidden'"):
        asked(spec, ask(spec, ["x"], want="hidden"))
    assert not server.requests


def test_the_key_comes_from_the_environment(
    server: Any, spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ModelError, match="MY_KEY, which is not set"):
        OpenAIClient(spec_of(api_key_env="MY_KEY"))
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        OpenAIClient(ModelSpec(client="openai", model="m"))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    spec = ModelSpec(client="openai", model="m")
    assert asked(spec, ask(spec, ["x"]))["error"].to_list() == [None]


def test_a_key_that_was_read_from_a_file_may_end_its_line(
    another: Callable[..., Any], spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
):
    locked = another(key="not-for-logs")
    spec = spec_of(base_url=locked.url, api_key_env="A_KEY")
    monkeypatch.setenv("A_KEY", "not-for-logs\n")
    assert asked(spec, ask(spec, ["x"]))["error"].to_list() == [None]
    monkeypatch.setenv("A_KEY", "not-for-logs\nA_SECOND=line")
    with pytest.raises(ModelError, match=r"A_KEY.* line break") as stopped:
        OpenAIClient(spec)
    assert "not-for-logs" not in str(stopped.value)


def test_retry_after_is_read_in_all_its_forms():
    soon = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert retry_after({}) is None
    assert retry_after({"retry-after": "nonsense"}) is None
    assert retry_after({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}) is None
    assert retry_after({"retry-after": "2"}) == 2
    assert retry_after({"retry-after-ms": "250", "retry-after": "2"}) == 0.25
    assert retry_after({"retry-after": "86400"}) == 86400
    assert retry_after({"retry-after": soon}) == pytest.approx(20, abs=2)
    day = "Fri, 27 Nov 2026"  # by the server's clock, whatever is ours
    assert retry_after({"retry-after": f"{day} 09:00:20 GMT", "date": f"{day} 09:00:00 GMT"}) == 20
