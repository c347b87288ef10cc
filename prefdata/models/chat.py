"""The words of the chat-completions protocol: a request as a body, a reply as a response.

Nothing here is sent; `openai.py` does that. What an answer is worth is decided here: a refusal or
a content filter is a reason and no answer, whatever text came along.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from prefdata.errors import ModelError
from prefdata.models.client import response

WANTS = ("text", "choice", "embedding", "reward")
# Without a constraint the log-probabilities are the model's own; under one, engines mask them.
TOP = 20
# What a model writes around a choice, and blanks.
_MARKS = " \t\r\n\"'“”‘’«»*_`()[]{}<>.,:;!-"
# The beginning of every reason why nothing of an endpoint was reached at all.
UNREACHED = "connection refused"
# More tokens than any model reads or writes at once: a count beyond is none.
MOST_TOKENS = 1 << 40
# Where a choice was wanted, what keeps a reply with its log-probabilities from being one.
NO_CHOICE = "no choice among the likely tokens"
# Options of a judge or of sampling that mean nothing where something else is wanted.
_OURS = ("schema", "choices")
# The protocol's newer name of `max_tokens`: servers that know it refuse a request with both, and
# some models the older one alone.
NEWER_BOUND = "max_completion_tokens"


def path(row: Mapping[str, Any]) -> str:
    """Where a request is sent, below the base URL."""
    if row["want"] == "reward":
        return "/classify" if row["completion"] else "/score"
    return "/embeddings" if row["want"] == "embedding" else "/chat/completions"


class Trouble(Exception):
    """Why there is no answer. `again`: the same request may succeed, here or elsewhere.

    `overload`: fewer at once might help. `unusable`: the endpoint answers nobody. `status` is that
    of HTTP, where the endpoint gave one.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = True,
        wait: float | None = None,
        overload: bool = False,
        unusable: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.again = again
        self.wait = wait
        self.overload = overload
        self.unusable = unusable

    @property
    def limited(self) -> bool:
        return self.reason.startswith("rate limited")

    @property
    def unreached(self) -> bool:
        return self.reason.startswith(UNREACHED)


def together(rows: Iterable[Mapping[str, Any]], max_n: int) -> Iterator[list[Mapping[str, Any]]]:
    """Rows that one request may ask for: unseeded draws of a conversation, at most `max_n`."""
    if max_n == 1:
        for row in rows:
            yield [row]
        return
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["want"] != "text" or json.loads(row["options"]).get("seed") is not None:
            yield [row]
            continue
        groups.setdefault(json.dumps([row["messages"], row["options"]]), []).append(row)
    for group in groups.values():
        for start in range(0, len(group), max_n):
            yield group[start : start + max_n]


def body(row: Mapping[str, Any], model: str, n: int = 1) -> dict[str, Any]:
    """The JSON body of a request; `ModelError` where the protocol has no words for it."""
    options = json.loads(row["options"])
    sent = {name: value for name, value in options.items() if name not in _OURS}
    match row["want"]:
        case "text":
            if schema := options.get("schema"):
                sent["response_format"] = _format(schema)
            if n > 1:
                sent["n"] = n
            if NEWER_BOUND in sent:
                sent.pop("max_tokens", None)
            return {"model": model, "messages": row["messages"], **sent}
        case "choice":
            bound = NEWER_BOUND if NEWER_BOUND in sent else "max_tokens"
            sent |= {"logprobs": True, "top_logprobs": TOP}
            for name in ("stop", "max_tokens", NEWER_BOUND):
                sent.pop(name, None)
            sent[bound] = 1
            return {"model": model, "messages": row["messages"], **sent}
        case "embedding":
            text = joined(row["messages"])
            kept = {"dimensions": sent["dimensions"]} if "dimensions" in sent else {}
            return {"model": model, "input": text, "encoding_format": "float", **kept}
        case "reward":
            kept = {name: sent[name] for name in ("chat_template_kwargs",) if name in sent}
            return {"model": model, "use_activation": False, **kept, **_judged(row)}
        case want:
            raise ModelError(
                f"the model {row['model']!r} was asked for {want!r}, but chat completions give "
                f"{', '.join(WANTS)}; use the client 'vllm' or 'local' for it"
            )


def joined(messages: Iterable[Mapping[str, str]]) -> str:
    """The contents of messages as the one text that an embedding is of, by whichever client."""
    return "\n\n".join(turn["content"] for turn in messages)


