"""Planted annotators and writers: deterministic, free, and as right or wrong as the recipe says.

For tests, documentation and simulations. A completion carries its true quality in its text:

    ... quality=0.83 ...

A request with the option `schema` (what judges send) is answered as an annotator: the last such
marks of the conversation are the completions' in the order shown, the first labelled by the first
choice of the verdict. With probability `position_bias` the first shown is named whatever the
qualities are; else with `tie_rate` a tie; else the better one with probability `accuracy`, so

    P(first named | first better) = bias + (1 - bias)(1 - ties) accuracy .

A rating is the true quality on the scale's steps with probability `accuracy`, else any step.
What else a schema wants, such as the calls of tools, is well-formed and says nothing.
A reward is the quality of what is given or, with the option `pair`, by how much the next to last
mark is above the last. The log-probability of each word of a given text is accuracy * quality - 2.
Its tokens are its words, and its hidden state is a vector that is nearer for texts that share some;
how alike two texts are by their tokens is told from the vectors of single words.
Any other text request is answered as a writer: a text whose quality is drawn from a normal
distribution around `quality` with deviation `spread`, cut to [0, 1]. `malformed_rate` and
`failure_rate` are the shares of unreadable replies and of failed requests. Every draw comes from
the request's id, so the same request has the same answer on any machine.
"""

import hashlib
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any
from zlib import crc32

import numpy as np

from prefdata.models.bertscore import bertscore
from prefdata.models.client import response, responses
from prefdata.models.spec import ModelSpec
from prefdata.planning.invention import instance
from prefdata.tables import Requests, Responses

MARK = re.compile(r"\bquality=(\d+(?:\.\d+)?)")
TIES = frozenset({"tie", "draw", "equal", "same", "both", "neither", "c"})
BATCH = 256
_WORDS = [
    "river",
    "stone",
    "quiet",
    "lantern",
    "orchard",
    "copper",
    "winter",
    "signal",
    "garden",
    "thread",
]


