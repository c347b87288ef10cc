"""A real model without any set-up: llama.cpp's own server, in this process, on the loopback device.

The weights are a packaged model (`smollm2-135m`) or the path of any .gguf file. The server starts
with the first request and stops with `close`; behind it stands the `openai` client. Prompts that
begin alike are read once: each of its places keeps the last conversation it read.

`engine` takes `n_ctx` (tokens of one conversation), `n_parallel` (conversations at once) and
`threads`; any other name is one of llama.cpp's common parameters.
"""

import gc
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from prefdata.errors import ModelError, RecipeError, nearest
from prefdata.models import weights
from prefdata.models.client import Waiting
from prefdata.models.openai import OpenAIClient
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

N_CTX = 4096
N_PARALLEL = 8
# Kept prompts beyond those in the places themselves, in MiB.
PROMPT_CACHE = 256
# One attempt may last this long unless the recipe says otherwise: a small machine is slow, and a
# request that is cut off has cost its time.
PATIENCE = 900.0


class EmbeddedClient:
    """Starts a server of this process and asks it."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._starting = threading.Lock()
        self._draining = False
        self._server: Any = None
        self._client: OpenAIClient | None = None

    def answer(self, requests: Requests) -> Iterator[Responses]:
        with self._starting:
            if self._client is None:
                self._server = start(self._spec)
                self._client = OpenAIClient(_behind(self._spec, self._server.listening_address))
        if self._draining:
            self._client.drain()
        return self._client.answer(requests)

    def waiting(self) -> tuple[Waiting, ...]:
        return self._client.waiting() if self._client else ()

    def drain(self) -> None:
        self._draining = True  # without the lock, which is held while weights are loaded
        if self._client:
            self._client.drain()

    def close(self) -> None:
        with self._starting:
            if self._client:
                self._client.close()
            self._client = self._server = None
            gc.collect()  # the server stops when nothing refers to it


def start(spec: ModelSpec) -> Any:
    """A running `xllamacpp.Server` for a spec, on a free port."""
    path = weights.locate(spec)
    try:
        import xllamacpp
    except ImportError as error:
        raise ModelError(
            "the client 'embedded' needs the package xllamacpp; install it with: "
            "pip install 'prefdata[embedded]'"
        ) from error
    params: Any = xllamacpp.CommonParams()  # pyright: ignore[reportUnknownVariableType, reportAttributeAccessIssue]
    params.model.path = str(path)
    _configure(params, spec.engine)
    try:
        return xllamacpp.Server(params)  # pyright: ignore[reportUnknownVariableType, reportAttributeAccessIssue]
    except Exception as error:
        raise ModelError(
            f"the model {spec.model!r} cannot be loaded by llama.cpp: {error}. Expected a .gguf "
            "file of a chat model that fits into memory"
        ) from error


def _configure(params: Any, engine: Mapping[str, Any]) -> None:
    given = dict(engine)
    threads = int(given.pop("threads", 0) or given.pop("n_threads", 0) or free_cores())
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # Threads that wait by spinning take the machine from whoever else computes on it.
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    params.n_parallel = int(given.pop("n_parallel", N_PARALLEL))
    params.n_ctx = int(given.pop("n_ctx", N_CTX)) * params.n_parallel
    params.cache_ram_mib = PROMPT_CACHE
    params.n_gpu_layers = 0
    params.verbosity = -1
    params.ui = False
    params.port = 0
    for name, value in given.items():
        if not hasattr(params, name):
            known = {n for n in dir(params) if not n.startswith("_")} | {"threads"}
            raise RecipeError(f"engine has no setting {name!r}; {nearest(name, known)}")
        setattr(params, name, value)


def free_cores() -> int:
    """Cores that nobody else is busy on, at least one: waiting for a busy core is slower by far."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(cores or 1, round((cores or 1) - load)))


def _behind(spec: ModelSpec, address: str) -> ModelSpec:
    """The spec of the client that asks the server: no more in flight than the server has places."""
    places = int(spec.engine.get("n_parallel", N_PARALLEL))
    timeout = spec.timeout if "timeout" in spec.model_fields_set else PATIENCE
    return ModelSpec(
        client="openai",
        model=spec.model,
        base_url=f"{address}/v1",
        concurrency=min(spec.concurrency, places),
        timeout=timeout,
        retries=spec.retries,
    )