def _judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation with its completion; or, without one, two texts: the last and all before."""
    if row["completion"]:
        return {"messages": [*row["messages"], *row["completion"]]}
    *before, last = (turn["content"] for turn in row["messages"])
    return {"text_1": "\n\n".join(before), "text_2": last}


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    strict = schema.get("additionalProperties") is False
    named = {"name": "reply", "schema": schema, **({"strict": True} if strict else {})}
    return {"type": "json_schema", "json_schema": named}


def read(rows: Sequence[Mapping[str, Any]], reply: Any) -> list[dict[str, Any]]:
    """The responses in a reply, one a choice; `Trouble` where it is not what was promised.

    The tokens that were read are counted once, those written are shared evenly. An answer is one
    whatever its count of tokens looks like.
    """
    given = table(reply)
    if given.get("error") and not given.get("choices"):
        raise Trouble(f"server error: {_complaint(given['error'])}")
    try:
        usage = table(reply.get("usage"))
        read, written = (tokens(usage.get(f"{of}_tokens")) for of in ("prompt", "completion"))
        # None where the server had none in its cache or does not say.
        cached = tokens(table(usage.get("prompt_tokens_details")).get("cached_tokens")) or None
        if rows[0]["want"] == "embedding":
            said = [{"vector": [_finite(value) for value in reply["data"][0]["embedding"]]}]
        elif rows[0]["want"] == "reward":
            said = [_reward(reply["data"][0])]
        else:
            said = [_said(row, c) for row, c in zip(rows, _choices(reply, len(rows)), strict=False)]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Trouble("malformed reply") from error
    n = len(said)
    return [
        response(
            row["request_id"],
            **given,
            tokens_in=0 if at else read,
            tokens_cached=None if at else cached,
            tokens_out=written // n + (at < written % n),
        )
        for at, (row, given) in enumerate(zip(rows, said, strict=False))
    ]


def _reward(given: Mapping[str, Any]) -> dict[str, Any]:
    numbers = [given["score"]] if "score" in given else given["probs"]
    if len(numbers) != 1:
        return {"error": f"the model gives {len(numbers)} numbers; a reward model gives one"}
    value = float(numbers[0])
    return {"number": value} if math.isfinite(value) else {"error": "the reward is not finite"}


def _complaint(error: Any) -> str:
    """What a server says that reports an error as if it were an answer."""
    said = str(table(error).get("message") or error)
    return " ".join(said.encode("utf-8", "replace").decode().split())[:300]


def table(given: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], given) if isinstance(given, dict) else {}


def tokens(given: Any) -> int:
    """A count of tokens; 0 where it is none."""
    is_count = isinstance(given, int | float) and 0 <= given <= MOST_TOKENS
    return int(given) if is_count else 0


def _finite(given: Any) -> float:
    value = float(given)
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number of a model")
    return value


def _logprob(given: Any) -> float:
    """A log-probability: minus infinity is one, and a little above zero is rounding."""
    value = float(given)
    if math.isnan(value) or value > 1:
        raise ValueError(f"{value} is no log-probability")
    return value


def _text(given: Any) -> str:
    """A text that can be stored: a lone surrogate becomes a question mark."""
    if not isinstance(given, str):
        raise TypeError(f"{type(given).__name__} is no text")
    return given if given.isascii() else given.encode("utf-8", "replace").decode()


def _choices(reply: Mapping[str, Any], n: int) -> list[Mapping[str, Any]]:
    """The choices in the order of their indexes; the first of those with the same one."""
    given: list[Mapping[str, Any]] = reply["choices"]
    if not given:
        raise Trouble("empty reply")
    if n == 1:
        return given[:1]
    by_index: dict[int, Mapping[str, Any]] = {}
    for at, choice in enumerate(given):
        by_index.setdefault(int(choice.get("index", at)), choice)
    return [by_index[index] for index in sorted(by_index)]


def _said(row: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    given = _message(choice)
    if row["want"] == "choice" and not given["error"]:
        given |= choose(_top(choice), json.loads(row["options"])["choices"])
    return given


def _message(first: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = first["message"]
    text, reason = message.get("content"), first.get("finish_reason")
    error = None
    if refusal := message.get("refusal"):
        text, error = refusal if isinstance(refusal, str) else text, "refused"
    elif reason == "content_filter":
        error = "content filter"
    kept: dict[str, Any] = first.get("logprobs") or {}
    listed: Sequence[Any] = kept.get("content") or ()
    logprobs = [{"token": _text(t["token"]), "logprob": _logprob(t["logprob"])} for t in listed]
    return {
        "text": _text(text or ""),
        "logprobs": logprobs or None,
        "finish_reason": _text(reason) if isinstance(reason, str) else None,
        "error": error,
    }


def _top(first: Mapping[str, Any]) -> list[tuple[str, float]]:
    position = first["logprobs"]["content"][0]
    return [(_text(each["token"]), _logprob(each["logprob"])) for each in position["top_logprobs"]]


def choose(top: Sequence[tuple[str, float]], choices: Sequence[str]) -> dict[str, Any]:
    """The log-probabilities of the choices among themselves, from those of the first token.

    A token speaks for a choice if, without blanks or marks around it, it begins that choice and no
    other: many vocabularies have `"A` and `(A` as one token. A choice that none of the tokens
    begins is absent from the result: it is less likely than all of them. `number` is how likely
    the choices are together, among all that might have been said.
    """
    mass: dict[str, float] = {}
    for token, logprob in top:
        begun = _begun(token.strip(), choices) or _begun(token.strip(_MARKS), choices)
        if len(begun) == 1:
            mass[begun[0]] = mass.get(begun[0], 0.0) + math.exp(logprob)
    total = sum(mass.values())
    if not total:
        return {"text": None, "logprobs": None, "error": NO_CHOICE}
    shares = [{"token": c, "logprob": math.log(mass[c] / total)} for c in choices if mass.get(c)]
    best = max(mass, key=mass.__getitem__)
    return {"text": best, "logprobs": shares, "number": min(total, 1.0)}


def _begun(word: str, choices: Sequence[str]) -> list[str]:
    """The choices that a word may begin; if it is one of them, that one only."""
    if word in choices:
        return [word]
    return [choice for choice in choices if word and choice.startswith(word)]


def cut(vector: Any, said: str) -> Any:
    """The first `dimensions` of a vector, where so few are wanted, at the vector's length."""
    wanted = json.loads(said).get("dimensions")
    if not wanted:
        return vector
    kept = vector[: int(wanted)]
    length, whole = (math.sqrt(float(each @ each)) for each in (kept, vector))
    return kept * (whole / length) if length else kept
