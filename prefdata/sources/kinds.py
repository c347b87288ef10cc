"""The kinds of sources, each with the columns that it needs and takes, and all of a recipe's."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from prefdata.sources.spec import ABOUT_LABEL, ABOUT_PROMPT, ANNOTATOR, SourceSpec, Unfolded

Columns = str | dict[str, str]  # of a label, or of it and its rationale


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


class LabelSource(SourceSpec):
    """Labels of somebody: `annotator` is who where the file does not say, by default a human.

    `annotators` unfolds a file with one column an annotator: annotator = column, or annotator =
    {<label> = column, rationale = column}; `criteria` likewise one with a column a criterion. A
    null in such a column is no label.
    """

    annotator: Annotated[str, Field(pattern=ANNOTATOR)] | None = None
    criterion: str = "overall"
    annotators: dict[Annotated[str, Field(pattern=ANNOTATOR)], Columns] = Field(
        default_factory=dict[str, Columns]
    )
    criteria: dict[str, Columns] = Field(default_factory=dict[str, Columns])
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
