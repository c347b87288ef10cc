"""Many questions that share their answers, answered by lists: under each answer, its questions.

    {"A": [2, 5], "B": [1], "tie": []}

is what {"1": "B", "2": "A", "3": "N/A", "4": "N/A", "5": "A"} says. Its schema does not grow with
the number of questions, and one that no answer applies to costs nothing. A number in two lists says
as little as one in none: it is "N/A" or, where the scale has no "N/A", the reply is malformed. A
number that is no question voids the reply as a whole.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from prefdata.judge import verdict
from prefdata.judge.form import Field, Form
from prefdata.judge.scale import NOT_APPLICABLE, Scale


@dataclass(frozen=True)
class Numbers:
    """A list of whole numbers from 1 to `most`; a number twice says no more."""

    most: int

    @property
    def wording(self) -> str:
        return "the list of the numbers with this answer, or []"

    @property
    def schema(self) -> dict[str, Any]:
        items = {"type": "integer", "minimum": 1, "maximum": self.most}
        return {"type": "array", "items": items, "maxItems": self.most}

    def accepts(self, value: object) -> bool:
        if not isinstance(value, list):
            return False
        said = cast(list[object], value)
        return all(type(each) is int and 1 <= each <= self.most for each in said)


@dataclass(frozen=True)
class Lists(Form):
    """A form with the keys "1" to "n", all of one scale, replied to by a list for each value."""

    @property
    def _scale(self) -> Scale:
        return cast(Scale, next(iter(self.keys.values())))

    @property
    def fields(self) -> Mapping[str, Field]:
        return {str(value): Numbers(len(self.keys)) for value in self._scale.values}

    @property
    def wording(self) -> str:
        out = f' Leave out those with "{NOT_APPLICABLE}".' if self._scale.not_applicable else ""
        return f"{super().wording} No number twice.{out}"

    def _told(self, judged: verdict.Judged) -> dict[str, Any]:
        held = [(str(at), value) for value in self._scale.values for at in set(judged[str(value)])]
        often = Counter(at for at, _ in held)
        told = {at: value for at, value in held if often[at] == 1}
        return {key: told.get(key, NOT_APPLICABLE) for key in self.keys}

    def _fault(self, judged: verdict.Judged) -> str | None:
        wrong = super()._fault(judged)
        if wrong is not None or self._scale.not_applicable:
            return wrong
        return verdict.MALFORMED if NOT_APPLICABLE in self._told(judged).values() else None