class ScriptedClient:
    """Answers from the recipe's planted values."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def answer(self, requests: Requests) -> Iterator[Responses]:
        for part in requests.iter_slices(BATCH):
            yield responses(self._respond(row) for row in part.iter_rows(named=True))

    def close(self) -> None:
        return None

    def _respond(self, row: Mapping[str, Any]) -> dict[str, Any]:
        draw = random.Random(row["request_id"])
        request_id = row["request_id"]
        text = "\n".join(turn["content"] for turn in row["messages"])
        if draw.random() < self._spec.failure_rate:
            return response(request_id, error="planted failure")
        read = len(text.split())
        options = json.loads(row["options"])
        match row["want"]:
            case "text":
                said = self._text(text, options.get("schema"), draw)
                written = len(said.split())
                return response(
                    request_id, text=said, tokens_in=read, tokens_out=written, finish_reason="stop"
                )
            case "choice":
                shares = self._shares(qualities(text), options["choices"])
                spread = [{"token": c, "logprob": math.log(p)} for c, p in shares.items() if p]
                best = max(shares, key=shares.__getitem__)
                return response(
                    request_id, text=best, logprobs=spread, number=1.0, tokens_in=read, tokens_out=1
                )
            case "embedding":
                return response(request_id, vector=_vector(text), tokens_in=read)
            case "bertscore":
                both = (
                    np.array([_vector(word) for word in each.split()])
                    for each in (text, _given(row))
                )
                return response(request_id, number=bertscore(*both), tokens_in=read)
            case "hidden":
                n = float(len(_given(row).split()))
                return response(request_id, vector=_vector(_given(row)), number=n, tokens_in=read)
            case "tokens":
                words = _given(row).split() if row["completion"] else text.split()
                n = len(words) + (read if row["completion"] else 0)
                ids = [crc32(word.encode()) for word in words] if options.get("ids") else None
                return response(request_id, number=float(len(words)), token_ids=ids, tokens_in=n)
            case "logprobs":
                words = _given(row).split()
                each = self._spec.accuracy * (qualities(_given(row)) or [0.5])[-1] - 2.0
                told = [{"token": word, "logprob": each} for word in words]
                return response(request_id, logprobs=told, number=each * len(words), tokens_in=read)
            case "reward":
                known = qualities(_given(row) or text) or [0.5]
                number = known[-1]
                if options.get("pair"):
                    number = known[-2] - known[-1] if len(known) > 1 else 0.0
                return response(request_id, number=number, tokens_in=read)
            case want:
                return response(request_id, error=f"a scripted model gives no {want}")

    def _text(self, text: str, schema: Mapping[str, Any] | None, draw: random.Random) -> str:
        if draw.random() < self._spec.malformed_rate:
            return "I would rather not put it in that form."
        if schema is None:
            return self._written(draw)
        known = qualities(text)
        properties: Mapping[str, Any] = schema["properties"]
        return json.dumps({key: self._value(p, known, draw) for key, p in properties.items()})

    def _written(self, draw: random.Random) -> str:
        words = " ".join(draw.choice(_WORDS) for _ in range(12))
        drawn = NormalDist(self._spec.quality, self._spec.spread or 1e-9).inv_cdf(
            min(max(draw.random(), 1e-12), 1 - 1e-12)
        )
        return f"{words.capitalize()}. quality={min(max(drawn, 0.0), 1.0):.4f}"

    def _value(self, wanted: Mapping[str, Any], known: Sequence[float], draw: random.Random) -> Any:
        steps = _steps(wanted)
        if steps is None and wanted.get("type") != "string":
            return instance(wanted, draw.getrandbits(64))
        if steps is None:
            return "The planted qualities decide."
        numbers = [step for step in steps if isinstance(step, int | float)]
        if numbers:  # "N/A" may be offered beside them: a planted rating always applies
            return self._rating(numbers, known, draw)
        shares = self._shares(known, [str(step) for step in steps])
        return draw.choices(list(shares), list(shares.values()))[0]

    def _rating(self, steps: Sequence[Any], known: Sequence[float], draw: random.Random) -> Any:
        if known and draw.random() < self._spec.accuracy:
            return steps[round(known[-1] * (len(steps) - 1))]
        return draw.choice(steps)

    def _shares(self, known: Sequence[float], choices: Sequence[str]) -> dict[str, float]:
        """The probability of each verdict, given the qualities in the order shown."""
        tie = next((choice for choice in choices if choice.lower() in TIES), None)
        sides = [choice for choice in choices if choice != tie]
        shown = list(known[-len(sides) :])
        bias, ties = self._spec.position_bias, self._spec.tie_rate if tie else 0.0
        shares = dict.fromkeys(choices, 0.0)
        shares[sides[0]] += bias
        free = 1 - bias
        even = len(shown) < len(sides) or shown.count(max(shown)) > 1
        if even and tie:
            shares[tie] += free
            return shares
        if tie:
            shares[tie] += free * ties
        right, wrong = free * (1 - ties) * self._spec.accuracy, len(sides) - 1
        best = -1 if even else shown.index(max(shown))
        for place, side in enumerate(sides):
            if even:
                shares[side] += free * (1 - ties) / len(sides)
            else:
                missed = free * (1 - ties) * (1 - self._spec.accuracy)
                shares[side] += right if place == best else missed / max(wrong, 1)
        return shares


def _given(row: Mapping[str, Any]) -> str:
    """The given completion, whole."""
    return "".join(turn["content"] for turn in row["completion"] or ())


def qualities(text: str) -> list[float]:
    """The qualities marked in a text, in their order."""
    return [float(each) for each in MARK.findall(text)]


def _steps(wanted: Mapping[str, Any]) -> list[Any] | None:
    """The values that a property of a schema allows; None where it is free text."""
    if "const" in wanted:
        return [wanted["const"]]
    if "enum" in wanted:
        return list(wanted["enum"])
    if "minimum" in wanted and "maximum" in wanted:
        return list(range(math.ceil(wanted["minimum"]), math.floor(wanted["maximum"]) + 1))
    return None


def _vector(text: str) -> list[float]:
    """A unit vector, nearer for texts that share words."""
    sums = [0.0] * 32
    for word in text.lower().split():
        state = hashlib.blake2b(word.encode(), digest_size=32).digest()
        sums = [total + byte - 127.5 for total, byte in zip(sums, state, strict=True)]
    length = math.sqrt(sum(value * value for value in sums)) or 1.0
    return [value / length for value in sums]
