"""Models of the client `vllm` as replicas: actors that Ray places where there are GPUs.

A replica is the very client that a build on one machine has, in an actor that asks Ray for the GPUs
that the engine needs: so it gives the same answers to the same requests, of every kind, and needs
no port, key or address. The edge of the build asks `Replicas` as it asks any client. A table goes
out in chunks, so many to each replica that its engine holds as much as it does on one machine, and
the answers of a chunk are fetched batch by batch.

Chunks go to replicas that have said that they run. Ray starts one that was lost anew, elsewhere if
need be; what it had not answered goes to whichever runs.
"""

# pyright: basic, reportMissingImports=false

import logging
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import polars as pl

from prefdata.errors import ModelError, PrefdataError
from prefdata.models.client import Client
from prefdata.models.clients import open_client
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.models.vllm import HELD, in_order
from prefdata.tables import Requests, Responses

# Chunks of one call that a replica has at a time, requests in one, and chunks of all calls.
AT_A_TIME = 4
CHUNK, MOST = HELD // AT_A_TIME, 256
# So often a replica is started anew, and a chunk put again.
AGAIN = 3
# Seconds between two looks whether the build was ended, and until a replica must have ended.
LOOK, FAREWELL = 1.0, 10.0
# Seconds without a replica that runs, after which that is told, and after which it is given up:
# machines that are hired for it come within minutes.
TOLD, PLACED = 30.0, 1800.0
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
_log = logging.getLogger(__name__)


def cpus_and_gpus(spec: ModelSpec, *, has_gpus: bool) -> tuple[int, int]:
    """What a replica asks Ray for: the GPUs of its engine, or a processor where there are none."""
    n = 1
    for name in PARALLEL:
        n *= int(spec.engine.get(name, 1))
    return (0, n) if has_gpus else (1, 0)


class Replica:
    """The actor: a client of the model, on the node where Ray put it.

    `roles` are those that it serves, `identities` what they are where the build was planned.
    """

    def __init__(
        self, spec: ModelSpec, roles: Mapping[str, ModelSpec], identities: list[str]
    ) -> None:
        self._spec, self._roles, self._identities = spec, roles, identities
        self._lock = threading.Lock()
        self._opened: Client | None = None
        self._begun: dict[str, Iterator[Responses]] = {}

    def ready(self) -> None:
        """`ModelError` where this node has other weights; the engine starts when it is asked."""
        # Raised by a method and not when the actor is made, it arrives as what it is.
        with self._lock:
            if self._opened is None:
                self._refuse_others()
                nothing = cast(Ledger, None)  # none of these clients keeps anything
                self._opened = open_client(self._spec, nothing, self._roles)

    def answer(self, name: str, requests: pl.DataFrame | None = None) -> pl.DataFrame | None:
        """The next batch of a chunk, which begins with its `requests`.

        None where all of it was answered, and where a process that is lost has begun it.
        """
        if requests is not None:
            self.ready()
            batches = cast(Client, self._opened).answer(Requests(requests))
        else:
            batches = self._begun.pop(name, iter(()))
        batch = next(batches, None)
        if batch is not None:
            self._begun[name] = batches
        return batch

    def process(self) -> int:
        """The number of its process on its node."""
        return os.getpid()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _refuse_others(self) -> None:
        try:
            found = identities(self._spec, self._roles)
        except PrefdataError as error:
            found = [str(error)]
        if found != self._identities:
            raise ModelError(
                f"the model {self._spec.model!r} is another one on {socket.gethostname()}: "
                f"{', '.join(found)}, not {', '.join(self._identities)}; have the same weights on "
                "all machines"
            )


def identities(spec: ModelSpec, roles: Mapping[str, ModelSpec]) -> list[str]:
    """What a model is, and in each role that it serves: roles may have adapters of their own."""
    return [each.identity() for each in (spec, *roles.values())]


class Fleet:
    """The replicas of all models of a build.

    All that were opened start with the first request to any, the largest first: so Ray finds places
    for all of them wherever there are some, and has none taken by small ones that a large one
    needs. They hold what they asked Ray for until they are closed.
    """

    def __init__(self, *, has_gpus: bool) -> None:
        self.has_gpus = has_gpus
        self._lock = threading.Lock()
        self._waiting: list[Replicas] = []

    def open(
        self, spec: ModelSpec, ledger: Ledger, roles: Mapping[str, ModelSpec], fresh: bool = False
    ) -> Client:
        """A client here, but for the models that are replicas on Ray."""
        if spec.client != "vllm":
            return open_client(spec, ledger, roles, fresh)
        return Replicas(spec, roles, self)

    def add(self, replicas: "Replicas") -> None:
        with self._lock:
            self._waiting.append(replicas)

    def start(self) -> None:
        with self._lock:
            for each in sorted(self._waiting, key=lambda each: each.gpus, reverse=True):
                each.start()
            self._waiting.clear()


