"""Files and batches of one endpoint: hand requests over, find a batch again, wait, fetch.

Whatever may pass is tried again with pauses; what does not is a `Trouble`.
"""

import asyncio
import io
import json
import logging
import math
import tempfile
from collections.abc import Callable, Container, Coroutine, Mapping
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

import aiohttp

from prefdata.errors import ModelError
from prefdata.models import batch_lines as lines
from prefdata.models.chat import Trouble, table
from prefdata.models.endpoint import Endpoint
from prefdata.models.journal import Entry
from prefdata.models.lane import pause
from prefdata.models.spec import ModelSpec
from prefdata.whole import writable

WINDOW = "24h"
FIRST_POLL, LONGEST_POLL = 0.25, 60.0
# So many looks at a batch that fail in a row, some ten minutes of them, end the wait.
POLLS = 30
# So often is a file fetched that says nothing.
TRIES = 3
# The provider's clock may differ from ours by so much, when its list is searched.
SKEW = 24 * 3600.0
OVER = ("completed", "failed", "expired", "cancelled")

Batch = dict[str, Any]
_log = logging.getLogger(__name__)


class Doubtful(Trouble):
    """It is not known whether a batch was made."""


class Provider:
    """One endpoint of a model. `folder` is for files on their way."""

    def __init__(self, spec: ModelSpec, url: str | None, key_env: str | None, folder: Path) -> None:
        self.endpoint = Endpoint(spec, url, key_env)
        self.url = self.endpoint.url
        self._spec = spec
        self._folder = folder
        self._patient = aiohttp.ClientTimeout(
            total=None,
            sock_connect=spec.connect_timeout,
            sock_read=spec.read_timeout or spec.timeout,
        )

    async def create(self, entry: Entry) -> None:
        """Upload the requests and make a batch of them, once, however often it takes to say so.

        `Doubtful` where it is not known whether there is one now.
        """
        doubtful = False

        async def once() -> str:
            nonlocal doubtful
            if doubtful and (known := await self.known(entry)):
                return known
            doubtful = True
            try:
                return _id(await self.endpoint.call("POST", "/batches", data=asked))
            except Trouble as trouble:
                doubtful = trouble.status is None or trouble.status >= 500
                raise

        try:
            file = await self._insist(lambda: self._upload(entry))
            entry.note(file=file)
            wanted = {"input_file_id": file, "endpoint": entry.where, "completion_window": WINDOW}
            asked = json.dumps({**wanted, "metadata": {"prefdata": entry.key}}).encode()
            entry.note(batch=await self._insist(once))
        except Trouble as trouble:
            if doubtful:
                try:
                    known = await self.known(entry)
                except Trouble as unknown:
                    raise Doubtful(unknown.reason, unusable=unknown.unusable) from trouble
                if known:
                    return entry.note(batch=known)
            raise

    async def known(self, entry: Entry) -> str | None:
        """The batch that the provider lists with the entry's key; None where there is none."""
        made = await self._listed(entry)
        return _id(made) if made else None

    async def made(self, entry: Entry) -> Batch | None:
        """The batch of a damaged entry, if it is one of this provider's."""
        if not entry.batch:
            return await self._listed(entry)
        try:
            return await self._get(f"/batches/{quote(entry.batch, safe='')}", _is_batch)
        except Trouble as trouble:
            if trouble.status != 404:
                raise
            return None

    async def asked(self, batch: Batch, wanted: Container[str]) -> list[str]:
        """Whom a batch is about, by the file that was handed over or those that came of it."""
        ids: dict[str, None] = {}
        for what in ("input", "output", "error"):
            with await self.fetched(batch.get(f"{what}_file_id"), wanted) as file:
                ids |= dict.fromkeys(lines.named(file))
        return list(ids)

    async def _listed(self, entry: Entry) -> Batch | None:
        oldest, after = entry.begun / 1000 - SKEW, dict[str, str]()
        while True:
            try:
                page = await self._get("/batches", _is_page, {"limit": "100", **after})
            except Trouble as trouble:
                if trouble.status not in (404, 405, 501):
                    raise
                return self._does_not_list()
            listed: list[Batch] = [each for each in page["data"] or () if table(each)]
            for each in listed:
                if table(each.get("metadata")).get("prefdata") == entry.key:
                    return each
            if not listed or not page.get("has_more") or _made_at(listed[-1]) < oldest:
                return None
            before, after = after, {"after": _id(listed[-1])}
            if after == before:  # it is the same page again
                return self._does_not_list()

    def _does_not_list(self) -> None:
        _log.warning("%s does not list its batches: not known whether it took one on", self.url)

    async def finished(self, entry: Entry, show: Callable[[Batch], None]) -> Batch:
        """The batch as it is when nothing more will come of it."""
        pause = FIRST_POLL
        where = f"/batches/{quote(entry.batch, safe='')}"
        show({"status": "submitted"})
        while True:
            try:
                batch = await self._get(where, _is_batch, most=POLLS)
            except Trouble as trouble:
                if trouble.status != 404:
                    raise
                _log.warning("%s%s is not known there any more", self.url, where)
                return {"status": "expired"}
            show(batch)
            if batch["status"] in OVER:
                return batch
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, LONGEST_POLL)

    async def fetched(self, file_id: str | int | None, known: Container[str]) -> IO[bytes]:
        """A file of the provider's, whole; empty where there is none, or none any more.

        One that says nothing of anybody known is taken for a page of something in between, and
        fetched again a few times.
        """
        tries = 0

        async def once() -> IO[bytes]:
            nonlocal tries
            tries += 1
            with writable(self._folder, ModelError):
                file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115

            async def save(reply: aiohttp.ClientResponse) -> None:
                async for chunk in reply.content.iter_chunked(1 << 18):
                    with writable(self._folder, ModelError):
                        file.write(chunk)

            if not file_id:
                return file
            try:
                where = f"/files/{quote(str(file_id), safe='')}/content"
                await self.endpoint.call("GET", where, take=save, timeout=self._patient)
            except Trouble as trouble:
                if trouble.status != 404:
                    file.close()
                    raise
            if (
                tries <= min(TRIES, self._spec.retries)
                and file.tell()
                and not lines.names_any(_rewound(file), known)
            ):
                file.close()
                raise Trouble("malformed reply")
            return _rewound(file)

        return await self._insist(once)

    async def _upload(self, entry: Entry) -> str:
        file = io.BytesIO()  # aiohttp may still read it when the reply is there
        for row in entry.requests.iter_rows(named=True):
            file.write(lines.line(row, self._spec.model))
        file.seek(0)
        form = aiohttp.MultipartWriter("form-data")
        form.append("batch").set_content_disposition("form-data", name="purpose")
        part = form.append(file)
        part.set_content_disposition("form-data", name="file", filename=f"{entry.key}.jsonl")
        headers = {"Content-Type": form.content_type}
        how: dict[str, Any] = {"data": form, "headers": headers, "timeout": self._patient}
        return _id(await self.endpoint.call("POST", "/files", **how))

    async def _get(
        self,
        path: str,
        is_whole: Callable[[Mapping[str, Any]], bool],
        params: Mapping[str, str] | None = None,
        *,
        most: int | None = None,
    ) -> Batch:
        """What is there; what is not whole is taken for a page of something in between."""

        async def once() -> Batch:
            said = await self.endpoint.call("GET", path, params=params)
            if not is_whole(table(said)):
                raise Trouble("malformed reply")
            return cast(Batch, said)

        return await self._insist(once, most)

    async def _insist(
        self, doing: Callable[[], Coroutine[Any, Any, Any]], most: int | None = None
    ) -> Any:
        """Do what may fail for a while, with pauses; the last `Trouble` where it does not pass."""
        failures, waited = 0, 0.0
        while True:
            try:
                return await doing()
            except Trouble as failed:
                trouble = failed
            failures += 1
            patient = trouble.limited and waited < self._spec.timeout
            tired = failures > (self._spec.retries if most is None else most) and not patient
            if trouble.unusable or not trouble.again or tired:
                raise trouble
            wait = pause(failures, trouble.wait)
            waited += wait
            await asyncio.sleep(wait)


def _rewound(file: Any) -> IO[bytes]:
    file.seek(0)
    return file


def _is_page(said: Mapping[str, Any]) -> bool:
    """A page of a list. Without its `data` it is none, and says nothing about who is not on it."""
    return "data" in said and isinstance(said["data"], list | None)


def _is_batch(said: Mapping[str, Any]) -> bool:
    """A batch, whose status says when it is over, and whose files have names that can be asked."""
    files = (said.get("output_file_id"), said.get("error_file_id"))
    named = all(isinstance(each, str | int | None) for each in files)
    status = said.get("status")
    return named and isinstance(status, str) and status != ""


def _id(made: Any) -> str:
    named = table(made).get("id")
    if not named or not isinstance(named, str | int):
        raise Trouble("malformed reply")
    return str(named)


def _made_at(batch: Mapping[str, Any]) -> float:
    """Where it does not say so it is not old: the search goes on."""
    made = batch.get("created_at")
    return float(made) if isinstance(made, int | float) else math.inf
