"""A judge is data: what is asked of a model, which verdicts it may give, what they are worth.

A judge is a TOML file, named by its stem:

    kind = "pairwise"                 # or "pointwise", "combined", "listwise"
    description = "..."
    source = "..."                    # where the idea comes from
    reason = "none"                   # "first" or "last": a reason before or after the verdict
    max_tokens = 24                   # of a reply, where the model's own options say nothing
    system = "..."                    # optional; may hold {criteria} and {verdict}
    prompt = "... {criteria} ... {verdict} ... {prompt} ... {A} ... {B}"   # pointwise: {completion}
                                      # combined and listwise: {completions}, each under a letter
    [[roles]]                         # combined only: who argues in a debate
    name = "..."
    view = "..."                      # what this role looks for

    [[criteria]]                      # exactly one for a pairwise or a listwise judge
    name = "helpfulness"
    definition = "..."
    weight = 1.0
    [criteria.scale]
    values = ["A", "B", "tie"]        # pointwise, combined: whole numbers, rising
                                      # listwise: ["ranks"], ["ranks", "tie"] or ["best"]
    higher_is_better = true
    not_applicable = false            # may "N/A" be given (not listwise)
    levels = ["...", "..."]           # whole numbers: what each value means

`{criteria}` is filled with the rubric and `{verdict}` with the sentence that says what a
well-formed verdict is, both from the criteria: what is asked, what is accepted and what it is
worth cannot drift apart. Put the rubric first, then the prompt, then the completions, so that an
engine can reuse what it has read. Any change of a judge changes its `digest`.

What candidates wrote cannot leave its place: it is put in by one pass that never looks at what it
put in, it stands in a fence of more backticks than any run in any of the texts, and the control
tokens of chat templates in it are broken by a space.
"""

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field as Limits
from pydantic import ValidationError, model_validator

from prefdata.errors import JudgeError, RecipeError, nearest
from prefdata.judge._files import bundled, complaints, lines, stated, worded
from prefdata.judge.form import Choice, Field, Form, Reason, Verdict
from prefdata.judge.scale import Criterion, Kind, Scale, Strict
from prefdata.judge.transcript import fence, transcript
from prefdata.tables import Messages, digest

