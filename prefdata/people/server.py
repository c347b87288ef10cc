"""A running Label Studio, through the few calls that the loop needs.

`LABEL_STUDIO_URL` says where it is and `LABEL_STUDIO_API_KEY` has a token: a personal access token,
which is exchanged for one that lasts minutes, or a legacy one. Neither is ever written down.

Source: the API reference of https://labelstud.io; tried with label-studio 1.23.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib import error, parse, request

from prefdata.errors import ModelError, RecipeError
from prefdata.secrets import refuse_secrets

URL, KEY = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
TIMEOUT = 60.0
AT_ONCE = 250
PAGE = 100
TITLE = 50  # characters that a project's title may have

Row = dict[str, Any]


class Server:
    """A Label Studio server and a token for it."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self.url = (url or os.environ.get(URL) or "").rstrip("/")
        token = key or os.environ.get(KEY) or ""
        if not self.url.startswith(("http://", "https://")):
            raise RecipeError(f"where Label Studio runs is not known: give --url, or set {URL}")
        refuse_secrets("--url", self.url)
        if not token:
            raise RecipeError(f"{KEY} is not set; Label Studio has it in Account & Settings")
        self._authorization = f"Token {token}"
        if token.count(".") == 2:
            exchanged = self._call("POST", "/api/token/refresh", {"refresh": token}, signed=False)
            self._authorization = f"Bearer {exchanged['access']}"

    def project(self, mark: str, title: str, *, config: str, instruction: str, overlap: int) -> int:
        """The project that has the mark in its description; made if there is none."""
        wanted = {
            "label_config": config,
            "expert_instruction": instruction,
            "show_instruction": True,
            "maximum_annotations": overlap,
        }
        for project in self._projects():
            if project.get("description") == mark:
                changes = {k: v for k, v in wanted.items() if project.get(k) != v}
                if changes:
                    self._call("PATCH", f"/api/projects/{project['id']}", changes)
                return int(project["id"])
        made = {"title": title[:TITLE], "description": mark, **wanted}
        return int(self._call("POST", "/api/projects", made)["id"])

    def _projects(self) -> Iterator[Row]:
        page = 1
        while True:
            said = self._call("GET", f"/api/projects?page={page}&page_size={PAGE}")
            found = self._rows(cast(Row, said).get("results") if isinstance(said, dict) else said)
            yield from found
            if len(found) < PAGE:
                return
            page += 1

    def export(self, project: int) -> list[Row]:
        """Every task of a project, answered or not, with its annotations."""
        query = parse.urlencode({"exportType": "JSON", "download_all_tasks": "true"})
        return self._rows(self._call("GET", f"/api/projects/{project}/export?{query}"))

    def _rows(self, said: Any) -> list[Row]:
        found = cast(list[Any], said if isinstance(said, list) else [said])
        if found is not said or not all(isinstance(each, dict) for each in found):
            raise ModelError(
                f"{self.url}: expected a list of projects or tasks, found {str(found)[:80]}; is "
                "it Label Studio that runs there?"
            )
        return found

    def send(self, project: int, tasks: Sequence[Row]) -> int:
        """Send those tasks that are not there yet; their number."""
        there = {str(row.get("data", {}).get("task_id")) for row in self.export(project)}
        new = [task for task in tasks if task["data"]["task_id"] not in there]
        for at in range(0, len(new), AT_ONCE):
            part = new[at : at + AT_ONCE]
            said = self._call("POST", f"/api/projects/{project}/import", part)
            if said.get("task_count", len(part)) != len(part):
                raise ModelError(
                    f"{self.url}: of {len(part)} tasks Label Studio took {said['task_count']}; "
                    "sync again: what is there is not sent twice"
                )
        return len(new)

    def _call(self, method: str, path: str, body: Any = None, *, signed: bool = True) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if signed:
            headers["Authorization"] = self._authorization
        data = None if body is None else json.dumps(body).encode()
        asked = request.Request(f"{self.url}{path}", data, headers, method=method)
        place = f"{self.url}{path.partition('?')[0]}"
        try:
            with _OPENER.open(asked, timeout=TIMEOUT) as answer:
                return json.loads(answer.read() or b"null")
        except error.HTTPError as refused:
            raise ModelError(f"{place}: {_why(refused)}") from None
        except (OSError, ValueError) as failed:
            reason = getattr(failed, "reason", failed)
            raise ModelError(
                f"{place} cannot be reached or does not speak JSON: {reason}; is Label Studio "
                "running there?"
            ) from None


class _Stay(request.HTTPRedirectHandler):
    """No token goes to another place than the one that was named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = request.build_opener(_Stay)


def _why(refused: error.HTTPError) -> str:
    if refused.code in (401, 403):
        return f"{refused.code}: the token in {KEY} is not accepted there"
    try:
        said: Mapping[str, Any] = json.loads(refused.read(10_000))
        detail = said.get("validation_errors") or said.get("detail") or said
    except (ValueError, OSError, AttributeError):
        detail = refused.reason
    return f"{refused.code}: {str(detail)[:300]}"
