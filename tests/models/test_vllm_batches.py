"""How a table goes to vLLM: in order, never waiting, back by id. A stand-in plays the engine."""

import json
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.errors import ModelError
from prefdata.models.client import Client
from prefdata.models.spec import ModelSpec
from prefdata.models.vllm import HELD, VLLMClient, in_order
from prefdata.tables import Requests
from tests.models.conftest import ask

SPEC = ModelSpec(client="vllm", model="stand-in", max_tokens=4)


class Tokenizer:
    """A token a sign."""

    chat_template = "own"
    bos_token_id = None

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(sign) for sign in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def apply_chat_template(self, turns: Any, **_: Any) -> str:
        return "".join(turn["content"] for turn in turns)


class Engine:
    """Works on `PLACES` requests at once; each takes steps of its own number.

    Says every prompt back. `seen` are the prompts in the order of their coming, `idle` counts the
    steps at which a place was free though requests had not come yet.
    """

    PLACES = 8

    def __init__(self, total: int = 0) -> None:
        self.total, self.idle, self.most, self.steps = total, 0, 0, 0
        self.seen: list[str] = []
        self.left: dict[str, list[Any]] = {}
        self.aborted: list[str] = []
        self.engine_core = types.SimpleNamespace(shutdown=lambda: None)

    def add_request(self, name: str, prompt: Any, params: Any, lora_request: Any = None) -> None:
        text = "".join(map(chr, prompt["prompt_token_ids"]))
        if text.startswith("bad"):
            raise ValueError("too long")
        self.seen.append(text)
        self.left[name] = [1 + len(self.seen) % 5, text]

    def step(self) -> list[Any]:
        self.steps += 1
        self.most = max(self.most, len(self.left))
        running = list(self.left)[: self.PLACES]
        if len(running) < self.PLACES and len(self.seen) < self.total:
            self.idle += 1
        done: list[Any] = []
        for name in running:
            self.left[name][0] -= 1
            if not self.left[name][0]:
                text = self.left.pop(name)[1]
                said = types.SimpleNamespace(
                    text=text, finish_reason="stop", token_ids=[1], logprobs=None
                )
                done.append(
                    types.SimpleNamespace(
                        request_id=name, finished=True, outputs=[said], num_cached_tokens=0
                    )
                )
        return done

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        for name in names:
            self.left.pop(name)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()

    class LLM:
        def __init__(self, **_: Any) -> None:
            self.llm_engine = made

        def get_tokenizer(self) -> Tokenizer:
            return Tokenizer()

    def module(name: str, **has: Any) -> None:
        stand_in = types.ModuleType(name)
        vars(stand_in).update(has)
        monkeypatch.setitem(sys.modules, name, stand_in)

    kinds = types.SimpleNamespace(FINAL_ONLY=2)
    module("vllm", LLM=LLM)
    module("vllm.exceptions", VLLMClientError=KeyError)
    module(
        "vllm.sampling_params",
        SamplingParams=lambda **how: how,
        RequestOutputKind=kinds,
        StructuredOutputsParams=dict,
    )
    return made


def said(client: Client, requests: Requests) -> dict[str, str | None]:
    rows = pl.concat(list(client.answer(requests)))
    assert rows.height == rows["request_id"].n_unique() == requests.height
    return dict(rows.select("request_id", "text").iter_rows())


def test_answers_go_back_by_id_in_whatever_order_they_were_sent(engine: Engine):
    texts = [f"{i * 7919 % 300:03} say this" for i in range(300)]
    requests = ask(SPEC, texts)
    answered = said(VLLMClient(SPEC), requests)
    assert [answered[each] for each in requests["request_id"]] == texts
    assert engine.seen == sorted(texts)


def test_the_engine_has_always_more_than_it_works_on(engine: Engine):
    engine.total = 3000
    said(VLLMClient(SPEC), ask(SPEC, [f"text {i}" for i in range(3000)]))
    assert engine.idle == 0
    assert engine.most <= HELD


def test_what_begins_alike_is_neighbours_and_adapters_are_apart():
    plain = ask(SPEC, ["b1", "a1", "b2", "a2"], "m")
    tuned = ask(SPEC, ["b3", "a3"], "tuned")
    requests = Requests(pl.concat([tuned, plain]))
    ordered = in_order(requests, {"tuned": "adapter"})
    texts = [turns[0]["content"] for turns in ordered["messages"].to_list()]
    assert texts == ["a1", "a2", "b1", "b2", "a3", "b3"]
    assert sorted(ordered["request_id"]) == sorted(requests["request_id"])


def test_a_bad_row_is_alone(engine: Engine):
    requests = ask(SPEC, ["good", "bad", "also good"])
    rows = pl.concat(list(VLLMClient(SPEC).answer(requests)))
    errors = dict(rows.select("request_id", "error").iter_rows())
    assert [errors[each] for each in requests["request_id"]] == [
        None,
        "bad request: too long",
        None,
    ]


def test_calls_at_the_same_time_share_the_batches(engine: Engine):
    client = VLLMClient(SPEC)
    tables = [ask(SPEC, [f"{name} {i}" for i in range(400)]) for name in ("one", "two")]
    found: dict[int, dict[str, str | None]] = {}

    def work(at: int) -> None:
        found[at] = said(client, tables[at])

    threads = [threading.Thread(target=work, args=(at,)) for at in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for at, name in enumerate(("one", "two")):
        texts = [found[at][each] for each in tables[at]["request_id"]]
        assert texts == [f"{name} {i}" for i in range(400)]


def test_what_nobody_waits_for_is_taken_back(engine: Engine):
    answering = VLLMClient(SPEC).answer(ask(SPEC, [f"text {i}" for i in range(2000)]))
    assert isinstance(answering, Iterator)
    assert next(answering).height > 0
    answering.close()  # pyright: ignore
    assert engine.aborted
    assert not engine.left


def test_a_closed_client_answers_nobody(engine: Engine):
    client = VLLMClient(SPEC)
    answering = client.answer(ask(SPEC, [f"text {i}" for i in range(2000)]))
    next(answering)
    client.close()
    with pytest.raises(ModelError, match="closed while asked"):
        list(answering)


def test_what_the_engine_does_not_give_is_said(engine: Engine):
    for want, advice in (("hidden", "runner"), ("reward", "the client 'local'")):
        with pytest.raises(ModelError, match=advice):
            list(VLLMClient(SPEC).answer(ask(SPEC, ["x"], want=want)))
    pooling = SPEC.model_copy(update={"engine": {"runner": "pooling"}})
    with pytest.raises(ModelError, match="gives hidden, embedding, tokens"):
        list(VLLMClient(pooling).answer(ask(SPEC, ["x"])))


def test_an_adapter_is_named_by_its_weights(tmp_path: Path):
    identities: list[str] = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        (folder / "adapter_config.json").write_text(json.dumps({"r": 4}))
        tuned = SPEC.model_copy(update={"adapter": str(folder)})
        identities.append(tuned.identity())
        assert tuned.served() == SPEC.served()
    assert identities[0] == identities[1] != SPEC.identity()
    assert str(tmp_path) not in identities[0]
    (folder / "adapter_model.safetensors").write_bytes(b"other weights")
    assert tuned.identity() != identities[0]
    with pytest.raises(ValueError, match="`adapter` is for the client 'vllm'"):
        ModelSpec(client="openai", model="m", adapter="x")
