"""A Hub for dataset repositories on the loopback device, for the real `huggingface_hub` client.

What passes here shows that our calls run through that client and through `datasets`, in which
order, and what a push does when the other side fails. It does not show that the Hub would accept
them: this server knows only what is written below, from the client's own code and the Hub's
documentation. It has neither Xet storage (tests set `HF_HUB_DISABLE_XET`) nor parts of large
files, neither the Hub's rate limits nor its checks of a card beyond that it is YAML with mappings
for configs. It is stricter than a stub where that matters: bytes must have the digest and size that
were announced, a commit may name only bytes that are there, must have the parent that it says, and
deletes only what is there; a tag is made once; who has no right to a repository does not see it.

    with Hub() as hub:
        hub.fault("PUT /storage", "503", times=2)   # or "cut", "lost", "slow", "echo"
        ... hub.url, hub.seen("PUT /storage"), hub.repos["org/name"].heads

A fault strikes requests whose "METHOD /path" contains a text, `times` times or always: a status
with that answer; "cut" ends the connection at once, "lost" does what was asked and then ends it,
"slow" waits, "echo" answers 400 and repeats the header with the token.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_loopbackloopbackloopback"
OWNER = "org"  # the one account whose repositories TOKEN may write
ATTRIBUTES = b"*.arrow filter=lfs\n*.parquet filter=lfs\n"
REGULAR_BYTES = 10 << 20  # what is larger is not taken in the commit itself
SLOW = 0.3


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "", **more: str) -> None:
        self.status, self.message, self.code, self.more = status, message, code, more


@dataclass
class Repo:
    """Trees by commit, a file as its bytes with whether it is of the large ones."""

    private: bool
    trees: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, tree: dict[str, tuple[bytes, bool]], said: str) -> str:
        states = [f"{path} {hashlib.sha256(data).hexdigest()}" for path, (data, _) in tree.items()]
        told = [said, str(len(self.heads)), *self.heads[-1:], *sorted(states)]
        oid = hashlib.sha1("\n".join(told).encode()).hexdigest()
        self.trees[oid] = tree
        self.heads.append(oid)
        return oid

    def at(self, revision: str) -> str:
        oid = self.heads[-1] if revision == "main" else self.tags.get(revision, revision)
        if oid not in self.trees:
            raise Refused(404, f"no revision {revision}", "RevisionNotFound")
        return oid


class Hub:
    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[tuple[str, str, list[int]]] = []
        self.lock = threading.RLock()

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault(self, match: str, kind: str, times: int = 1 << 30) -> None:
        self.faults.append((match, kind, [times]))

    def reset(self) -> None:
        """Forget the faults and what was asked; repositories stay."""
        self.faults.clear()
        self.requests.clear()

    def seen(self, match: str) -> list[str]:
        return [each for each in self.requests if match in each]

    def make(self, name: str, *, private: bool = True, **files: bytes) -> Repo:
        """A repository that is there already."""
        self.repos[name] = repo = Repo(private)
        tree = {path: (data, False) for path, data in files.items()}
        repo.commit({".gitattributes": (ATTRIBUTES, False), **tree}, "initial commit")
        return repo

    def striking(self, request: str) -> str:
        with self.lock:
            for match, kind, left in self.faults:
                if match in request and left[0]:
                    left[0] -= 1
                    return kind
        return ""

    def answer(self, request: str, token: str, query: Mapping[str, list[str]], body: bytes) -> Any:
        """What is answered: JSON, or bytes with the headers of a file."""
        if token not in ("", TOKEN):
            raise Refused(401, "Invalid credentials in Authorization header")
        for pattern, what in ROUTES.items():
            if found := re.fullmatch(pattern, request):
                parts = [unquote(part) for part in found.groups()]
                return getattr(self, f"_{what}")(*parts, token=token, query=query, body=body)
        raise Refused(404, f"this Hub does not know {request}")

    def _repo(self, name: str, token: str, *, write: bool = False) -> Repo:
        repo = self.repos.get(name)
        if repo is None or (repo.private and not token):
            raise Refused(404, "Repository not found", "RepoNotFound")
        if write:
            self._may_write(name.partition("/")[0], token)
        return repo

    def _may_write(self, owner: str, token: str) -> None:
        if not token:
            raise Refused(401, "Invalid username or password.")
        if owner != OWNER:
            raise Refused(403, f"You don't have the rights to write to {owner}")

    def _create(self, *, token: str, body: bytes, **_: Any) -> Any:
        said = json.loads(body)
        name = f"{said['organization']}/{said['name']}"
        self._may_write(said["organization"], token)
        if name in self.repos:
            url = f"{self.url}/datasets/{name}"  # the client reads it from this answer
            raise Refused(409, "You already created this dataset repo", url=url)
        private = said.get("private", said.get("visibility") == "private")
        self.make(name, private=private)
        return {"url": f"{self.url}/datasets/{name}", "name": name}

    def _info(self, name: str, revision: str = "main", *, token: str, **_: Any) -> Any:
        repo = self._repo(name, token)
        oid = repo.at(revision)
        siblings = [{"rfilename": path} for path in repo.trees[oid]]
        said = {"private": repo.private, "disabled": False, "gated": False, "tags": []}
        return {"id": name, "_id": name, "sha": oid, "siblings": siblings, "downloads": 0, **said}

    def _refs(self, name: str, *, token: str, **_: Any) -> Any:
        repo = self._repo(name, token)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.heads[-1]}
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid}
            for tag, oid in repo.tags.items()
        ]
        return {"branches": [main], "converts": [], "tags": tags}

    def _tree(
        self,
        name: str,
        revision: str,
        under: str = "",
        *,
        token: str,
        query: Mapping[str, list[str]],
        **_: Any,
    ) -> Any:
        repo = self._repo(name, token)
        tree = repo.trees[repo.at(revision)]
        start = f"{under}/" if under else ""
        inside = [path for path in tree if path.startswith(start)]
        if under and not inside:
            raise Refused(404, f"no {under}", "EntryNotFound")
        deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {
            start + "/".join(parts[:at])
            for path in inside
            for parts in [path.removeprefix(start).split("/")]
            for at in range(1, len(parts))
            if deep or at == 1
        }
        listed = [path for path in inside if deep or "/" not in path.removeprefix(start)]
        return [
            *({"type": "directory", "path": each, "oid": "0" * 40} for each in sorted(folders)),
            *(_entry(path, *tree[path]) for path in sorted(listed)),
        ]

    def _paths(self, name: str, revision: str, *, token: str, body: bytes, **_: Any) -> Any:
        repo = self._repo(name, token)
        tree = repo.trees[repo.at(revision)]
        wanted = parse_qs(body.decode()).get("paths", [])
        found = [_entry(path, *tree[path]) for path in wanted if path in tree]
        inner = [each for each in wanted if any(path.startswith(f"{each}/") for path in tree)]
        return found + [{"type": "directory", "path": each, "oid": "0" * 40} for each in inner]

    def _preupload(self, name: str, revision: str, *, token: str, body: bytes, **_: Any) -> Any:
        repo = self._repo(name, token, write=True)
        tree = repo.trees[repo.at(revision)]
        files: list[dict[str, Any]] = []
        for each in json.loads(body)["files"]:
            path = each["path"]
            large = path.endswith((".arrow", ".parquet")) or each["size"] > REGULAR_BYTES
            oid = _entry(path, *tree[path])["oid"] if path in tree else None
            mode = "lfs" if large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def _batch(self, name: str, *, token: str, body: bytes, **_: Any) -> Any:
        self._repo(name, token, write=True)
        objects: list[dict[str, Any]] = []
        for each in json.loads(body)["objects"]:
            to = {"upload": {"href": f"{self.url}/storage/{each['oid']}/{each['size']}"}}
            missing = each["oid"] not in self.objects
            objects.append({**each, **({"actions": to} if missing else {})})
        return {"transfer": "basic", "objects": objects}

    def _store(self, oid: str, size: str, *, body: bytes, **_: Any) -> Any:
        if hashlib.sha256(body).hexdigest() != oid or len(body) != int(size):
            raise Refused(400, "these bytes are not those that were announced")
        self.objects[oid] = body
        return {}

    def _validate(self, *, body: bytes, **_: Any) -> Any:
        content = json.loads(body)["content"]
        found = re.match(r"---\n(.*?)\n---\n", content, re.S)
        said = yaml.safe_load(found[1]) if found else {}
        bad = not isinstance(said, dict) or not all(
            isinstance(each, dict) and each.get("data_files") for each in said.get("configs", [])
        )
        errors = [{"message": "configs need data_files"}] if bad else []
        return {"errors": errors, "warnings": []}

    def _commit(self, name: str, revision: str, *, token: str, body: bytes, **_: Any) -> Any:
        repo = self._repo(name, token, write=True)
        lines = [json.loads(line) for line in body.splitlines() if line]
        header = lines[0]["value"]
        if header.get("parentCommit", repo.heads[-1]) != repo.heads[-1]:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.trees[repo.at(revision)])
        for each in lines[1:]:
            kind, said = each["key"], each["value"]
            if kind == "file":
                tree[said["path"]] = (base64.b64decode(said["content"]), False)
            elif kind == "lfsFile":
                if said["oid"] not in self.objects:
                    raise Refused(400, f"the bytes of {said['path']} were not uploaded")
                tree[said["path"]] = (self.objects[said["oid"]], True)
            elif said["path"] not in tree:
                raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                del tree[said["path"]]
        oid = repo.commit(tree, header["summary"])
        return {"commitUrl": f"{self.url}/datasets/{name}/commit/{oid}", "commitOid": oid}

    def _tag(self, name: str, revision: str, *, token: str, body: bytes, **_: Any) -> Any:
        repo = self._repo(name, token, write=True)
        tag = json.loads(body)["tag"]
        if tag in repo.tags:
            raise Refused(409, f"Tag {tag} already exists")
        repo.tags[tag] = repo.at(revision)
        return {}

    def _file(self, name: str, revision: str, path: str, *, token: str, **_: Any) -> Any:
        repo = self._repo(name, token)
        oid = repo.at(revision)
        if path not in repo.trees[oid]:
            raise Refused(404, f"no {path}", "EntryNotFound")
        data, _ = repo.trees[oid][path]
        tag = hashlib.sha256(data).hexdigest()
        return data, {"X-Repo-Commit": oid, "ETag": f'"{tag}"', "X-Linked-Size": str(len(data))}


# What is answered to which request; the first that fits.
NAME = r"([^/]+/[^/]+)"
ROUTES = {
    r"POST /api/repos/create": "create",
    r"POST /api/validate-yaml": "validate",
    rf"GET /api/datasets/{NAME}": "info",
    rf"GET /api/datasets/{NAME}/revision/([^/]+)": "info",
    rf"GET /api/datasets/{NAME}/refs": "refs",
    rf"GET /api/datasets/{NAME}/tree/([^/]+)": "tree",
    rf"GET /api/datasets/{NAME}/tree/([^/]+)/(.+)": "tree",
    rf"POST /api/datasets/{NAME}/paths-info/([^/]+)": "paths",
    rf"POST /api/datasets/{NAME}/preupload/([^/]+)": "preupload",
    rf"POST /api/datasets/{NAME}/commit/([^/]+)": "commit",
    rf"POST /api/datasets/{NAME}/tag/([^/]+)": "tag",
    rf"POST /datasets/{NAME}\.git/info/lfs/objects/batch": "batch",
    r"PUT /storage/([0-9a-f]{64})/(\d+)": "store",
    rf"(?:GET|HEAD) /datasets/{NAME}/resolve/([^/]+)/(.+)": "file",
}


def _entry(path: str, data: bytes, large: bool) -> dict[str, Any]:
    sha = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {len(data)}\n"
    stored = pointer.encode() if large else data
    oid = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()
    lfs = {"oid": sha, "size": len(data), "pointerSize": len(stored)}
    said = {"type": "file", "path": path, "size": len(data), "oid": oid}
    return {**said, **({"lfs": lfs} if large else {})}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _serve(self) -> None:
            asked = urlsplit(self.path)
            request = f"{self.command} {asked.path}"
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = hub.striking(request)
            hub.requests.append(request)
            if fault == "slow":
                time.sleep(SLOW)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if fault == "cut":
                self.close_connection = True
                return self.connection.close()
            try:
                if fault.isdigit():
                    raise Refused(int(fault), "told to fail")
                if fault == "echo":
                    raise Refused(400, f"Authorization: {self.headers['Authorization']}")
                with hub.lock:
                    said = hub.answer(request, token, parse_qs(asked.query), body)
            except Refused as no:
                code = {"X-Error-Code": no.code} if no.code else {}
                message = no.message.replace("\n", " ")
                return self._send(
                    no.status, {"error": message} | no.more, {"X-Error-Message": message} | code
                )
            if fault == "lost":
                self.close_connection = True
                return self.connection.close()
            headers: Mapping[str, str] = {}
            if isinstance(said, tuple):
                said, headers = said
            return self._send(200, said, headers)

        def _send(self, status: int, said: Any, headers: Mapping[str, str]) -> None:
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            start, end, whole = 0, len(data), len(data)
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if wanted and isinstance(said, bytes):
                start = int(wanted[1])
                end = min(int(wanted[2]) + 1, whole) if wanted[2] else whole
                status, headers = (
                    206,
                    {**headers, "Content-Range": f"bytes {start}-{end - 1}/{whole}"},
                )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[start:end])

        do_GET = do_HEAD = do_POST = do_PUT = _serve

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
