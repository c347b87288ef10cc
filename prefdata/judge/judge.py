"""A judge is data: what is asked of a model, which verdicts it may give, what they are worth.

A judge is a TOML file, named by its stem:

    kind = "pairwise"                 # or "pointwise"
    description = "..."
    source = "..."                    # where the idea comes from
    reason = "none"                   # "first" or "last": a reason before or after the verdict
    max_tokens = 24                   # of a reply, where the model's own options say nothing
    system = "..."                    # optional; may hold {criteria} and {verdict}
    prompt = "... {criteria} ... {verdict} ... {prompt} ... {A} ... {B}"   # pointwise: {completion}

    [[criteria]]                      # exactly one for a pairwise judge
    name = "helpfulness"
    definition = "..."
    weight = 1.0
    [criteria.scale]
    values = ["A", "B", "tie"]        # pointwise: whole numbers, rising
    higher_is_better = true
    not_applicable = false            # pointwise: may "N/A" be given
    levels = ["...", "..."]           # pointwise: what each value means

`{criteria}` is filled with the rubric and `{verdict}` with the sentence that says what a
well-formed verdict is, both from the criteria: what is asked, what is accepted and what it is
worth cannot drift apart. Put the rubric first, then the prompt, then the completions, so that an
engine can reuse what it has read. Any change of a judge changes its `digest`.

What candidates wrote cannot leave its place: it is put in by one pass that never looks at what it
put in, it stands in a fence of more backticks than any run in any of the texts, and the control
tokens of chat templates in it are broken by a space.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tomli_w
from pydantic import Field, ValidationError, model_validator

from prefdata.errors import JudgeError, nearest
from prefdata.judge import verdict
from prefdata.judge._files import bundled, stated
from prefdata.judge.scale import Criterion, Kind, Scale, Strict
from prefdata.judge.transcript import fence, harmless, transcript
from prefdata.tables import Messages, digest

_COMPLETIONS = {"pairwise": ("A", "B"), "pointwise": ("completion",)}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_REPEATED = 2000  # characters of a reply that are shown again with the complaint


class Verdict(NamedTuple):
    """What a reply says: a worth and the value as given for each criterion, in their order.

    A criterion that does not apply has no worth. `unscored` says why the reply as a whole says
    nothing; then both are empty.
    """

    worths: tuple[float | None, ...]
    raws: tuple[str, ...]
    reason: str | None
    unscored: str | None


class Judge(Strict):
    """An LLM annotator, defined by a file; see the module for its fields."""

    name: str
    kind: Kind
    description: str
    source: str
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1, strict=False)]
    prompt: str
    system: str = ""
    reason: Literal["first", "last", "none"] = "none"
    max_tokens: Annotated[int, Field(gt=0)] = 256

    @model_validator(mode="after")
    def _sound(self) -> "Judge":
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have the same name")
        if self.kind == "pairwise" and len(names) > 1:
            raise ValueError("a pairwise judge has one criterion; write a judge for each other one")
        for criterion in self.criteria:
            if criterion.scale.kind != self.kind:
                offered = criterion.scale.wording
                raise ValueError(f"{criterion.name} has the values {offered}: not {self.kind}")
        shown = ("prompt", *_COMPLETIONS[self.kind])
        _place(self.prompt, "prompt", once=shown, known=(*shown, "criteria", "verdict"))
        _place(self.system, "system", once=(), known=("criteria", "verdict"))
        _place(self.system + self.prompt, "prompt", once=("criteria", "verdict"), known=None)
        return self

    @property
    def digest(self) -> str:
        """A digest of everything that the file says."""
        return digest("judge", self.model_dump(mode="json"))

    def to_toml(self) -> str:
        """The judge as a file that `load` reads back to an equal judge."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude={"name"}))

    @property
    def keys(self) -> dict[str, Scale]:
        """The keys of a verdict that hold a value."""
        if self.kind == "pairwise":
            return {"verdict": self.criteria[0].scale}
        return {criterion.name: criterion.scale for criterion in self.criteria}

    def only(self, criterion: str) -> "Judge":
        """This judge, asked for one of its criteria."""
        chosen = tuple(each for each in self.criteria if each.name == criterion)
        return self.model_copy(update={"criteria": chosen})

    def _keyed(self, values: Mapping[str, Any], reason: Any) -> dict[str, Any]:
        """The fields of a verdict in the order in which they are to be written."""
        first = {"reason": reason} if self.reason == "first" else {}
        last = {"reason": reason} if self.reason == "last" else {}
        return {**first, **values, **last}

    @property
    def schema(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The JSON schema of a well-formed verdict; the order of its properties matters."""
        values = {key: scale.schema for key, scale in self.keys.items()}
        fields = self._keyed(values, {"type": "string"})
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    @property
    def wording(self) -> str:
        """The sentence that says what a well-formed verdict is."""
        values = {key: scale.wording for key, scale in self.keys.items()}
        fields = self._keyed(values, "one sentence")
        keys = "; ".join(f"{json.dumps(key)}: {value}" for key, value in fields.items())
        return f"Reply only with JSON with the key{'s' * (len(fields) > 1)} {keys}."

    def render(
        self, prompt: Messages, *completions: Messages, wording: str | None = None
    ) -> list[dict[str, str]]:
        """The messages that ask for a verdict on the completions, in the order they are shown.

        `wording` asks for a verdict in another form than the one that `read` reads.
        """
        marks = fence(prompt, *completions)
        shown = [transcript(messages, marks) for messages in (prompt, *completions)]
        names = ("prompt", *_COMPLETIONS[self.kind])
        filling = {
            "criteria": "\n".join(criterion.rubric for criterion in self.criteria),
            "verdict": wording or self.wording,
            **dict(zip(names, shown, strict=True)),
        }
        parts = (("system", self.system), ("user", self.prompt))
        return [
            {"role": role, "content": _PLACEHOLDER.sub(lambda m: filling.get(m[1], m[0]), text)}
            for role, text in parts
            if text
        ]

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
        """The verdict of a reply, strictly; `prefdata.judge.verdict` states the rules."""
        found, unscored = verdict.find(reply, self._fault, finish_reason)
        if found is None:
            return Verdict((), (), None, unscored)
        values = [(found[key], scale) for key, scale in self.keys.items()]
        reason = found.get("reason")
        return Verdict(
            tuple(scale.worths.get(value) for value, scale in values),
            tuple(str(value) for value, _ in values),
            None if reason is None else reason.encode("utf-8", "replace").decode(),
            None,
        )

    def _fault(self, judged: verdict.Judged) -> str | None:
        fields = self._keyed(self.keys, None)
        if judged.keys() != fields.keys() or not isinstance(judged.get("reason", ""), str):
            return verdict.MALFORMED
        offered = all(scale.accepts(judged[key]) for key, scale in self.keys.items())
        return None if offered else verdict.OFF_SCALE


def _place(text: str, field: str, *, once: Sequence[str], known: Sequence[str] | None) -> None:
    used: list[str] = _PLACEHOLDER.findall(text)
    for name in once:
        if used.count(name) != 1:
            raise ValueError(f"{field} holds {{{name}}} {used.count(name)} times, not once")
    for name in used if known is not None else ():
        if name not in (known or ()):
            raise ValueError(f"{field} holds {{{name}}}; {nearest(name, known or ())}")


def names() -> list[str]:
    """The bundled judges."""
    return bundled()


def load(name_or_path: str | Path, folder: Path | None = None) -> Judge:
    """A bundled judge by name, or a judge file by a path that ends in .toml.

    A relative path is relative to `folder`. `JudgeError` names file, key and what is wrong.
    """
    name, place, _, said = stated("judge", name_or_path, folder)
    try:
        return Judge.model_validate({**said, "name": name})
    except ValidationError as error:
        raise JudgeError("\n".join(_complaint(place, dict(e)) for e in error.errors())) from error


def _complaint(place: str, error: Mapping[str, Any]) -> str:
    at = error["loc"]
    key = ".".join(str(part) for part in at) or "judge"
    if error["type"] != "extra_forbidden":
        return f"{place}: {key}: {error['msg'].removeprefix('Value error, ')}"
    owner = Scale if "scale" in at[:-1] else Criterion if "criteria" in at[:-1] else Judge
    known = owner.model_fields.keys() - {"name" if owner is Judge else ""}
    return f"{place}: {key}: there is no such key; {nearest(str(at[-1]), known)}"
