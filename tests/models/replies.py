"""What the protocol server says: repeatable replies, and those that are wrong in themselves."""

import hashlib
import json
from typing import Any

from aiohttp import web

WORDS = [
    *("the", "a", "river", "stone", "light", "quiet", "green", "paper", "moves", "holds"),
    *("under", "over", "small", "bright", "answer", "morning", "because", "water", "never"),
]


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def content(message: dict[str, Any]) -> str:
    """What a message says, whether it is one text or parts of it."""
    said = message["content"]
    return said if isinstance(said, str) else "".join(part.get("text", "") for part in said)


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


def embedded(body: dict[str, Any]) -> web.Response:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"object": "embedding", "index": i, "embedding": _vector(each)}
        for i, each in enumerate(texts)
    ]
    data.reverse()  # the protocol promises an index, not an order
    usage = {"prompt_tokens": sum(len(t.split()) for t in texts), "total_tokens": 0}
    return web.json_response({"object": "list", "data": data, "usage": usage})


def refusal(status: str) -> dict[str, Any]:
    return {"error": {"message": f"told to answer {status}", "type": "planted", "code": None}}


def answered(kind: str, body: dict[str, Any], mark: str) -> dict[str, Any] | None:
    """The reply with a fault that lies in the reply itself; None for any other."""
    choices = [choice(body, mark, index) for index in range(body.get("n", 1))]
    others: dict[str, dict[str, Any]] = {
        "empty": {"choices": []},
        "filter": {"finish_reason": "content_filter"},
        "refusal": {"message": {"content": None, "refusal": "I cannot do that."}},
        "null": {"message": {"content": None}},
        "length": {"finish_reason": "length"},
        "prose": {"message": {"content": "I would rather say it in my own words."}},
        "wrong id": {"id": digest(mark)[:12]},
        "duplicated": {"choices": [each for each in choices for _ in range(2)]},
        "reordered": {"choices": choices[::-1]},
        "single": {"choices": choices[:1]},
    }
    return json.loads(reply(body, mark, **others[kind]).body) if kind in others else None


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
    written = {each["index"]: each["message"]["content"] or "" for each in choices}
    return web.json_response(
        {
            "id": other.get("id", mark[:12]),
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": choices,
            "usage": {
                "prompt_tokens": sum(len(content(m).split()) for m in body["messages"]),
                "completion_tokens": sum(len(each.split()) for each in written.values()),
                "total_tokens": 0,
            },
        }
    )
