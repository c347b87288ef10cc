"""Files and batches of the protocol server: uploaded, run after a while, fetched, listed.

A batch takes `seconds`, its counts growing evenly, and is over when somebody looks for the
`looks`-th time. A file or batch beyond what `queue` allows at once makes it fail. Each of its
lines is then asked as if it had come alone, in the eyes of `answer(body, path)`, which gives what
was said ("ok" or a fault), a status and a body. Faults of a line beside those of a request:
"missing" (no line), "twice", "half a line", "unknown id", "last first" (the lines in reverse);
of a batch, struck by the text of its file: "batch failed", "batch full", "batch expired" (half of
it is done), "batch cancelled" (likewise), "batch gone" (404), "no file" (404 for its output).
`shape(what, said)` may say otherwise: of a file ("file"), a batch that was "made" or is looked at
("batch"), and a page of the "list".
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

MOST = 50_000
Answer = Callable[[dict[str, Any], str], Awaitable[tuple[str, int, Any]]]
# Which of some kinds of fault strikes a text, if any.
Strike = Callable[[str, tuple[str, ...]], str | None]
OF_A_BATCH = (
    *("batch failed", "batch full", "batch expired", "batch cancelled", "batch gone", "no file"),
)


class Batches:
    """What was uploaded and what came of it, as long as the server lives."""

    def __init__(self, answer: Answer, strike: Strike) -> None:
        self.seconds = 0.0
        self.looks = 0
        self.queue: int | None = None
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.created = 0
        self.shape: Callable[[str, dict[str, Any]], Any] = lambda _, said: said
        self._answer, self._strike = answer, strike
        self._running = asyncio.Lock()

    def mount(self, app: web.Application) -> None:
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._retrieve)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        field: Any = form["file"]
        assert form["purpose"] == "batch"
        return self._say("file", self._keep(field.file.read(), "batch", field.filename))

    def _say(self, what: str, said: dict[str, Any]) -> web.Response:
        return web.json_response(self.shape(what, said))

    def _keep(self, content: bytes, purpose: str, name: str) -> dict[str, Any]:
        file_id = f"file-{hashlib.sha256(content).hexdigest()[:12]}{len(self.files)}"
        self.files[file_id] = content
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
        }

    async def _content(self, request: web.Request) -> web.Response:
        content = self.files.get(request.match_info["id"])
        if content is None:
            return _no("no such file", 404)
        return web.Response(body=content, content_type="application/octet-stream")

    async def _create(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        if wanted["input_file_id"] not in self.files:
            return _no("no such file", 400)
        self.created += 1
        made = {
            "id": f"batch_{self.created:04d}",
            "object": "batch",
            "endpoint": wanted["endpoint"],
            "input_file_id": wanted["input_file_id"],
            "completion_window": wanted["completion_window"],
            "created_at": int(time.time()),
            "metadata": wanted.get("metadata"),
            "status": "validating",
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "until": time.monotonic() + self.seconds,
            "looked": 0,
        }
        self.batches[made["id"]] = made
        return self._say("made", shown(made))

    async def _list(self, request: web.Request) -> web.Response:
        newest_first = list(self.batches.values())[::-1]
        after = request.query.get("after")
        names = [each["id"] for each in newest_first]
        start = names.index(after) + 1 if after in names else 0
        page = newest_first[start : start + int(request.query.get("limit", 20))]
        more = start + len(page) < len(newest_first)
        listed = {"object": "list", "data": [shown(each) for each in page], "has_more": more}
        return self._say("list", listed)

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None or batch["status"] == "gone":
            return _no("no such batch", 404)
        async with self._running:
            await self._look(batch)
        return self._say("batch", shown(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        async with self._running:
            if batch["status"] in ("validating", "in_progress"):
                await self._end(batch, "cancelled")
        return web.json_response(shown(batch))

    async def _look(self, batch: dict[str, Any]) -> None:
        """Bring a batch to where it would be by now."""
        if batch["status"] not in ("validating", "in_progress"):
            return
        content = self.files[batch["input_file_id"]]
        total = content.count(b"\n")
        if batch["status"] == "validating":
            complaint = faulty(content, batch["endpoint"])
            running = sum(b["status"] == "in_progress" for b in self.batches.values())
            if complaint or (self.queue is not None and (running or total > self.queue)):
                full = {"code": "token_limit_exceeded", "message": "Enqueued limit reached"}
                batch["status"], batch["errors"] = "failed", {"data": [complaint or full]}
                return
            batch["status"] = "in_progress"
        batch["looked"] += 1
        left = batch["until"] - time.monotonic()
        if left > 0 or batch["looked"] < self.looks:
            done = int(total * (1 - max(left, 0) / max(self.seconds, left, 1e-9)))
            batch["request_counts"] = {"total": total, "completed": done, "failed": 0}
            return
        kind = self._strike(content.decode(), OF_A_BATCH) or "completed"
        await self._end(batch, kind.removeprefix("batch "))

    async def _end(self, batch: dict[str, Any], status: str) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        total = len(lines)
        if status in ("failed", "full"):
            code = "token_limit_exceeded" if status == "full" else "internal_error"
            said = {"code": code, "message": f"told to be {status}"}
            batch["status"], batch["errors"] = "failed", {"data": [said]}
            return
        cut = status in ("expired", "cancelled")
        good, bad = await self._run(lines[: total // 2] if cut else lines, batch["endpoint"])
        for each in lines[total // 2 :] if cut else ():
            error = {"code": f"batch_{status}", "message": "This request was not executed."}
            said = {"custom_id": each["custom_id"], "response": None, "error": error}
            bad.append(json.dumps(said))
        batch["request_counts"] = {"total": total, "completed": len(good), "failed": len(bad)}
        for name, rows in (("output", good), ("error", bad)):
            if rows:
                content = "".join(f"{row}\n" for row in rows).encode()
                batch[f"{name}_file_id"] = self._keep(content, "batch_output", name)["id"]
        if status == "no file":
            self.files.pop(batch["output_file_id"], None)
            status = "completed"
        batch["status"] = status

    async def _run(self, lines: list[dict[str, Any]], endpoint: str) -> tuple[list[str], list[str]]:
        good: list[str] = []
        bad: list[str] = []
        turned = False
        for number, each in enumerate(lines):
            said, status, body = await self._answer(each["body"], endpoint.removeprefix("/v1"))
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            row = {"id": f"batch_req_{number}", "custom_id": each["custom_id"]}
            row |= {"response": response, "error": None}
            text = json.dumps(row)
            match said:
                case "missing":
                    continue
                case "half a line":
                    text = text[: len(text) // 2]
                case "unknown id":
                    text = json.dumps({**row, "custom_id": "somebody-else"})
                case "twice":
                    good.append(text)
                case "last first":
                    turned = True
                case _:
                    pass
            (good if status == 200 else bad).append(text)
        return (good[::-1], bad[::-1]) if turned else (good, bad)


def faulty(content: bytes, endpoint: str) -> dict[str, Any] | None:
    """What the provider refuses in a file before it runs any of it."""
    lines = [json.loads(line) for line in content.splitlines()]
    ids = [each["custom_id"] for each in lines]
    if len(lines) > MOST or len(content) > 200_000_000:
        return {"code": "too_large", "message": "too much in one file"}
    if len(set(ids)) < len(ids):
        return {"code": "duplicate_custom_id", "message": "an id stands twice"}
    if len({each["body"]["model"] for each in lines}) > 1:
        return {"code": "mismatched_model", "message": "one model a batch"}
    for number, each in enumerate(lines, 1):
        if each["url"] != endpoint or each["method"] != "POST":
            return {"code": "invalid_url", "message": "another endpoint", "line": number}
        if "bad line" in json.dumps(each["body"]):
            return {"code": "invalid_request", "message": "not understood", "line": number}
    return None


def shown(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in ("until", "looked")}


def _no(message: str, status: int) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "planted"}}, status=status)
