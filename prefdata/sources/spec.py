"""What a recipe may say about its sources.

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
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

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
        if isinstance(spec.get("group"), str):
            spec["columns"] = {**spec.get("columns", {}), "group": spec["group"]}
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


class PromptSource(SourceSpec):
    """Prompts, each with what is known about it."""

    kind: ClassVar[str] = "prompts"
    needs: ClassVar[tuple[str, ...]] = ("prompt",)
    takes: ClassVar[tuple[str, ...]] = ABOUT_PROMPT


class CompletionSource(SourceSpec):
    """Completions of prompts; a row given again is the next draw of its generator.

    `generator` is what produced them where the file has no such column; by default the name.
    """

    kind: ClassVar[str] = "completions"
    needs: ClassVar[tuple[str, ...]] = ("prompt", "completion")
    takes: ClassVar[tuple[str, ...]] = (*ABOUT_PROMPT, "generator", "draw", "finish_reason")

    generator: str | None = None


class Unfolded(NamedTuple):
    """The columns of one label in a row that has several, and what its column alone says of it."""

    column: str
    rationale: str | None
    annotator: str | None
    criterion: str | None


class LabelSource(SourceSpec):
    """Labels of somebody: `annotator` is who where the file does not say, by default a human.

    `annotators` unfolds a file with one column an annotator: annotator = column, or annotator =
    {<label> = column, rationale = column}; `criteria` likewise one with a column a criterion. A
    null in such a column is no label.
    """

    annotator: Annotated[str, Field(pattern=ANNOTATOR)] | None = None
    criterion: str = "overall"
    annotators: dict[Annotated[str, Field(pattern=ANNOTATOR)], str | dict[str, str]] = {}
    criteria: dict[str, str | dict[str, str]] = {}
    label: ClassVar[str] = ""

    @model_validator(mode="after")
    def _unfolds(self) -> "LabelSource":
        if self.annotators and self.criteria:
            raise ValueError("annotators and criteria exclude each other; give two sources")
        key = "annotators" if self.annotators else "criteria"
        for name, named in (self.annotators or self.criteria).items():
            columns = named if isinstance(named, dict) else {self.label: named}
            if self.label not in columns or not columns.keys() <= {self.label, "rationale"}:
                raise ValueError(
                    f"{key}.{name}: give the column of the {self.label}, or "
                    f"{{{self.label} = ..., rationale = ...}}"
                )
        for ours in self.from_unfolding:
            if ours in self.columns:
                raise ValueError(f"columns.{ours} and {key} exclude each other")
        return self

    @property
    def who(self) -> str:
        """The annotator of a row that names none."""
        return self.annotator or f"human:{self.name}"

    @property
    def from_unfolding(self) -> tuple[str, ...]:
        """Our columns that the unfolding gives, so that the file's row has none."""
        if self.annotators:
            return ("annotator", self.label, "unscored", "draw", "rationale")
        return ("criterion", self.label, "unscored", "rationale") if self.criteria else ()

    def unfolded(self) -> Iterator[Unfolded]:
        for name, named in (self.annotators or self.criteria).items():
            columns = named if isinstance(named, dict) else {self.label: named}
            own = (name, None) if self.annotators else (None, name)
            yield Unfolded(columns[self.label], columns.get("rationale"), *own)


class Scaled(SourceSpec):
    """Ratings on a scale: `scale = [lowest, highest]`, and which end is best."""

    scale: tuple[float, float] | None = None
    higher_is_better: bool | None = None

    @model_validator(mode="after")
    def _oriented(self) -> "Scaled":
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale is [lowest, highest], but it is {list(self.scale)}")
        if (self.scale is None) != (self.higher_is_better is None):
            raise ValueError("scale and higher_is_better go together")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return self.scale or (0.0, 1.0)


class PairSource(LabelSource, Scaled):
    """Pairs in TRL's layouts: `chosen` and `rejected`, with a `prompt` column or without.

    Without one the prompt is what both sides begin with. With `scale` and `higher_is_better`,
    `rating_chosen` and `rating_rejected` are ratings of the two sides. `first_turn` ends both sides
    where the user speaks again: what comes after was said in two different conversations.
    """

    kind: ClassVar[str] = "pairs"
    needs: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    takes: ClassVar[tuple[str, ...]] = (
        *("prompt", *ABOUT_PROMPT, "annotator", "criterion", "draw", "rationale", "chosen_first"),
        *("rating_chosen", "rating_rejected", "generator_chosen", "generator_rejected"),
    )

    first_turn: bool = False

    @model_validator(mode="after")
    def _one_annotator(self) -> "PairSource":
        for key in ("annotators", "criteria"):
            if getattr(self, key):
                raise ValueError(f"{key}: a pair has one label; give the file as sources.votes")
        rated = {"rating_chosen", "rating_rejected"} & self.columns.keys()
        if rated and self.scale is None:
            raise ValueError(f"columns.{min(rated)} needs scale = [lo, hi] and higher_is_better")
        return self


