"""A server of the chat-completions protocol on the loopback device, with repeatable replies.

A reply is a digest of what was asked, so any two runs get the same one. It speaks chat completions
(with `logprobs`, `response_format` JSON schemas, seeds) and embeddings, notes every request, and
misbehaves as told. In a test:

    with Server() as server:                  # or Server(latency=0.05, scatter=0.2)
        server.fault("429", share=0.3, times=1, retry_after=0.1)
        ... server.url, server.seen()

or as a process of its own, which prints its base URL as its first line and serves until killed:

    python tests/models/server.py --port 0 --latency 0.05 --log requests.jsonl

Control over HTTP: POST /control/fault with a JSON object of `fault`'s arguments, GET /control/seen,
POST /control/reset. A fault strikes a request whose text contains `match`, or a `share` of all by
digest, `times` times each (None: always), or, with `anew`, that share of all attempts: a status
("400", "401", "403", "404", "422", "429", "500", "503"), "cut" (the connection), "stall" (never
answers), "slow" (a second late), "malformed" (half a JSON), "html", "empty" (no choices), "filter"
(finish_reason content_filter), "length", "refusal", "null" (no content), "wrong id" (that of
another reply), "duplicated" (every choice twice), "reordered" (the last choice first), "single"
(one choice whatever `n` is). `limit` refuses with 429 what is more than so many at once, `key` with
401 who brings another key. `requests` have what was said to each: "ok" or the fault.
"""

import argparse
import asyncio
import hashlib
import json
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS = [
    *("the", "a", "river", "stone", "light", "quiet", "green", "paper", "moves", "holds"),
    *("under", "over", "small", "bright", "answer", "morning", "because", "water", "never"),
]


@dataclass
class Fault:
    kind: str
    share: float = 1.0
    match: str = ""
    times: int | None = None
    anew: bool = False
    retry_after: float | str | None = None
    struck: Counter[str] = field(default_factory=Counter)

    def strikes(self, text: str, mark: str) -> bool:
        attempt = self.struck[mark]
        drawn = digest([self.kind, mark, attempt if self.anew else 0])
        self.struck[mark] += self.anew
        if self.match not in text or int(drawn[:8], 16) / 2**32 >= self.share:
            return False
        self.struck[mark] += not self.anew
        return self.times is None or attempt < self.times


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def prose(mark: str, n: int) -> str:
    picked = [WORDS[int(mark[i % 60 : i % 60 + 3], 16) % len(WORDS)] for i in range(n)]
    return " ".join(picked).capitalize() + "."


