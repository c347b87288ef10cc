"""What one reply must be: a flat JSON object, what each key may hold, where a reason stands.

A form asks, constrains, complains and reads: the sentence in the prompt, the schema that an engine
obeys, the second question after a bad reply and what is accepted all come from the same fields.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, NamedTuple, Protocol, Self, cast

from prefdata.judge import verdict
from prefdata.judge.scale import Scale
from prefdata.judge.transcript import harmless
from prefdata.tables import Messages

Reason = Literal["first", "last", "none"]

LONGEST = 300  # characters of a text in a list
_REPEATED = 2000  # characters of a reply that are shown again with the complaint


class Field(Protocol):
    """What a key may hold: how a prompt names it, how a schema states it, what is accepted."""

    @property
    def wording(self) -> str: ...

    @property
    def schema(self) -> dict[str, Any]: ...

    def accepts(self, value: object) -> bool: ...


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    values: tuple[str, ...]

    @property
    def wording(self) -> str:
        *most, last = map(json.dumps, self.values)
        return f"{', '.join(most)} or {last}" if most else last

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value in self.values


@dataclass(frozen=True)
class Some:
    """Any of some words, as a list; none is an empty list, and a word twice says no more."""

    values: tuple[str, ...]

    @property
    def wording(self) -> str:
        return f"a list of those that apply of {', '.join(map(json.dumps, self.values))}, or []"

    @property
    def schema(self) -> dict[str, Any]:
        items = {"type": "string", "enum": list(self.values)}
        return {"type": "array", "items": items, "maxItems": len(self.values)}

    def accepts(self, value: object) -> bool:
        return isinstance(value, list) and all(each in self.values for each in value)  # pyright: ignore[reportUnknownVariableType]


@dataclass(frozen=True)
class Texts:
    """A list of short texts, at least one and at most `most`, none of them blank."""

    most: int

    @property
    def wording(self) -> str:
        return f"a list of one to {self.most} short sentences"

    @property
    def schema(self) -> dict[str, Any]:
        items = {"type": "string", "minLength": 1, "maxLength": LONGEST}
        return {"type": "array", "items": items, "minItems": 1, "maxItems": self.most}

    def accepts(self, value: object) -> bool:
        if not isinstance(value, list) or not 1 <= len(value) <= self.most:  # pyright: ignore[reportUnknownArgumentType]
            return False
        one = Text(LONGEST)
        return all(one.accepts(each) for each in cast(list[object], value))


@dataclass(frozen=True)
class Text:
    """One text of at most `most` characters, not blank."""

    most: int

    @property
    def wording(self) -> str:
        return "your text"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": self.most}

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and 0 < len(value.strip()) <= self.most


class Verdict(NamedTuple):
    """What a reply says: a worth and the value as given for each key, in their order.

    A value has a worth if its field is a scale and it applies; a list as given is JSON. `unscored`
    says why the reply as a whole says nothing; then both are empty.
    """

    worths: tuple[float | None, ...]
    raws: tuple[str, ...]
    reason: str | None
    unscored: str | None


@dataclass(frozen=True)
class Form:
    """The keys of a verdict with their fields. If `distinct`, no two keys hold the same value."""

    keys: Mapping[str, Field]
    reason: Reason
    max_tokens: int
    distinct: bool = False

    @classmethod
    def numbered(cls, field: Field, n: int, reason: Reason, max_tokens: int) -> Self:
        """A form with the keys "1" to "n", all of one field."""
        return cls({str(at): field for at in range(1, n + 1)}, reason, max_tokens)

    @property
    def fields(self) -> Mapping[str, Field]:
        """The keys of a reply with theirs: those of the verdict, unless the reply is shorter."""
        return self.keys

    def _keyed(self, values: Mapping[str, Any], reason: Any) -> dict[str, Any]:
        """The keys of a reply in the order in which they are to be written."""
        first = {"reason": reason} if self.reason == "first" else {}
        last = {"reason": reason} if self.reason == "last" else {}
        return {**first, **values, **last}

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a well-formed reply; the order of its properties matters."""
        values = {key: field.schema for key, field in self.fields.items()}
        fields = self._keyed(values, {"type": "string"})
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    @property
    def wording(self) -> str:
        """The sentence that says what a well-formed reply is."""
        values = {key: field.wording for key, field in self.fields.items()}
        fields = self._keyed(values, "one sentence")
        keys = "; ".join(f"{key}: {value}" for key, value in _named(fields))
        once = " No value twice." if self.distinct else ""
        return f"Reply only with JSON with the key{'s' * (len(fields) > 1)} {keys}.{once}"

    def again(self, asked: Messages, reply: str | None, why: str) -> list[dict[str, str]]:
        """The messages that ask once more, with the complaint about the first reply."""
        turns = [dict(turn) for turn in asked]
        complaint = f"This was no verdict ({why}). {self.wording}"
        if reply is None or not reply.strip():
            turns[-1]["content"] += f"\n\n{complaint}"
            return turns
        said = {"role": "assistant", "content": harmless(reply[:_REPEATED])}
        return [*turns, said, {"role": "user", "content": complaint}]

    def read(self, reply: str | None, finish_reason: str | None = None) -> Verdict:
        """What a reply says, strictly; `prefdata.judge.verdict` states the rules."""
        found, unscored = verdict.find(reply, self._fault, finish_reason)
        if found is None:
            return Verdict((), (), None, unscored)
        told = self._told(found)
        values = [(told[key], field) for key, field in self.keys.items()]
        reason = found.get("reason")
        return Verdict(
            tuple(_worth(field, value) for value, field in values),
            tuple(_plain(value) for value, _ in values),
            None if reason is None else _encodable(reason),
            None,
        )

    def _told(self, judged: verdict.Judged) -> Mapping[str, Any]:
        """What a well-formed reply says of each key of the verdict."""
        return judged

    def _fault(self, judged: verdict.Judged) -> str | None:
        fields = self._keyed(self.fields, None)
        if judged.keys() != fields.keys() or not isinstance(judged.get("reason", ""), str):
            return verdict.MALFORMED
        if not all(field.accepts(judged[key]) for key, field in self.fields.items()):
            return verdict.OFF_SCALE
        repeated = self.distinct and len({judged[key] for key in self.fields}) < len(self.fields)
        return verdict.REPEATED if repeated else None


def _named(fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """How a prompt names the keys, with what each holds: many numbers that hold the same, once."""
    for (value, is_number), run in groupby(
        fields.items(), lambda each: (each[1], each[0].isdecimal())
    ):
        names = [json.dumps(key) for key, _ in run]
        if is_number and len(names) > 2:
            yield f"{names[0]} to {names[-1]}, each", value
        else:
            yield from ((name, value) for name in names)


def _worth(field: Field, value: Any) -> float | None:
    return field.worths.get(value) if isinstance(field, Scale) else None


def _plain(value: Any) -> str:
    if isinstance(value, list):
        said = cast(list[Any], value)
        unique = [each for at, each in enumerate(said) if each not in said[:at]]
        return _encodable(json.dumps(unique, ensure_ascii=False))
    return _encodable(str(value))


def _encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can hold and a table cannot."""
    return text.encode("utf-8", "replace").decode()
