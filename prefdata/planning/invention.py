"""Invented replies: well-formed and without any meaning, of about the length of real ones.

A plan is rehearsed on them. Whatever a request wants, the invented response has the columns that
a real one has: a text, or JSON that its schema allows; probabilities of the choices; the
completion's tokens with their log-probabilities and the sum of these; a count of tokens; vectors,
of one length for each model and want; a reward. All is drawn from the request's id, so the same
request has the same reply.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from zlib import crc32

import numpy as np

from prefdata.models.client import response
from prefdata.models.tokens import BYTES_A_TOKEN, GUESSED_TOKENS
from prefdata.tables import Requests, Responses

# All free text is made of it, so that how much of a later request was invented can be counted.
WORD = "word "
# Words of a free string in JSON, such as a judge's reason.
WORDS_OF_A_STRING = 40
DIMENSIONS = 32
# Items of an array that is not bounded, and levels of a schema that refers to itself.
ITEMS = 3
DEEPEST = 8
TOKEN = re.compile(r"\s*\S{1,5}|\s+")

Row = Mapping[str, Any]
Schema = Mapping[str, Any]


@dataclass
class Inventor:
    """Invents replies.

    `dimensions` of vectors follow those of real replies, once it saw some; `length` says how many
    tokens a free text has that answers a request.
    """

    length: Callable[[Row], float] = lambda _: GUESSED_TOKENS
    dimensions: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def see(self, requests: Requests, known: Responses) -> None:
        """Learn from real replies how long a model's vectors are."""
        vectors = known.select("request_id", "vector").drop_nulls()
        told = vectors.join(requests.select("request_id", "model", "want"), on="request_id")
        for role, want, vector in told.select("model", "want", "vector").iter_rows():
            self.dimensions[role, want] = len(vector)

    def reply(self, request: Row) -> dict[str, Any]:
        """A response without its tokens, which whoever counts them fills in."""
        options = json.loads(request["options"])
        luck = int(request["request_id"], 16)
        said = self._said(request, options, luck)
        return response(request["request_id"], **said)

    def _said(self, request: Row, options: Mapping[str, Any], luck: int) -> dict[str, Any]:
        match request["want"]:
            case "choice":
                return _choice(options["choices"], luck)
            case "tokens":
                tokens = _tokens(request)
                return {"number": float(len(tokens)), **_ids(tokens, options)}
            case "logprobs":
                tokens = _tokens(request)
                drawn = (-_draws(luck).exponential(1.5, len(tokens))).tolist()
                logprobs = [{"token": t, "logprob": p} for t, p in zip(tokens, drawn, strict=True)]
                said = {"logprobs": logprobs, "number": sum(drawn), **_ids(tokens, options)}
                if top := options.get("top"):
                    each = [{"id": at, "logprob": -math.log(top + 1)} for at in range(top)]
                    said |= {
                        "top": [each] * len(tokens),
                        "rest": [-math.log(top + 1)] * len(tokens),
                    }
                return said
            case "embedding" | "hidden" as want:
                n = self.dimensions.get((request["model"], want), DIMENSIONS)
                vector = _draws(luck).normal(size=options.get("dimensions") or n)
                count = float(len(_tokens(request))) if want == "hidden" else None
                return {"vector": vector.tolist(), "number": count}
            case "bertscore":
                return {"number": float(_draws(luck).random())}
            case "reward":
                return {"number": float(_draws(luck).normal())}
            case _ if schema := options.get("schema"):
                return {"text": json.dumps(instance(schema, luck)), "finish_reason": "stop"}
            case _:
                words = round(self.length(request) * BYTES_A_TOKEN / len(WORD))
                text = f"{request['request_id']} {WORD * words}"
                return {"text": text, "finish_reason": "stop"}


def _draws(luck: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(luck))


def _choice(choices: Sequence[str], luck: int) -> dict[str, Any]:
    shares = _draws(luck).dirichlet(np.ones(len(choices)))
    logprobs = np.log(np.maximum(shares, 1e-12)).tolist()
    spread = [{"token": c, "logprob": p} for c, p in zip(choices, logprobs, strict=True)]
    best = choices[int(shares.argmax())]
    return {"text": best, "logprobs": spread, "finish_reason": "stop"}


