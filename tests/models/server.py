"""A server of the chat-completions protocol on the loopback device, with repeatable replies.

A reply is a digest of what was asked, so any two runs get the same one, or what `answers` makes of
the request. It speaks chat completions (with `logprobs`, `response_format` JSON schemas, seeds),
embeddings, files and batches (see `batches.py`), notes every request, and misbehaves as told. In a
test:

    with Server() as server:                  # or Server(latency=0.05, scatter=0.2)
        server.fault("429", share=0.3, times=1, retry_after=0.1)
        ... server.url, server.seen()

or as a process of its own, which prints its base URL as its first line and serves until killed:

    python tests/models/server.py --port 0 --latency 0.05 --log requests.jsonl

Control over HTTP: POST /control/fault with a JSON object of `fault`'s arguments, POST
/control/batches with the `seconds`, `looks` or `queue` of batches, GET /control/seen, POST
/control/reset. A fault strikes a request whose text contains `match`, or a `share` of all by
digest, `times` times each (None: always), `total` times in all, or, with `anew`, that share of all
attempts: a status ("400", "401", "403", "404", "422", "429", "500", "503"), "cut" (the connection),
"stall" (never answers), "slow" (a second late), "malformed" (half a JSON), "html", "empty" (no
choices), "raw" (`body` with `status` and `headers`),
"filter" (finish_reason content_filter), "length", "refusal", "null" (no content), "wrong
id" (that of another reply), "duplicated" (every choice twice), "reordered" (the last choice first),
"single" (one choice whatever `n` is), "echo" (400 with the headers and the address in its message),
"parrot" (an answer that repeats the headers), "prose" (no JSON, whatever was asked for). `limit`
refuses with 429 what is more than so many at once, `key` with 401 who brings another key.
`requests` have what was said to each: "ok" or the fault; those about files and batches are in
`operations`, and are struck where `match` is in, say, "POST /v1/files" or where it is empty; "lost"
does what was asked and then cuts the connection.
"""

import argparse
import asyncio
import json
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.append(str(Path(__file__).parents[2]))  # where this file is run by its path
from tests.models.batches import OF_A_BATCH, Batches
from tests.models.replies import answered, content, digest, embedded, refusal, reply

OF_A_LINE = ("missing", "twice", "half a line", "unknown id", "last first")


@dataclass
class Fault:
    kind: str
    share: float = 1.0
    match: str = ""
    times: int | None = None
    anew: bool = False
    total: int | None = None
    retry_after: float | str | None = None
    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)

    def strikes(self, text: str, mark: str) -> bool:
        attempt = self.struck[mark]
        drawn = digest([self.kind, mark, attempt if self.anew else 0])
        self.struck[mark] += self.anew
        if self.match not in text or int(drawn[:8], 16) / 2**32 >= self.share or self.total == 0:
            return False
        self.total = None if self.total is None else self.total - 1
        self.struck[mark] += not self.anew
        return self.times is None or attempt < self.times


