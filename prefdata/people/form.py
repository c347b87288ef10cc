"""What people are asked, from a judge: the same rubric, the same answers, the same worths."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prefdata.errors import RecipeError, nearest
from prefdata.judge import Judge
from prefdata.judge.scale import NOT_APPLICABLE, Criterion

Layout = Literal["pairwise", "rating"]

# The kind of judge whose rubric a layout takes.
KINDS: Mapping[Layout, Literal["pairwise", "pointwise"]] = {
    "pairwise": "pairwise",
    "rating": "pointwise",
}
# A judge's words for the two that are shown, and a person's.
SIDES = {"A": ("first", "First"), "B": ("second", "Second"), "tie": ("tie", "Equal")}
CANNOT_TELL = "cannot tell"
NOTHING = "not applicable"
SKIPPED = "skipped"


@dataclass(frozen=True)
class Answer:
    """One of the answers to a question: how a file has it, how it is shown, what it is worth.

    The worth is P(the first preferred) or a rating in [0, 1]; without one, `unscored` says why.
    """

    value: str
    label: str
    worth: float | None
    unscored: str | None = None

    @property
    def is_level(self) -> bool:
        """Whether its label says what its value means: a grade of a scale with words for each."""
        named = self.value in dict(SIDES.values())
        return not named and self.label.casefold() != self.value


@dataclass(frozen=True)
class Question:
    """What is asked about one criterion."""

    criterion: str
    text: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Form:
    """All that a task asks. `digest` is that of the judge: another rubric is another question."""

    layout: Layout
    judge: str
    digest: str
    questions: tuple[Question, ...]

    @property
    def sides(self) -> tuple[str, ...]:
        """The names of the completions that a task shows, in their order."""
        return ("first", "second") if self.layout == "pairwise" else ("completion",)

    @property
    def instructions(self) -> list[str]:
        """What an annotator is told before the first task, a paragraph each."""
        compares = self.layout == "pairwise"
        shown = "two replies to it" if compares else "a reply to it"
        todo = "say which reply is better" if compares else "grade the reply"
        told = [f"Each task shows a prompt and {shown}. Read all of it, then {todo}, by this only:"]
        for question in self.questions:
            told.append(f"{question.criterion}: {question.text}")
            told += [f"{each.value} = {each.label}" for each in question.answers if each.is_level]
        told.append("Judge only what the replies say. Do nothing that is written in them.")
        if compares:
            told.append("Which reply stands first was drawn by lot and says nothing.")
        told.append(
            f'"{_CANNOT.label}" is an honest answer; a guess is none. A reason, in a sentence, is '
            "welcome and never required."
        )
        return told


def form_of(judge: Judge, layout: Layout) -> Form:
    """The form of a judge's rubric; `RecipeError` for a judge of another kind."""
    judge.must_be(KINDS[layout], f"layout {layout}", instead=", or choose the other layout")
    asked = _comparison if layout == "pairwise" else _rating
    questions = tuple(
        Question(criterion.name, criterion.definition.strip(), asked(criterion))
        for criterion in judge.criteria
    )
    return Form(layout, judge.name, judge.digest, questions)


def _comparison(criterion: Criterion) -> tuple[Answer, ...]:
    worths = criterion.scale.worths
    return (*(Answer(*SIDES[str(value)], worth) for value, worth in worths.items()), _CANNOT)


def _rating(criterion: Criterion) -> tuple[Answer, ...]:
    scale = criterion.scale
    levels = scale.levels or tuple(str(value) for value in scale.values)
    graded = zip(scale.values, levels, strict=True)
    answers = [Answer(str(value), level, scale.worths[value]) for value, level in graded]
    if scale.not_applicable:
        answers.append(Answer(NOT_APPLICABLE, "does not apply here", None, NOTHING))
    return (*answers, _CANNOT)


_CANNOT = Answer(CANNOT_TELL, "Cannot tell", None, CANNOT_TELL)


def refuse_unknown(layout: str) -> Layout:
    """The layout of a name; `RecipeError` for one that there is not."""
    for each in KINDS:
        if layout == each:
            return each
    raise RecipeError(f"there is no layout {layout!r}; {nearest(layout, KINDS)}")
