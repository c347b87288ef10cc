"""The words of the chat-completions protocol: a request as a body, a reply as a response.

Nothing here is sent; `openai.py` does that. What an answer is worth is decided here: a refusal or
a content filter is a reason and no answer, whatever text came along.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from prefdata.errors import ModelError
from prefdata.models.client import response

WANTS = ("text", "choice", "embedding")
# Without a constraint the log-probabilities are the model's own; under one, engines mask them.
TOP = 20
# Options of a judge or of sampling that mean nothing where something else is wanted.
_OURS = ("schema", "choices")


class Malformed(Exception):
    """A reply that is not what the protocol promises; asked again, then the row's reason."""


def path(want: str) -> str:
    return "/embeddings" if want == "embedding" else "/chat/completions"


def body(row: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The JSON body of a request; `ModelError` where the protocol has no words for it."""
    options = json.loads(row["options"])
    sent = {name: value for name, value in options.items() if name not in _OURS}
    match row["want"]:
        case "text":
            if schema := options.get("schema"):
                sent["response_format"] = _format(schema)
            return {"model": model, "messages": row["messages"], **sent}
        case "choice":
            sent.update(max_tokens=1, logprobs=True, top_logprobs=TOP)
            sent.pop("stop", None)
            return {"model": model, "messages": row["messages"], **sent}
        case "embedding":
            text = "\n\n".join(turn["content"] for turn in row["messages"])
            kept = {"dimensions": sent["dimensions"]} if "dimensions" in sent else {}
            return {"model": model, "input": text, "encoding_format": "float", **kept}
        case want:
            raise ModelError(
                f"the model {row['model']!r} was asked for {want!r}, but chat completions give "
                f"{', '.join(WANTS)}; use the client 'vllm' or 'local' for it"
            )


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    strict = schema.get("additionalProperties") is False
    named = {"name": "reply", "schema": schema, **({"strict": True} if strict else {})}
    return {"type": "json_schema", "json_schema": named}


def read(row: Mapping[str, Any], reply: Any) -> dict[str, Any]:
    """The response in a reply; `Malformed` where it is none."""
    if not isinstance(reply, dict):
        raise Malformed("malformed reply")
    whole = cast(dict[str, Any], reply)
    usage: dict[str, Any] = whole.get("usage") or {}
    tokens = {
        "tokens_in": int(usage.get("prompt_tokens") or 0),
        "tokens_out": int(usage.get("completion_tokens") or 0),
    }
    try:
        if row["want"] == "embedding":
            vector = [float(value) for value in whole["data"][0]["embedding"]]
            return response(row["request_id"], vector=vector, **tokens)
        if not whole["choices"]:
            raise Malformed("empty reply")
        first: dict[str, Any] = whole["choices"][0]
        given = _message(first)
        if row["want"] == "choice" and not given["error"]:
            given |= choose(_top(first), json.loads(row["options"])["choices"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Malformed("malformed reply") from error
    return response(row["request_id"], **given, **tokens)


def _message(first: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = first["message"]
    text, reason = message.get("content"), first.get("finish_reason")
    error = None
    if message.get("refusal"):
        text, error = message["refusal"], "refused"
    elif reason == "content_filter":
        error = "content filter"
    elif not isinstance(text, str | None):
        raise Malformed("malformed reply")
    kept: dict[str, Any] = first.get("logprobs") or {}
    listed: Sequence[Any] = kept.get("content") or ()
    logprobs = [{"token": t["token"], "logprob": float(t["logprob"])} for t in listed]
    return {
        "text": text or "",
        "logprobs": logprobs or None,
        "finish_reason": reason,
        "error": error,
    }


def _top(first: Mapping[str, Any]) -> list[tuple[str, float]]:
    position = first["logprobs"]["content"][0]
    return [(each["token"], float(each["logprob"])) for each in position["top_logprobs"]]


def choose(top: Sequence[tuple[str, float]], choices: Sequence[str]) -> dict[str, Any]:
    """The log-probabilities of the choices among themselves, from those of the first token.

    A token speaks for a choice if, without blanks, it begins that choice and no other. A choice
    that none of the tokens begins is absent from the result: it is less likely than all of them.
    """
    mass: dict[str, float] = {}
    for token, logprob in top:
        word = token.strip()
        begun = [c for c in choices if word and c.startswith(word)]
        exact = [c for c in begun if c == word]
        if len(exact or begun) == 1:
            choice = (exact or begun)[0]
            mass[choice] = mass.get(choice, 0.0) + math.exp(logprob)
    total = sum(mass.values())
    if not total:
        return {"text": None, "logprobs": None, "error": "no choice among the likely tokens"}
    shares = [{"token": c, "logprob": math.log(mass[c] / total)} for c in choices if mass.get(c)]
    return {"text": max(mass, key=mass.__getitem__), "logprobs": shares}