_SEVERAL = ("completions",)
_COMPLETIONS = {
    "pairwise": ("A", "B"),
    "pointwise": ("completion",),
    "combined": _SEVERAL,
    "listwise": _SEVERAL,
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
LETTERS = string.ascii_uppercase
TOKENS_A_KEY = 8  # what a further key adds to `max_tokens`, which is meant for two completions


class Role(Strict):
    """Who argues in a debate, and what for."""

    name: Annotated[str, Limits(pattern="^[a-z][a-z0-9_]*$")]
    view: str


class Judge(Strict):
    """An LLM annotator, defined by a file; see the module for its fields."""

    name: str
    kind: Kind
    description: str
    source: str
    criteria: Annotated[tuple[Criterion, ...], Limits(min_length=1, strict=False)]
    prompt: str
    system: str = ""
    reason: Reason = "none"
    max_tokens: Annotated[int, Limits(gt=0)] = 256
    roles: Annotated[tuple[Role, ...], Limits(strict=False)] = ()

    @model_validator(mode="after")
    def _sound(self) -> "Judge":
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have the same name")
        if self.kind in ("pairwise", "listwise") and len(names) > 1:
            raise ValueError(
                f"a {self.kind} judge has one criterion; write a judge for each other one"
            )
        if self.roles and self.kind != "combined":
            raise ValueError("roles belong to a combined judge")
        if len({role.name for role in self.roles}) < len(self.roles):
            raise ValueError("two roles have the same name")
        for criterion in self.criteria:
            if criterion.scale.kind != ("pointwise" if self.kind == "combined" else self.kind):
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
        # Without what is not there, so that a judge of before keeps its digest.
        unset = {"roles"} if not self.roles else set[str]()
        return digest("judge", self.model_dump(mode="json", exclude=unset))

    def to_toml(self) -> str:
        """The judge as a file that `load` reads back to an equal judge."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude={"name"}))

    def form(self, n: int = 2) -> Form:
        """What a reply must be where `n` completions are shown.

        Pairwise and best of a list: `verdict`. Pointwise: a key for each criterion. Combined: one
        for the letter of each completion, with a value of the first criterion. Ranks: likewise,
        with the completion's rank, 1 for the one with the most of the criterion.
        """
        scale = self.criteria[0].scale
        letters = LETTERS[:n]
        keys: Mapping[str, Field]
        distinct = False
        if self.kind == "pairwise":
            keys = {"verdict": scale}
        elif self.kind == "pointwise":
            keys = {criterion.name: criterion.scale for criterion in self.criteria}
        elif self.kind == "combined":
            keys = dict.fromkeys(letters, scale)
        elif scale.values == ("best",):
            keys = {"verdict": Choice(tuple(letters))}
        else:
            ranks = Scale(
                values=tuple(range(1, n + 1)), higher_is_better=not scale.higher_is_better
            )
            keys, distinct = dict.fromkeys(letters, ranks), scale.values == ("ranks",)
        more = max(0, len(keys) - 2) if _COMPLETIONS[self.kind] == _SEVERAL else 0
        return Form(keys, self.reason, self.max_tokens + TOKENS_A_KEY * more, distinct)

    @property
    def schema(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The JSON schema of a well-formed verdict, on two completions if several are shown."""
        return self.form().schema

    @property
    def wording(self) -> str:
        """The sentence that says what a well-formed verdict is, likewise."""
        return self.form().wording

    def read(self, reply: str | None, finish_reason: str | None = None) -> Verdict:
        """The verdict of a reply, likewise."""
        return self.form().read(reply, finish_reason)

    def must_be(self, kind: Kind, stage: str, *, instead: str = "") -> None:
        """Raise `RecipeError` of a stage that asks judges of another kind; `instead` says what to
        do besides naming one of these."""
        if self.kind != kind:
            raise RecipeError(
                f"{stage}: judge = {self.name!r} is a {self.kind} judge; name a {kind} one{instead}"
            )

    def only(self, criterion: str) -> "Judge":
        """This judge, asked for one of its criteria."""
        chosen = tuple(each for each in self.criteria if each.name == criterion)
        return self.model_copy(update={"criteria": chosen})

    def render(
        self,
        prompt: Messages,
        *completions: Messages,
        wording: str | None = None,
        criteria: str | None = None,
        marks: str | None = None,
    ) -> list[dict[str, str]]:
        """The messages that ask for a verdict on the completions, in the order they are shown.

        `wording` asks for another form than `form`'s, `criteria` puts other criteria in the place
        of the judge's own, `marks` is a longer fence than these texts need.
        """
        marks = marks or fence(prompt, *completions)
        said = [transcript(messages, marks) for messages in completions]
        if _COMPLETIONS[self.kind] == _SEVERAL:
            said = [
                "\n".join(f"Reply {x}:\n{each}" for x, each in zip(LETTERS, said, strict=False))
            ]
        names = ("prompt", *_COMPLETIONS[self.kind])
        rubric = "\n".join(criterion.rubric for criterion in self.criteria)
        filling = {
            "criteria": rubric if criteria is None else criteria,
            "verdict": wording or self.form(len(completions)).wording,
            **dict(zip(names, [transcript(prompt, marks), *said], strict=True)),
        }
        parts = (("system", self.system), ("user", self.prompt))
        return [
            {"role": role, "content": _PLACEHOLDER.sub(lambda m: filling.get(m[1], m[0]), text)}
            for role, text in parts
            if text
        ]


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
        raise JudgeError(lines(place, map(_complaint, complaints(error)))) from error


def _complaint(error: Mapping[str, Any]) -> str:
    at = error["loc"]
    if error["type"] != "extra_forbidden":
        return worded(error) if at else f"judge: {worded(error)}"
    owner = Scale if "scale" in at[:-1] else Criterion if "criteria" in at[:-1] else Judge
    known = owner.model_fields.keys() - {"name" if owner is Judge else ""}
    return f"{'.'.join(map(str, at))}: there is no such key; {nearest(str(at[-1]), known)}"
