"""A dataset repository of the Hub: what is in it, and the few things that a push does to it.

The only place that talks to the Hub, through `huggingface_hub`. Where it is says `HF_ENDPOINT`,
who asks `HF_TOKEN` and nothing else: no token of a login is taken. The token is never shown.
"""

# pyright: basic
# huggingface_hub is imported late, and its answers are plain data here

import hashlib
import json
import os
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from prefdata.errors import PushError
from prefdata.version.stored import MANIFEST

HUB = "https://huggingface.co"
PASSING = (408, 409, 412, 429)  # besides those from 500 on: the same again may be answered
SHOWN = 200  # characters of what the Hub says


class Passing(Exception):
    """The Hub did not answer as it does most of the time; the same again may."""


@dataclass(frozen=True)
class Held:
    """A file of a repository: its size and the digest that git or LFS has of it."""

    size: int
    blob: str
    sha256: str | None

    def is_of(self, stated: Mapping[str, Any], path: Path | None = None) -> bool:
        """Whether it is the file that a manifest states, as far as that can be told.

        Of a small file the Hub knows git's digest only: it is compared where the file is here.
        """
        if stated["bytes"] != self.size:
            return False
        if self.sha256 is not None:
            return self.sha256 == stated["sha256"]
        if path is None:
            return True
        data = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == self.blob


@dataclass(frozen=True)
class State:
    """A repository as it is; where there is none, or none to be seen, `head` is None."""

    head: str | None = None
    private: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


class Repository:
    """`org/name` of the Hub's datasets."""

    def __init__(self, name: str) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import validate_repo_id

        try:
            validate_repo_id(name)
        except ValueError as error:
            raise PushError(f"{name!r} names no repository: {error}") from error
        if name.count("/") != 1:
            raise PushError(f"{name!r} names no repository; write ORG/REPO or USER/REPO")
        self.name = name
        self.endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        if "@" in self.endpoint:
            raise PushError("HF_ENDPOINT has a login in it; the token belongs into HF_TOKEN")
        self._token = os.environ.get("HF_TOKEN", "").strip()
        self._api = HfApi(
            self.endpoint,
            token=self._token or False,
            library_name="prefdata",
            library_version=installed("prefdata"),
        )

    @property
    def has_token(self) -> bool:
        return bool(self._token)

    def url(self, revision: str = "") -> str:
        at = f"/tree/{revision}" if revision else ""
        return f"{self.endpoint}/datasets/{self.name}{at}"

    def state(self) -> State:
        """What is there now."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._answering("read"):
            try:
                info = self._api.repo_info(self.name, repo_type="dataset")
            except RepositoryNotFoundError:
                return State()
            refs = self._api.list_repo_refs(self.name, repo_type="dataset")
            tags = {each.name: each.target_commit for each in refs.tags}
            head = str(info.sha)
        return State(head, bool(info.private), tags)

    def files(self, revision: str) -> dict[str, Held]:
        """The files of a commit."""
        from huggingface_hub.hf_api import RepoFile

        with self._answering("read"):
            tree = self._api.list_repo_tree(
                self.name, repo_type="dataset", revision=revision, recursive=True
            )
            return {
                each.path: Held(each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
                for each in tree
                if isinstance(each, RepoFile)
            }

    def manifest(self, revision: str) -> dict[str, Any]:
        """The manifest of the version that a commit is; empty where that is none of ours."""
        with tempfile.TemporaryDirectory() as folder, self._answering("read"):
            path = self._api.hf_hub_download(
                self.name, MANIFEST, repo_type="dataset", revision=revision, local_dir=folder
            )
            try:
                said = json.loads(Path(path).read_text("utf-8"))
            except ValueError:
                return {}
        is_ours = isinstance(said, dict) and isinstance(said.get("files"), dict)
        return said if is_ours else {}

    def create(self, *, private: bool) -> None:
        with self._answering("create"):
            self._api.create_repo(self.name, repo_type="dataset", private=private, exist_ok=True)

    def upload(self, files: Mapping[str, Path]) -> list[Any]:
        """The bytes of those that are large; what a commit adds them all by.

        Bytes that are there already, from whichever commit or push, are not sent again.
        """
        from huggingface_hub import CommitOperationAdd

        added = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        with self._answering("write to"), _without_bars():
            self._api.preupload_lfs_files(self.name, added, repo_type="dataset", free_memory=False)
        return added

    def commit(
        self, said: str, added: Iterable[Any], removed: Iterable[str], parent: str | None
    ) -> str:
        """All at once or not at all, and only if `parent` is still the newest commit."""
        from huggingface_hub import CommitOperationDelete

        operations = [*added, *(CommitOperationDelete(path) for path in removed)]
        with self._answering("write to"), _without_bars():
            done = self._api.create_commit(
                self.name,
                operations,
                repo_type="dataset",
                commit_message=said,
                parent_commit=parent,
            )
        return str(done.oid)

    def tag(self, name: str, commit: str) -> None:
        with self._answering("write to"):
            self._api.create_tag(self.name, tag=name, revision=commit, repo_type="dataset")

    @contextmanager
    def _answering(self, doing: str) -> Generator[None]:
        """Whatever the client raises as `Passing` or `PushError`, without a token in it."""
        try:
            yield
        except Exception as error:
            status, said = _answer_of(error)
            if status is None and not _is_of_the_network(error):
                raise
            told = said.replace(self._token, "…") if self._token else said
            told = f": {told[:SHOWN]}" if told.strip() else ""
            if status is None:
                raise Passing(f"{self.endpoint} cannot be reached{told}") from None
            if status >= 500 or status in PASSING:
                raise Passing(f"{self.endpoint} answers {status}{told}") from None
            why = {
                401: "HF_TOKEN is not one that it knows",
                403: f"HF_TOKEN has no right to {doing} {self.name}",
                404: f"{self.name} is not there, or not to be seen with HF_TOKEN",
            }.get(status, f"it does not let us {doing} {self.name}")
            raise PushError(f"{self.endpoint} answers {status}{told}; {why}") from None


def _causes(error: BaseException | None) -> Generator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _answer_of(error: Exception) -> tuple[int | None, str]:
    """The status of the answer that led to an error, and what the Hub said in it."""
    for each in _causes(error):
        status = getattr(getattr(each, "response", None), "status_code", None)
        if status is not None:
            return status, str(getattr(each, "server_message", None) or "")
    return None, str(error)


def _is_of_the_network(error: Exception) -> bool:
    return any(
        isinstance(each, ConnectionError | TimeoutError)
        or type(each).__module__.partition(".")[0] in ("httpx", "httpx2", "requests")
        for each in _causes(error)
    )


@contextmanager
def _without_bars() -> Generator[None]:
    """The client draws no progress of its own: a push has one."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    were = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were:
            enable_progress_bars()