def _ids(tokens: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Ids of tokens where they are asked for; equal tokens have equal ones."""
    if not options.get("ids"):
        return {}
    return {"token_ids": [crc32(token.encode("utf-8", "replace")) for token in tokens]}


def _tokens(request: Row) -> list[str]:
    """Pieces of the given completion, else of the messages, that together are its text."""
    given = request["completion"] or request["messages"]
    return [piece for turn in given for piece in TOKEN.findall(turn["content"])]


def instance(schema: Schema, luck: int, *, root: Schema | None = None, depth: int = 0) -> Any:
    """A value that a JSON schema allows, chosen by `luck`; patterns and formats are not heeded."""
    root = schema if root is None else root
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][luck % len(schema["enum"])]
    match _type(schema):
        case "object":
            return _object(schema, luck, root, depth)
        case "array":
            return _array(schema, luck, root, depth)
        case "integer":
            low, high = _bounds(schema, 10)
            return int(np.ceil(low)) + luck % max(1, int(high) - int(np.ceil(low)) + 1)
        case "number":
            low, high = _bounds(schema, 1)
            return float(low + (high - low) * (1 + luck % 99) / 100)
        case "boolean":
            return bool(luck % 2)
        case "null":
            return None
        case _:
            return _string(schema, luck)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """A schema with its reference followed, its parts merged and its first alternative taken."""
    for _ in range(DEEPEST):
        if "$ref" in schema:
            at: Any = root
            for part in str(schema["$ref"]).lstrip("#/").split("/"):
                at = at.get(part, {}) if part else at
            schema = {**at, **{key: value for key, value in schema.items() if key != "$ref"}}
        elif "allOf" in schema:
            parts = [_resolved(part, root) for part in schema["allOf"]]
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            properties = {k: v for p in (*parts, rest) for k, v in p.get("properties", {}).items()}
            merged = {key: value for part in (*parts, rest) for key, value in part.items()}
            schema = {**merged, **({"properties": properties} if properties else {})}
        elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
            rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}
            schema = {**rest, **alternatives[0]}
        else:
            break
    return schema


def _type(schema: Schema) -> str:
    said = schema.get("type")
    if isinstance(said, list):
        kinds = cast(list[str], said)
        return next((kind for kind in kinds if kind != "null"), "null")
    if said is None and "properties" in schema:
        return "object"
    if said is None and ("items" in schema or "prefixItems" in schema):
        return "array"
    return str(said)


def _bounds(schema: Schema, span: float) -> tuple[float, float]:
    """The least and the greatest number; what is not bounded is `span` from what is."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 0 if high is None or high >= 0 else high - span
    if high is None:
        high = low + span
    whole = _type(schema) == "integer"
    return (
        low + (whole and "exclusiveMinimum" in schema and "minimum" not in schema),
        high - (whole and "exclusiveMaximum" in schema and "maximum" not in schema),
    )


def _object(schema: Schema, luck: int, root: Schema, depth: int) -> dict[str, Any]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if depth >= DEEPEST:
        needed = schema.get("required", ())
        properties = {name: each for name, each in properties.items() if name in needed}
    if depth >= 2 * DEEPEST:
        return {}
    return {
        name: instance(each, _mixed(luck, at), root=root, depth=depth + 1)
        for at, (name, each) in enumerate(properties.items())
    }


def _array(schema: Schema, luck: int, root: Schema, depth: int) -> list[Any]:
    first: Sequence[Schema] = schema.get("prefixItems", ())
    low = max(int(schema.get("minItems", 0)), len(first))
    high = max(low, int(schema.get("maxItems", max(low, ITEMS))))
    items: Schema | bool = schema.get("items", {})
    if depth >= DEEPEST or items is False:
        high = low
    n = low + luck % (min(high, low + ITEMS) - low + 1)
    kinds: list[Schema] = [
        *first,
        *([items if isinstance(items, Mapping) else {}] * (n - len(first))),
    ]
    # One after the other, so that what must not be named twice is not.
    return [
        instance(kind, luck + at, root=root, depth=depth + 1) for at, kind in enumerate(kinds[:n])
    ]


def _string(schema: Schema, luck: int) -> str:
    said = f"{luck % 16**8:08x} " + WORD * WORDS_OF_A_STRING
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    said = said.ljust(least, "w")
    return said if most is None else said[: int(most)]


def _mixed(luck: int, at: int) -> int:
    """Luck of its own for each part of a value."""
    state = (luck + (at + 1) * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)