class VoteSource(LabelSource):
    """Votes: `preference` is P(completion_a preferred), 1, 0, or 0.5 for a tie.

    `a_first` says whether completion_a was shown first, if that is known. Where no row has a
    prompt, it is the messages that both sides begin with.
    """

    kind: ClassVar[str] = "votes"
    label: ClassVar[str] = "preference"
    needs: ClassVar[tuple[str, ...]] = ("completion_a", "completion_b", "preference")
    takes: ClassVar[tuple[str, ...]] = (
        "prompt", *ABOUT_PROMPT, *ABOUT_LABEL, "a_first", "generator_a", "generator_b",
    )  # fmt: skip


class RatingSource(LabelSource, Scaled):
    """Ratings, with `scale` and `higher_is_better`; thumbs down and up are 0 and 1."""

    kind: ClassVar[str] = "ratings"
    label: ClassVar[str] = "rating"
    needs: ClassVar[tuple[str, ...]] = ("prompt", "completion", "rating")
    takes: ClassVar[tuple[str, ...]] = (*ABOUT_PROMPT, *ABOUT_LABEL, "generator")

    @model_validator(mode="after")
    def _scaled(self) -> "RatingSource":
        if self.scale is None:
            raise ValueError("ratings need scale = [lowest, highest] and higher_is_better")
        return self


class RankingSource(LabelSource):
    """Rankings: a row a completion, with its `rank` among those of its prompt, the smallest best.

    The completions of one prompt, annotator, criterion and draw are one ranking; where the file has
    lists or nested trees, those of each list or tree by itself.
    """

    kind: ClassVar[str] = "rankings"
    label: ClassVar[str] = "rank"
    needs: ClassVar[tuple[str, ...]] = ("prompt", "completion", "rank")
    takes: ClassVar[tuple[str, ...]] = (
        *ABOUT_PROMPT, "annotator", "criterion", "draw", "generator",
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_label(self) -> "RankingSource":
        if self.annotators or self.criteria:
            raise ValueError("annotators and criteria are for votes and ratings")
        return self


KINDS: Mapping[str, type[SourceSpec]] = {
    kind.kind: kind
    for kind in (
        PairSource,
        VoteSource,
        RatingSource,
        RankingSource,
        CompletionSource,
        PromptSource,
    )
}


def _listed(key: str, kind: type[SourceSpec]) -> BeforeValidator:
    """A single source is a list of one, and a text is its path (or its name on the Hub)."""

    def listed(raw: Any) -> Any:
        many: list[Any] = list(raw) if isinstance(raw, list | tuple) else [raw]  # pyright: ignore[reportUnknownArgumentType]
        return [{key: each} if isinstance(each, str) else each for each in many]

    given = str | kind | list[str | kind]
    return BeforeValidator(listed, json_schema_input_type=given)


class Sources(BaseModel):
    """The `sources` of a recipe. What a `hub` source holds is read from its columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: Annotated[list[PromptSource], _listed("path", PromptSource)] = []
    completions: Annotated[list[CompletionSource], _listed("path", CompletionSource)] = []
    pairs: Annotated[list[PairSource], _listed("path", PairSource)] = []
    votes: Annotated[list[VoteSource], _listed("path", VoteSource)] = []
    ratings: Annotated[list[RatingSource], _listed("path", RatingSource)] = []
    rankings: Annotated[list[RankingSource], _listed("path", RankingSource)] = []
    hub: Annotated[list[SourceSpec], _listed("hub", SourceSpec)] = []

    @model_validator(mode="after")
    def _distinct(self) -> "Sources":
        places: dict[str, Any] = {}
        for spec in self.specs:
            place = (spec.path, spec.hub, spec.config, spec.split, spec.revision)
            if places.setdefault(spec.name, place) != place:
                raise ValueError(f"two sources are called {spec.name!r}; give one another name")
        return self

    @property
    def specs(self) -> list[SourceSpec]:
        """Every source, in the order of the tables."""
        kinds = (self.prompts, self.completions, self.pairs, self.votes, self.ratings)
        kinds = (*kinds, self.rankings, self.hub)
        return [spec for kind in kinds for spec in kind]
