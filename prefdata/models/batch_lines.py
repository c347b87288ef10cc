"""The lines of a batch's files: what is uploaded, and what is read of output and errors.

    {"custom_id": <request_id>, "method": "POST", "url": "/v1/chat/completions", "body": {...}}
    {"custom_id": <request_id>, "response": {"status_code": 200, "body": {...}}, "error": null}

A line that comes back stands for itself: one that is no JSON, or names nobody who was asked, says
nothing, and of several about one request the first with an answer counts.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from prefdata.models import chat
from prefdata.models.chat import Trouble
from prefdata.models.endpoint import Endpoint

# The protocol's bounds of one file.
MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
# Somebody has stopped it on purpose: it is asked again by the next build, not by this one.
CANCELLED = Trouble("batch cancelled", again=False)
EXPIRED = Trouble("batch expired")
FORGOTTEN = Trouble("batch gave no result")
# More is under way than the provider allows; with less it is taken.
QUEUE_FULL = "batch queue is full"

Row = Mapping[str, Any]
Outcome = dict[str, Any] | Trouble


def where(row: Row) -> str:
    """The address that a request is meant for, as a batch names it."""
    return f"/v1{chat.path(row)}"


def line(row: Row, model: str) -> bytes:
    asked = {
        "custom_id": row["request_id"],
        "method": "POST",
        "url": where(row),
        "body": chat.body(row, model),
    }
    return json.dumps(asked).encode() + b"\n"


def cut(rows: Iterable[Row], model: str, most: int) -> Iterator[list[Row]]:
    """Rows that one file may hold, in order: of one address, within its bounds."""
    files: dict[str, list[Row]] = {}
    sizes: Counter[str] = Counter()
    for row in rows:
        at, size = where(row), len(line(row, model))
        full = len(files.get(at, ())) >= min(most, MOST_REQUESTS)
        if full or (sizes[at] and sizes[at] + size > MOST_BYTES):
            yield files.pop(at)
            sizes[at] = 0
        files.setdefault(at, []).append(row)
        sizes[at] += size
    yield from files.values()


def read(raw: bytes, rows: Mapping[str, Row], endpoint: Endpoint) -> tuple[str, Outcome]:
    """Whom a line is about and what it says; "" where it is about nobody who was asked."""
    try:
        said: Any = json.loads(endpoint.without_secrets(raw))
        asked = rows[said["custom_id"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", FORGOTTEN
    return asked["request_id"], _outcome(asked, said, endpoint)


def names_any(file: Iterable[bytes], known: Container[str]) -> bool:
    """Whether any line of a file is about somebody known; reads no further than the first."""
    return any(each in known for each in named(file))


def named(file: Iterable[bytes]) -> Iterator[str]:
    """Whom the lines of a file are about."""
    for raw in file:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            yield str(json.loads(raw)["custom_id"])


def _outcome(asked: Row, said: Mapping[str, Any], endpoint: Endpoint) -> Outcome:
    given: Any = said.get("response")
    response = cast(dict[str, Any], given if isinstance(given, dict) else {})
    status = response.get("status_code")
    if status == 200:
        try:
            return chat.read([asked], response.get("body"))[0]
        except Trouble as trouble:
            return trouble
    if isinstance(status, int):
        content = json.dumps(response.get("body")).encode()
        trouble = endpoint.trouble(status, {}, content)
        if trouble.unusable:  # here it is one row's answer, and no complaint about the endpoint
            return Trouble(f"bad request ({status}): {endpoint.said(content)}", again=False)
        return trouble
    return _without_response(said.get("error"), endpoint)


def _without_response(error: Any, endpoint: Endpoint) -> Trouble:
    match cast(dict[str, Any], error).get("code") if isinstance(error, dict) else None:
        case "batch_expired":
            return EXPIRED
        case "batch_cancelled":
            return CANCELLED
        case _:
            return Trouble(f"batch gave an error: {_message(error, endpoint)}")


def why_none(
    batch: Mapping[str, Any], ids: Sequence[str], endpoint: Endpoint
) -> dict[str, Trouble]:
    """Why requests may be in none of a batch's files; those that lines say more about, too.

    A batch that failed as a whole names the lines at fault, or is at fault itself.
    """
    match batch.get("status"):
        case "cancelled":
            return dict.fromkeys(ids, CANCELLED)
        case "expired":
            return dict.fromkeys(ids, EXPIRED)
        case "failed":
            return _failed(batch, ids, endpoint)
        case _:
            return dict.fromkeys(ids, FORGOTTEN)


def _failed(batch: Mapping[str, Any], ids: Sequence[str], endpoint: Endpoint) -> dict[str, Trouble]:
    listed: Any = chat.table(batch.get("errors")).get("data")
    listed = cast(list[Any], listed) if isinstance(listed, list) else []
    found = [row for each in listed if (row := chat.table(each))]
    at_fault: dict[str, Trouble] = {}
    for each in found:
        at = each.get("line")
        if isinstance(at, int) and 0 < at <= len(ids):
            reason = f"bad request (batch): {_message(each, endpoint)}"
            at_fault[ids[at - 1]] = Trouble(reason, again=False)
    if at_fault:
        return dict.fromkeys(ids, FORGOTTEN) | at_fault
    full = any("limit" in str(each.get("code")) for each in found)
    what = QUEUE_FULL if full else "batch failed"
    return dict.fromkeys(ids, Trouble(f"{what}: {_message(found[0] if found else None, endpoint)}"))


def _message(error: Any, endpoint: Endpoint) -> str:
    return endpoint.said(json.dumps({"error": error}).encode())
