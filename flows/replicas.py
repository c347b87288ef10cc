"""Models of the client `vllm` as replicas: actors that Ray places where there are GPUs.

A replica is the very client that a build on one machine has, in an actor that asks Ray for the GPUs
that the engine needs: so it gives the same answers to the same requests, of every kind, and needs
no port, key or address. The edge of the build asks `Replicas` as it asks any client. A table goes
out in chunks, so many to each replica that its engine always has more; Ray starts a replica that
was lost anew, elsewhere if need be, and puts to it what it had been asked.
"""

# pyright: basic, reportMissingImports=false

import os
import threading
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import polars as pl

from prefdata.errors import ModelError, PrefdataError
from prefdata.models.clients import open_client
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.models.vllm import in_order
from prefdata.tables import Requests, Responses

# Chunks of one call that a replica has at a time, requests in one, and chunks of all calls.
AT_A_TIME, CHUNK, MOST = 2, 256, 64
# So often a replica is started anew, and a chunk put again.
AGAIN = 3
# Seconds between two looks whether the build was ended, and until a replica must have ended.
LOOK, FAREWELL = 1.0, 10.0
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def cpus_and_gpus(spec: ModelSpec, *, has_gpus: bool) -> tuple[int, int]:
    """What a replica asks Ray for: the GPUs of its engine, or a processor where there are none."""
    n = 1
    for name in PARALLEL:
        n *= int(spec.engine.get(name, 1))
    return (0, n) if has_gpus else (1, 0)


class Replica:
    """The actor: a client of the model, on the node where Ray put it."""

    def __init__(self, spec: ModelSpec, roles: Mapping[str, ModelSpec], identity: str) -> None:
        if (found := spec.identity()) != identity:
            raise ModelError(
                f"the model {spec.model!r} is another one there: {found}, not {identity}; have the "
                "same weights on all machines"
            )
        self._client = open_client(spec, cast(Ledger, None), roles)  # none of them keeps anything

    def answer(self, requests: pl.DataFrame) -> pl.DataFrame:
        return pl.concat(list(self._client.answer(Requests(requests))))

    def process(self) -> int:
        """The number of its process on its node."""
        return os.getpid()

    def close(self) -> None:
        self._client.close()


class Replicas:
    """Asks the replicas of a model, which start with the first request.

    `roles` are the models of the recipe that they serve; of their `replicas` the most count.
    """

    def __init__(self, spec: ModelSpec, roles: Mapping[str, ModelSpec]) -> None:
        self._spec, self._roles = spec, dict(roles)
        self._lock = threading.Lock()
        self._actors: list[Any] = []
        self._is_closed = False

    def answer(self, requests: Requests) -> Iterator[Responses]:
        ray: Any = import_module("ray")
        actors = self._started(ray)
        adapters = {role: each.adapter for role, each in self._roles.items() if each.adapter}
        size = min(CHUNK, -(-requests.height // (AT_A_TIME * len(actors))))
        chunks = in_order(requests, adapters).iter_slices(size)
        idle = [each for _ in range(AT_A_TIME) for each in actors]
        asked: dict[Any, Any] = {}
        while True:
            while idle and (chunk := next(chunks, None)) is not None:
                actor = idle.pop(0)
                asked[actor.answer.remote(chunk)] = actor
            if not asked:
                return
            for done in ray.wait(list(asked), timeout=LOOK)[0]:
                idle.append(asked.pop(done))
                yield Responses(self._heard(ray, done))
            if self._is_closed:
                raise ModelError(f"the model {self._spec.model!r} was closed while asked")

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            actors, self._actors = self._actors, []
        if not actors:
            return
        ray: Any = import_module("ray")
        ray.wait(
            [each.close.remote() for each in actors], num_returns=len(actors), timeout=FAREWELL
        )
        for each in actors:
            ray.kill(each)

    def _started(self, ray: Any) -> list[Any]:
        with self._lock:
            if self._is_closed:
                raise ModelError(f"the model {self._spec.model!r} was closed while asked")
            if not self._actors:
                cpus, gpus = cpus_and_gpus(
                    self._spec, has_gpus=ray.cluster_resources().get("GPU", 0) > 0
                )
                actor = ray.remote(Replica).options(
                    num_cpus=cpus,
                    num_gpus=gpus,
                    max_concurrency=MOST,
                    max_restarts=AGAIN,
                    max_task_retries=AGAIN,
                )
                n = max([self._spec.replicas, *(each.replicas for each in self._roles.values())])
                given = (self._spec, self._roles, self._spec.identity())
                self._actors = [actor.remote(*given) for _ in range(n)]
            return self._actors

    def _heard(self, ray: Any, done: Any) -> pl.DataFrame:
        try:
            return ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PrefdataError):
                raise error.cause from error
            raise ModelError(f"a replica of {self._spec.model!r} failed: {error.cause}") from error
        except ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()
            raise ModelError(
                f"a replica of {self._spec.model!r} was lost, after it was started anew {AGAIN} "
                f"times: {said[0] if said else type(error).__name__}; what was answered is kept: "
                "build again"
            ) from error
