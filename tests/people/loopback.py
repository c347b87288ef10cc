"""A server that speaks the part of Label Studio's documented API that the loop uses.

It proves that the calls run, send nothing twice and hold no token in their addresses; that Label
Studio takes them so is proved by `test_running.py`, which needs the real one.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "planted-token-0123456789"
Row = dict[str, Any]


class Studio:
    """The state of the server: its projects, their tasks, every request's line."""

    def __init__(self) -> None:
        self.projects: dict[int, Row] = {}
        self.tasks: dict[int, list[Row]] = {}
        self.lines: list[str] = []
        self.refuse_import_after: int | None = None

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        match method, path.strip("/").split("/")[1:]:
            case "POST", ["token", "refresh"]:
                return {"access": f"short-{body['refresh']}"}
            case "GET", ["projects"]:
                page, size = int(query["page"][0]), int(query["page_size"][0])
                found = list(self.projects.values())
                return {"count": len(found), "results": found[(page - 1) * size : page * size]}
            case "POST", ["projects"]:
                if not 3 <= len(body["title"]) <= 50:
                    return 400, {"validation_errors": {"title": ["is too long"]}}
                id = len(self.projects) + 1
                self.projects[id] = {"id": id, **body}
                self.tasks[id] = []
                return self.projects[id]
            case "PATCH", ["projects", id]:
                self.projects[int(id)] |= body
                return self.projects[int(id)]
            case "POST", ["projects", id, "import"]:
                there = self.tasks[int(id)]
                if self.refuse_import_after is not None and len(there) >= self.refuse_import_after:
                    return 500, {"detail": "planted failure"}
                names = re.findall(r'value="\$(\w+)"', self.projects[int(id)]["label_config"])
                for task in body:
                    if missing := set(names) - task["data"].keys():
                        return 400, {"detail": f"{missing} not in the task"}
                    there.append({"id": len(there) + 1, "annotations": [], **task})
                return {"task_count": len(body)}
            case "GET", ["projects", id, "export"]:
                assert query == {"exportType": ["JSON"], "download_all_tasks": ["true"]}
                return self.tasks[int(id)]
        return 404, {"detail": f"no {method} {path}"}

    def annotate(self, task: Row, by: int, answer: str | None, **more: Any) -> Row:
        """What the page sends when somebody answers, or skips where `answer` is None."""
        result = {
            "from_name": "answer_helpfulness", "to_name": "prompt", "type": "choices",
            "value": {"choices": [answer]},
        }  # fmt: skip
        made = {
            "id": 1000 * task["id"] + len(task["annotations"]), "completed_by": by,
            "was_cancelled": answer is None, "result": [] if answer is None else [result],
            "lead_time": 7.25, "created_at": "2026-01-31T12:00:00.123456Z",
            "updated_at": "2026-01-31T12:00:07.123456Z", **more,
        }  # fmt: skip
        task["annotations"].append(made)
        return made


@contextmanager
def running() -> Iterator[tuple[str, Studio]]:
    studio = Studio()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            studio.lines.append(self.requestline)
            split = urlsplit(self.path)
            body = json.loads(
                self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null"
            )
            signed = self.headers.get("Authorization") in (f"Token {TOKEN}", "Bearer short-a.b.c")
            if split.path == "/api/token/refresh" or signed:
                said = studio.answer(self.command, split.path, parse_qs(split.query), body)
            else:
                said = 401, {"detail": "Invalid token."}
            code, answer = said if isinstance(said, tuple) else (200, said)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = _handle

        def log_message(self, *_: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", studio
        finally:
            server.shutdown()