class Server:
    """The server in a thread of this process; `url` is its base URL."""

    def __init__(
        self,
        *,
        port: int = 0,
        latency: float = 0.0,
        scatter: float = 0.0,
        limit: int | None = None,
        key: str = "",
        secure: ssl.SSLContext | None = None,
        log: Path | None = None,
        batch_looks: int = 0,
        answers: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.limit = limit
        self.answers = answers
        self.key = key
        self._secure = secure
        self.latency = latency
        self.scatter = scatter
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self.operations: list[str] = []
        self._heard = ""
        self.batches = Batches(self._answer_line, self._strike_batch)
        self.batches.looks = batch_looks
        self.in_flight = 0
        self.most_in_flight = 0
        self._log = log.open("a") if log else None
        self._loop = asyncio.new_event_loop()
        self._port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait(10)
        self.url = f"http{'s' if secure else ''}://127.0.0.1:{self._port}/v1"

    def fault(self, kind: str, **how: Any) -> None:
        self.faults.append(Fault(kind, **how))

    def seen(self) -> Counter[str]:
        """How often each request was asked, by digest of its body."""
        return Counter(each["mark"] for each in self.requests)

    def asked(self) -> Counter[str]:
        """How often each conversation was asked, by its last message."""
        return Counter(each["body"]["messages"][-1]["content"] for each in self.requests)

    def reset(self) -> None:
        self.faults.clear()
        self.requests.clear()
        self.operations.clear()
        self.most_in_flight = 0

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        if self._log:
            self._log.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 28, middlewares=[self._operation])
        self.batches.mount(app)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_post("/classify", self._classify)
        app.router.add_post("/v1/score", self._classify)
        app.router.add_post("/score", self._classify)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/control/fault", self._on_fault)
        app.router.add_post("/control/batches", self._on_batches)
        app.router.add_post("/control/reset", self._on_reset)
        app.router.add_get("/control/seen", self._on_seen)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self._port, backlog=1024, ssl_context=self._secure)
        self._loop.run_until_complete(site.start())
        self._port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "repeatable"}]})

    async def _on_fault(self, request: web.Request) -> web.Response:
        self.fault(**await request.json())
        return web.json_response({})

    async def _on_batches(self, request: web.Request) -> web.Response:
        vars(self.batches).update(await request.json())
        return web.json_response({})

    async def _on_reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    async def _on_seen(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": len(self.requests),
                "most_in_flight": self.most_in_flight,
                "batches": self.batches.created,
                "seen": self.seen(),
            }
        )

    def _note(self, headers: Mapping[str, str], body: dict[str, Any]) -> dict[str, Any]:
        noted = {"at": time.time(), "mark": digest(body), "body": body, "said": "ok"}
        # Whether a key came is of interest, the key is not.
        noted["authorized"] = headers.get("Authorization", "").startswith("Bearer ")
        self.requests.append(noted)
        self._write(noted)
        return noted

    def _write(self, noted: dict[str, Any]) -> None:
        if self._log:
            self._log.write(json.dumps(noted) + "\n")
            self._log.flush()

    @web.middleware
    async def _operation(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """What is about files and batches, with the faults that it meets."""
        if not request.path.startswith(("/v1/files", "/v1/batches")):
            return await handler(request)
        what = f"{request.method} {request.path}"
        self.operations.append(what)
        self._heard = f"{request.url} {dict(request.headers)}"
        self._write({"operation": what})
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return self._refuse({}, "401")
        fault = self._struck(what, digest(what), OF_A_BATCH + OF_A_LINE)
        match fault.kind if fault else "":
            case "":
                return await handler(request)
            case "cut":
                return self._cut(request)
            case "lost":
                await handler(request)
                return self._cut(request)
            case "malformed":
                await handler(request)
                return web.Response(text='{"id": "ba', content_type="application/json")
            case "echo":
                return _echo(request)
            case status:
                assert fault is not None
                return self._refuse({}, status, fault.retry_after)

    @property
    def _repeated(self) -> dict[str, Any]:
        return {"content": self._heard}

    @staticmethod
    def _cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    def _struck(self, text: str, mark: str, but: tuple[str, ...] = ()) -> Fault | None:
        there = (each for each in self.faults if each.kind not in but)
        return next((each for each in there if each.strikes(text, mark)), None)

    def _strike_batch(self, text: str, kinds: tuple[str, ...]) -> str | None:
        there = [each for each in self.faults if each.kind in kinds]
        return next((each.kind for each in there if each.strikes(text, digest(text))), None)

    async def _answer_line(self, body: dict[str, Any], path: str) -> tuple[str, int, Any]:
        """A line of a batch, answered as it would have been alone."""
        if path == "/embeddings":
            noted = self._note({}, {**body, "messages": [{"content": str(body["input"])}]})
            text, made = str(body["input"]), embedded(body)
        else:
            noted = self._note({}, body)
            text = "\n".join(map(content, body["messages"]))
            made = reply(body, noted["mark"])
        fault = self._struck(text, noted["mark"], OF_A_BATCH)
        noted["said"] = said = fault.kind if fault else "ok"
        if said.isdecimal():
            return said, int(said), refusal(said)
        if said == "echo":
            return said, 400, {"error": {"message": self._heard}}
        if said == "parrot":
            return said, 200, json.loads(reply(body, noted["mark"], message=self._repeated).body)
        other = {} if path == "/embeddings" else answered(said, body, noted["mark"])
        return said, 200, other or json.loads(made.body)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        noted = self._note(request.headers, body)
        mark = noted["mark"]
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return self._refuse(noted, "401")
        if self.limit is not None and self.in_flight >= self.limit:
            return self._refuse(noted, "429")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency + self.scatter * int(mark[8:12], 16) / 65536)
            made = await self._misbehave(request, body, noted)
            if made is None and self.answers is not None:
                return reply(body, mark, message={"content": self.answers(body)})
            return made or reply(body, mark)
        finally:
            self.in_flight -= 1

    @staticmethod
    def _refuse(
        noted: dict[str, Any], status: str, retry_after: float | str | None = None
    ) -> web.Response:
        noted["said"] = status
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return web.json_response(refusal(status), status=int(status), headers=headers)

    async def _misbehave(
        self, request: web.Request, body: dict[str, Any], noted: dict[str, Any]
    ) -> web.StreamResponse | None:
        mark = noted["mark"]
        text = "\n".join(map(content, body["messages"]))
        fault = self._struck(text, mark, OF_A_BATCH + OF_A_LINE)
        if fault is None:
            return None
        noted["said"] = fault.kind
        match fault.kind:
            case "cut":
                return self._cut(request)
            case "stall":
                await asyncio.sleep(3600)
            case "malformed":
                return web.Response(text='{"choices": [{"mess', content_type="application/json")
            case "html":
                return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
            case "raw":
                told = {"Content-Type": "application/json", **fault.headers}
                return web.Response(text=fault.body, status=fault.status, headers=told)
            case "echo":
                return _echo(request)
            case "parrot":
                return reply(body, mark, message={"content": str(dict(request.headers))})
            case "slow":
                await asyncio.sleep(1)
                return None
            case kind:
                if other := answered(kind, body, mark):
                    return web.json_response(other)
                return self._refuse(noted, kind, fault.retry_after)
        return None

    async def _embed(self, request: web.Request) -> web.Response:
        body = await request.json()
        noted = self._note(request.headers, {**body, "messages": [{"content": str(body["input"])}]})
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return self._refuse(noted, "401")
        fault = self._struck(str(body["input"]), noted["mark"], OF_A_BATCH + OF_A_LINE)
        if fault and fault.kind == "cut":
            return self._cut(request)
        if fault and fault.kind.isdecimal():
            return self._refuse(noted, fault.kind, fault.retry_after)
        return embedded(body)

    async def _classify(self, request: web.Request) -> web.Response:
        """A reward is the length of what is judged, one of a pair by how much text_1 is longer."""
        body = await request.json()
        noted = self._note(request.headers, body)
        text = content(body["messages"][-1]) if "messages" in body else body["text_2"]
        fault = self._struck(text, noted["mark"], OF_A_BATCH + OF_A_LINE)
        if fault and fault.kind.isdecimal():
            return self._refuse(noted, fault.kind, fault.retry_after)
        if fault and fault.kind == "malformed":
            return web.json_response({"data": [{}]})
        if "messages" in body:
            labels = 2 if fault and fault.kind == "duplicated" else 1
            given: dict[str, Any] = {"probs": [float(len(text))] * labels, "num_classes": labels}
        else:
            given = {"score": float(len(body["text_1"]) - len(text)), "object": "score"}
        return web.json_response({"data": [given], "usage": {"prompt_tokens": 5}})


def _echo(request: web.Request) -> web.Response:
    """A server that says too much."""
    said = f"{request.url} {dict(request.headers)}"
    return web.json_response({"error": {"message": said}}, status=400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--scatter", type=float, default=0.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--batch-looks", type=int, default=0)
    given = parser.parse_args()
    server = Server(**vars(given))
    print(server.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