def well_formed(schema: dict[str, Any], mark: str) -> Any:
    """A value that the schema allows, chosen by the digest."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][int(mark[:8], 16) % len(schema["enum"])]
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return {k: well_formed(s, digest([mark, k])) for k, s in properties.items()}
    if schema.get("type") == "array":
        return [well_formed(schema.get("items", {}), digest([mark, 0]))]
    if schema.get("type") in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 10)
        return int(low) + int(mark[:8], 16) % (int(high) - int(low) + 1)
    return prose(mark, 6)


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
    ) -> None:
        self.limit = limit
        self.key = key
        self._secure = secure
        self.latency = latency
        self.scatter = scatter
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
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
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/control/fault", self._on_fault)
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

    async def _on_reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    async def _on_seen(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": len(self.requests),
                "most_in_flight": self.most_in_flight,
                "seen": self.seen(),
            }
        )

    def _note(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        noted = {"at": time.time(), "mark": digest(body), "body": body, "said": "ok"}
        # Whether a key came is of interest, the key is not.
        noted["authorized"] = request.headers.get("Authorization", "").startswith("Bearer ")
        self.requests.append(noted)
        if self._log:
            self._log.write(json.dumps(noted) + "\n")
            self._log.flush()
        return noted

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        noted = self._note(request, body)
        mark = noted["mark"]
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return self._refuse(noted, "401")
        if self.limit is not None and self.in_flight >= self.limit:
            return self._refuse(noted, "429")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency + self.scatter * int(mark[8:12], 16) / 65536)
            return await self._misbehave(request, body, noted) or reply(body, mark)
        finally:
            self.in_flight -= 1

    @staticmethod
    def _refuse(
        noted: dict[str, Any], status: str, retry_after: float | str | None = None
    ) -> web.Response:
        noted["said"] = status
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        error = {"message": f"told to answer {status}", "type": "planted", "code": None}
        return web.json_response({"error": error}, status=int(status), headers=headers)

    async def _misbehave(
        self, request: web.Request, body: dict[str, Any], noted: dict[str, Any]
    ) -> web.StreamResponse | None:
        mark = noted["mark"]
        text = "\n".join(m["content"] for m in body["messages"])
        fault = next((each for each in self.faults if each.strikes(text, mark)), None)
        if fault is None:
            return None
        noted["said"] = fault.kind
        choices = [choice(body, mark, index) for index in range(body.get("n", 1))]
        match fault.kind:
            case "cut":
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            case "stall":
                await asyncio.sleep(3600)
            case "malformed":
                return web.Response(text='{"choices": [{"mess', content_type="application/json")
            case "html":
                return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
            case "empty":
                return reply(body, mark, choices=[])
            case "filter":
                return reply(body, mark, finish_reason="content_filter")
            case "refusal":
                return reply(body, mark, message={"content": None, "refusal": "I cannot do that."})
            case "null":
                return reply(body, mark, message={"content": None})
            case "slow":
                await asyncio.sleep(1)
            case "length":
                return reply(body, mark, finish_reason="length")
            case "wrong id":
                return reply(body, mark, id=digest(mark)[:12])
            case "duplicated":
                return reply(body, mark, choices=[each for each in choices for _ in range(2)])
            case "reordered":
                return reply(body, mark, choices=choices[::-1])
            case "single":
                return reply(body, mark, choices=choices[:1])
            case status:
                return self._refuse(noted, status, fault.retry_after)
        return None

    async def _embed(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._note(request, {**body, "messages": [{"content": str(body["input"])}]})
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [
            {"object": "embedding", "index": i, "embedding": _vector(text)}
            for i, text in enumerate(texts)
        ]
        data.reverse()  # the protocol promises an index, not an order
        usage = {"prompt_tokens": sum(len(t.split()) for t in texts), "total_tokens": 0}
        return web.json_response({"object": "list", "data": data, "usage": usage})


def _vector(text: str) -> list[float]:
    return [(byte - 128) / 128 for byte in hashlib.sha256(text.encode()).digest()[:8]]


def choice(body: dict[str, Any], mark: str, index: int = 0, **other: Any) -> dict[str, Any]:
    """One choice of a reply; the first is the same whatever `n` is."""
    mark = digest([mark, index]) if index else mark
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    said = json.dumps(well_formed(schema, mark)) if schema else prose(mark, 24)
    message = {"role": "assistant", "content": said, **other.get("message", {})}
    made = {
        "index": index,
        "message": message,
        "finish_reason": other.get("finish_reason", "stop"),
    }
    if body.get("logprobs"):
        tokens = [" A", "B", "A", " B", "The", "\n"][: body.get("top_logprobs", 0)]
        top = [{"token": t, "logprob": -0.5 - i, "bytes": None} for i, t in enumerate(tokens)]
        made["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return made


def reply(body: dict[str, Any], mark: str, **other: Any) -> web.Response:
    made = [choice(body, mark, index, **other) for index in range(body.get("n", 1))]
    choices = other.get("choices", made)
    texts = {each["index"]: each["message"]["content"] or "" for each in choices}
    return web.json_response(
        {
            "id": other.get("id", mark[:12]),
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": choices,
            "usage": {
                "prompt_tokens": sum(len(m["content"].split()) for m in body["messages"]),
                "completion_tokens": sum(len(text.split()) for text in texts.values()),
                "total_tokens": 0,
            },
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--scatter", type=float, default=0.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    server = Server(**vars(given))
    print(server.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