class Replicas:
    """Asks the replicas of a model.

    `roles` are the models of the recipe that they serve; of their `replicas` the most count.
    """

    def __init__(self, spec: ModelSpec, roles: Mapping[str, ModelSpec], fleet: Fleet) -> None:
        self.cpus, self.gpus = cpus_and_gpus(spec, has_gpus=fleet.has_gpus)
        self._spec, self._roles, self._fleet = spec, dict(roles), fleet
        self._lock = threading.Lock()
        self._actors: list[Any] = []
        self._is_closed = self._is_told = False
        fleet.add(self)

    def start(self) -> None:
        """Ask Ray for the actors; the fleet calls it."""
        ray: Any = import_module("ray")
        n = max([self._spec.replicas, *(each.replicas for each in self._roles.values())])
        given = (self._spec, self._roles, identities(self._spec, self._roles))
        actor = ray.remote(Replica).options(
            num_cpus=self.cpus, num_gpus=self.gpus, max_concurrency=MOST, max_restarts=AGAIN
        )
        with self._lock:
            if not self._is_closed:
                self._actors = [actor.remote(*given) for _ in range(n)]

    def answer(self, requests: Requests) -> Iterator[Responses]:
        ray: Any = import_module("ray")
        self._fleet.start()
        with self._lock:
            self._refuse_closed()
            actors = [*self._actors]
        adapters = {role: each.adapter for role, each in self._roles.items() if each.adapter}
        call = _Call(actors, in_order(requests, adapters), self._spec.model)
        ran = time.monotonic()
        while call.is_open:
            call.put()
            for done in ray.wait(list(call.asked), timeout=LOOK)[0]:
                try:
                    batch = call.take(done, self._heard(ray, done))
                except ray.exceptions.RayError as error:
                    call.lose(done, error)
                else:
                    if batch is not None:
                        yield Responses(batch)
            self._refuse_closed()
            ran = time.monotonic() if call.running else ran
            self._refuse_unplaced(time.monotonic() - ran)

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

    def _heard(self, ray: Any, done: Any) -> Any:
        """What a replica returned; its own errors as any client has them."""
        try:
            return ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PrefdataError):
                raise error.cause from error
            raise ModelError(f"a replica of {self._spec.model!r} failed: {error.cause}") from error

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise ModelError(f"the model {self._spec.model!r} was closed while asked")

    def _refuse_unplaced(self, seconds: float) -> None:
        """Tell that none runs for so long, and give up in the end."""
        what = f"no replica of the model {self._spec.model!r} runs on Ray"
        needs = f"each needs {self.gpus} GPUs of one machine" if self.gpus else "each needs a CPU"
        if seconds > TOLD and not self._is_told:
            self._is_told = True
            _log.warning("%s: %s; waiting until it is free", what, needs)
        if seconds > PLACED:
            raise ModelError(
                f"{what} since {PLACED / 60:.0f} minutes: {needs}, and machines are lost or others "
                "hold what they have; what was answered is kept: build again when it is free"
            )


@dataclass
class _Chunk:
    """Requests that go to a replica together: those without an answer, and how often it was lost.

    `name` is another one each time that it is put.
    """

    rows: pl.DataFrame
    name: str = ""
    losses: int = 0


class _Call:
    """One table on its way: which replicas run, what is asked of them, and what is still to be put.

    `asked` has for each answer that is awaited the replica and the chunk, or None where it was
    asked whether it runs.
    """

    def __init__(self, actors: Sequence[Any], requests: Requests, model: str) -> None:
        self._actors, self._model = actors, model
        size = min(CHUNK, -(-requests.height // (AT_A_TIME * len(actors))))
        self._chunks = [_Chunk(each) for each in requests.iter_slices(max(1, size))]
        self._failures: Counter[int] = Counter()
        self.running: set[int] = set()
        self.asked: dict[Any, tuple[int, _Chunk | None]] = {}
        for at in range(len(actors)):
            self._greet(at)

    @property
    def is_open(self) -> bool:
        return bool(self._chunks) or any(chunk for _, chunk in self.asked.values())

    def put(self) -> None:
        """Put chunks to the replicas that run, to the one that has fewest first."""
        has = Counter(at for at, chunk in self.asked.values() if chunk)
        while self._chunks and self.running:
            at = min(self.running, key=lambda each: has[each])
            if has[at] >= AT_A_TIME:
                return
            has[at] += 1
            chunk = self._chunks.pop(0)
            chunk.name = uuid.uuid4().hex
            self.asked[self._actors[at].answer.remote(chunk.name, chunk.rows)] = at, chunk

    def take(self, done: Any, batch: pl.DataFrame | None) -> pl.DataFrame | None:
        """What came, and ask for what comes after it."""
        at, chunk = self.asked.pop(done)
        if chunk is None:
            self.running.add(at)
        elif batch is not None:
            chunk.rows = chunk.rows.join(batch, on="request_id", how="anti", maintain_order="left")
            self.asked[self._actors[at].answer.remote(chunk.name)] = at, chunk
        elif chunk.rows.height:
            self._put_again(chunk, "its process was started anew")
        return batch

    def lose(self, done: Any, error: Exception) -> None:
        """A replica was lost: what it had is put again, to another, or to it once it runs anew."""
        at, chunk = self.asked.pop(done)
        said, *_ = [*str(error).strip().splitlines(), type(error).__name__]
        if chunk is not None:
            self._put_again(chunk, said)
            if at in self.running:
                self._greet(at)
            return
        self._failures[at] += 1
        if self._failures[at] <= AGAIN:
            self._greet(at)
        elif not self.running and all(chunk for _, chunk in self.asked.values()):
            raise self._gone("all replicas", "were", f"also when started anew {AGAIN} times", said)

    def _greet(self, at: int) -> None:
        """Ask a replica whether it runs; one that has no place yet answers when it has."""
        self.running.discard(at)
        self.asked[self._actors[at].ready.remote()] = at, None

    def _put_again(self, chunk: _Chunk, said: str) -> None:
        chunk.losses += 1
        if chunk.losses > AGAIN:
            raise self._gone("a replica", "was", f"{chunk.losses} times at the same requests", said)
        self._chunks.insert(0, chunk)

    def _gone(self, who: str, are: str, when: str, said: str) -> ModelError:
        return ModelError(
            f"{who} of {self._model!r} {are} lost, {when}: {said}; what was answered is kept: "
            "build again"
        )
