"""The clients of an edge: opened once for all roles that are served alike, watched and closed."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from prefdata.errors import ModelError
from prefdata.models.client import Client, Health, Sending, Watched
from prefdata.models.ledger import Ledger
from prefdata.models.packages import lacking
from prefdata.models.spec import ModelSpec
from prefdata.models.stall import Stall, stall
from prefdata.tables import Requests, Responses

# How the client of a model is opened, by its spec, the ledger, the roles that it serves, and
# whether all is asked anew.
Opens = Callable[[ModelSpec, Ledger, Mapping[str, ModelSpec], bool], Client]


@dataclass
class _Talk:
    """A client that is asked, with its requests that are without an answer."""

    role: str
    client: Client
    held: Mapping[str, float]


class Clients:
    """Puts requests to clients, from any thread, and knows which of them are asked what.

    `opened` are the clients so far, by what is served. `given_up` says, once they are closed, how
    many requests were on their way. `opens` opens one, by default `open_client`.
    """

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        ledger: Ledger,
        opens: Opens | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        self.opened: dict[tuple[str, ...], Client] = {}
        self.is_stopping = self.is_closed = False
        self.given_up = 0
        self._specs = specs
        self._ledger = ledger
        self._fresh = fresh
        self._opens = opens or open_client
        self._lock = threading.Lock()
        self._talks: dict[int, _Talk] = {}
        # When a client answered last: of calls that share it, all but one may wait for their turn.
        self._moved: dict[int, float] = {}

    def of(self, role: str) -> Client:
        """The client of a role, opened if it is not yet."""
        with self._lock:
            if self.is_closed:
                self.refuse_stopped()
            key = self._specs[role].served()
            if key not in self.opened:
                alike = {r: spec for r, spec in self._specs.items() if spec.served() == key}
                how = (self._specs[role], self._ledger, alike, self._fresh)
                self.opened[key] = self._opens(*how)
            return self.opened[key]

    def answers(self, role: str, sent: Requests, held: Mapping[str, float]) -> Generator[Responses]:
        """The client's answers to requests that are all its own, in batches as they come.

        `held` are the requests without an answer, which whoever takes a batch keeps up to date. A
        build that is stopped ends it with a `ModelError`: for a client that sends requests one by
        one when what is on its way was answered, for others at their next batch.
        """
        talk = _Talk(role, self.of(role), held)
        self._moved[id(talk.client)] = time.monotonic()
        self._talks[id(talk)] = talk
        try:
            for batch in talk.client.answer(sent):
                self._moved[id(talk.client)] = time.monotonic()
                yield batch
                if self.is_closed or not isinstance(talk.client, Sending):
                    self.refuse_stopped()
        finally:
            del self._talks[id(talk)]

    def health(self) -> tuple[Health, ...]:
        """How each endpoint is that was asked so far, of the models that are behind some."""
        return tuple(h for c in self._open() if isinstance(c, Watched) for h in c.health())

    @property
    def is_asking(self) -> bool:
        return bool(self._talks)

    @property
    def in_flight(self) -> int:
        """How many requests are with the models now."""
        own = sum(len(t.held) for t in self._talking() if not isinstance(t.client, Sending))
        return own + sum(len(each.waiting()) for each in self._open() if isinstance(each, Sending))

    def stalls(self) -> list[Stall]:
        """The models that have not answered for longer than their patience."""
        now = time.monotonic()
        asked = {id(talk.client): talk for talk in self._talking() if talk.held}
        return [
            stall(talk.role, self._specs[talk.role], talk.client, talk.held, quiet, now)
            for client, talk in asked.items()
            if (quiet := now - self._moved[client]) >= self._specs[talk.role].patience
        ]

    def stop(self) -> None:
        """Send nothing more. Calls take what is on its way and then end with a `ModelError`."""
        with self._lock:
            self.is_stopping = True
        for each in self._open():
            if isinstance(each, Sending):
                each.drain()

    def refuse_stopped(self) -> None:
        if self.is_closed or self.is_stopping:
            raise ModelError("the build was stopped; what was answered is kept: build again")

    def close(self) -> None:
        """Stop every engine and connection that was started, and whatever still asks."""
        self.given_up += self.in_flight
        with self._lock:
            self.is_closed = True
            clients = list(self.opened.values())
            self.opened.clear()
        for client in clients:
            client.close()

    def _open(self) -> list[Client]:
        with self._lock:
            return list(self.opened.values())

    def _talking(self) -> list[_Talk]:
        with self._lock:
            return list(self._talks.values())


def open_client(
    spec: ModelSpec, ledger: Ledger, roles: Mapping[str, ModelSpec], fresh: bool = False
) -> Client:
    """The client of a spec and of all `roles` that are served alike.

    Its engine or connections start with its first request. What runs for hours elsewhere is
    remembered beside the ledger; unless all is `fresh`, what others have brought from there
    meanwhile is not asked again. `ModelError` where this Python has not what it needs.
    """
    client = _made(spec, ledger, roles, fresh)
    if error := lacking(next(iter(roles), spec.model), spec):
        raise error
    return client


def _made(spec: ModelSpec, ledger: Ledger, roles: Mapping[str, ModelSpec], fresh: bool) -> Client:
    match spec.client:
        case "openai" if spec.mode == "batch":
            from prefdata.models.batch import BatchClient

            return BatchClient(spec, ledger, fresh=fresh)
        case "openai":
            from prefdata.models.openai import OpenAIClient

            return OpenAIClient(spec)
        case "embedded":
            from prefdata.models.embedded import EmbeddedClient

            return EmbeddedClient(spec)
        case "vllm":
            from prefdata.models.vllm import VLLMClient

            return VLLMClient(spec, roles)
        case "local":
            from prefdata.models.local import LocalClient

            return LocalClient(spec)
        case "scripted":
            from prefdata.models.scripted import ScriptedClient

            return ScriptedClient(spec)
