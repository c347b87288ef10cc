"""What a recipe may say about any source; `kinds` has what is said of one kind only.

    sources.prompts = "prompts.jsonl"

    [[sources.votes]]
    path = "votes.csv"
    columns = {completion_a = "left", completion_b = "right"}
    annotators = {"human:1" = "first", "llm:gpt-4" = {preference = "gpt4", rationale = "why"}}
    values.preference = {L = 1.0, R = 0.0, same = 0.5, "?" = "unparsable"}

Each kind is a path, a table, or a list of these. `columns` maps our names to the file's. `values`
maps what stands in the file (written as text: `1`, `true`, `left`) to what it means; a text in
place of a number says that the vote or rating is unscored, and why. `layout` stands for what a file
of `layouts/` says of a well-known dataset; rows of another shape than ours: see `reshape`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prefdata.errors import nearest
from prefdata.sources import layout as layouts
from prefdata.sources.trees import Tree

Value = bool | float | str

CONVERSATIONS: Mapping[str, str] = {
    "prompt": "user",
    "completion": "assistant",
    "completion_a": "assistant",
    "completion_b": "assistant",
    "chosen": "assistant",
    "rejected": "assistant",
}
NUMBERS = frozenset({"preference", "rating", "rating_chosen", "rating_rejected"})
WHOLE = frozenset({"draw", "rank"})
FLAGS = frozenset({"a_first", "chosen_first"})
ABOUT_PROMPT = ("reference", "user", "group", "tags")
ABOUT_LABEL = ("annotator", "criterion", "draw", "rationale", "unscored")

ANNOTATOR = r"^(human|llm|reward|rule|principle):.+$"
KNOWN_ANNOTATOR = re.compile(ANNOTATOR)


def canonical(text: str) -> str:
    """A value's text, with a whole number written in one way: 1.0 is 1."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


class Unfolded(NamedTuple):
    """The columns of one label in a row that has several, and what its column alone says of it."""

    column: str
    rationale: str | None
    annotator: str | None
    criterion: str | None


class SourceSpec(BaseModel):
    """One source: where it lies, what its columns are called, and who annotated it.

    Exactly one of `path` (relative to the recipe's file) and `hub` (a dataset of the Hub, with
    `config`, `split`, `revision`) is given. `name` is by default the file's stem. `group` names
    the file's column whose equal values a split must not part. `limit` reads the first rows only.
    `orientation = "trusted"` keeps labels that contradict the ratings; else they are refused.
    `layout` names what a well-known dataset calls its columns. `each`, `tree`, `derive`, `only`,
    `holds` and `turns` make rows of what has another shape.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: ClassVar[str] = "hub"
    needs: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()

    path: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    name: Annotated[str, Field(pattern=r"^[^,\s][^,]*$")] = ""
    columns: dict[str, str] = {}
    values: dict[str, dict[str, Value]] = {}
    licence: str | None = None
    group: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    orientation: Literal["audited", "trusted"] = "audited"
    layout: str | None = None
    each: list[str] = []
    tree: Tree | None = None
    derive: dict[str, str] = {}
    only: str = ""
    holds: dict[str, str] = {}
    turns: dict[Literal["system", "user", "assistant"], str] = {}

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        """What the layout says, the name where none is given, and `group` as one of the columns."""
        if not isinstance(raw, Mapping):
            return raw
        spec: dict[str, Any] = {str(key): value for key, value in raw.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if spec.get("layout") is not None:
            spec = layouts.applied(cls.kind, spec)
        where = spec.get("path") or spec.get("hub")
        if not spec.get("name") and isinstance(where, str):
            last = PurePath(where).name
            spec["name"] = (last.split(".")[0] if spec.get("path") else last) or last
        named = spec.get("columns", {})
        if isinstance(spec.get("group"), str) and isinstance(named, Mapping):
            spec["columns"] = {**named, "group": spec["group"]}
        return spec

    @model_validator(mode="after")
    def _stated(self) -> "SourceSpec":
        if (self.path is None) == (self.hub is None):
            raise ValueError("a source has either a path or a hub")
        if self.kind != "hub":
            for key, named in (("columns", self.columns), ("values", self.values)):
                for ours in named:
                    if ours not in self.known:
                        raise ValueError(
                            f"{key}.{ours}: sources.{self.kind} have no column {ours!r}; "
                            + nearest(ours, self.known)
                        )
        for ours, values in self.values.items():
            self._meaningful(ours, values)
        conditions = {f"holds.{rule}": sql for rule, sql in self.holds.items()}
        derived = {f"derive.{name}": sql for name, sql in self.derive.items()}
        only = {"only": self.only} if self.only else {}
        for key, sql in {**derived, **only, **conditions}.items():
            try:
                pl.sql_expr(sql).meta.root_names()
            except pl.exceptions.PolarsError as error:
                raise ValueError(f"{key} is no SQL expression on a row: {error}") from error
        return self

    def _meaningful(self, ours: str, values: Mapping[str, Value]) -> None:
        if ours in CONVERSATIONS or ours == "tags":
            raise ValueError(f"values.{ours}: only single values are translated, not texts")
        low, high = self.bounds
        for theirs, value in values.items():
            number = not isinstance(value, bool | str)
            if ours in NUMBERS and number and not low <= value <= high:
                raise ValueError(f"values.{ours}.{theirs} is {value}; it is from {low} to {high}")

    @property
    def is_reshaped(self) -> bool:
        """Whether rows are made of what the file has, beyond other names."""
        labels = (name for each in self.unfolded() for name in (each.column, each.rationale))
        dotted = any("." in name for name in (*self.columns.values(), *labels) if name)
        return dotted or any((self.each, self.tree, self.derive, self.only, self.holds, self.turns))

    def unfolded(self) -> "Iterator[Unfolded]":
        """The labels that stand in columns of their own; only sources of labels have some."""
        yield from ()

    @property
    def known(self) -> tuple[str, ...]:
        """The names of the columns that a source of this kind may have.

        `tools`, those that may be called, become part of the prompt.
        """
        return (*self.needs, *self.takes, "tools")

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest number that a label may be."""
        return (0.0, 1.0)

    @property
    def where(self) -> str:
        """How messages name this source."""
        return f"sources.{self.kind} {self.path or f'hub {self.hub}'}"
