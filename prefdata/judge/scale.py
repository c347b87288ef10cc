"""What may be answered and what it is worth: the one place for both.

A `Scale` owns the values that a verdict may take, how a prompt names them, the schema that a
constrained engine obeys, which values are accepted, and the worth of each in [0, 1].
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NOT_APPLICABLE = "N/A"

Value = int | str
Listed = Field(strict=False)  # TOML and Python lists become tuples; their items stay strict
Kind = Literal["pairwise", "pointwise", "combined", "listwise"]
_COMPARED = (("A", "B"), ("A", "B", "tie"))
_LISTED = (("ranks",), ("ranks", "tie"), ("best",))


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Scale(Strict):
    """The values that a verdict may take, in order, and what each is worth in [0, 1].

    Whole numbers rise from the least to the most of the criterion and are worth their share of
    the way, or what is left of it where less is better. "A", "B" and "tie" are worth P(A is
    preferred): 1, 0 and 0.5, or 0, 1 and 0.5 where the one with less is better. "ranks", with
    "tie" if equal ranks are allowed, and "best" say what is asked about a list.
    """

    values: Annotated[tuple[Value, ...], Listed]
    higher_is_better: bool = True
    not_applicable: bool = False
    levels: Annotated[tuple[str, ...], Listed] = ()

    @model_validator(mode="after")
    def _sound(self) -> "Scale":
        numbers = [value for value in self.values if isinstance(value, int)]
        if len(numbers) < len(self.values):
            if self.values not in (*_COMPARED, *_LISTED):
                raise ValueError(
                    'values are ["A", "B"], ["A", "B", "tie"] or whole numbers; of a list '
                    '["ranks"], ["ranks", "tie"] or ["best"]'
                )
            if self.levels or (self.not_applicable and self.values in _LISTED):
                raise ValueError("levels belong to whole numbers, not_applicable not to a list")
            if self.values == ("best",) and not self.higher_is_better:
                raise ValueError("the best of a list is the one with the most: higher is better")
        elif len(numbers) < 2 or numbers != sorted(set(numbers)):
            raise ValueError("values are at least two whole numbers, each larger than the last")
        if self.levels and len(self.levels) != len(self.values):
            raise ValueError(f"{len(self.levels)} levels for {len(self.values)} values")
        return self

    @property
    def kind(self) -> Kind:
        if self.values in _LISTED:
            return "listwise"
        return "pairwise" if isinstance(self.values[0], str) else "pointwise"

    @property
    def worths(self) -> Mapping[Value, float]:
        """What each value is worth: a rating, or the probability that A is preferred."""
        numbers = [value for value in self.values if isinstance(value, int)]
        if numbers:
            low, high = numbers[0], numbers[-1]
            worths: dict[Value, float] = {v: (v - low) / (high - low) for v in numbers}
        else:
            worths = {"A": 1.0, "B": 0.0, "tie": 0.5} if self.kind == "pairwise" else {}
        sign = 1 if self.higher_is_better else -1
        return {
            v: worth if sign > 0 else 1 - worth for v, worth in worths.items() if v in self.values
        }

    @property
    def offered(self) -> list[Value]:
        return [*self.values, *([NOT_APPLICABLE] if self.not_applicable else [])]

    @property
    def wording(self) -> str:
        """How a prompt names them: `"A", "B" or "tie"`; `an integer from 1 to 5, or "N/A"`."""
        first, last = self.values[0], self.values[-1]
        if isinstance(first, int) and self.values == tuple(range(first, first + len(self.values))):
            na = f", or {json.dumps(NOT_APPLICABLE)}" if self.not_applicable else ""
            return f"an integer from {first} to {last}{na}"
        *most, least = map(json.dumps, self.offered)
        return f"{', '.join(most)} or {least}" if most else least

    @property
    def schema(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        kind = "string" if self.kind == "pairwise" else "integer"
        both = [kind, "string"] if self.not_applicable and kind == "integer" else kind
        return {"type": both, "enum": self.offered}

    def accepts(self, value: object) -> bool:
        """Whether a value is offered, of the same type: neither True nor 1.0 nor "1" is 1."""
        return type(value) in (int, str) and value in self.offered


class Criterion(Strict):
    """What is compared or rated; `weight` is its share where criteria are merged."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
    definition: str
    scale: Scale
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)] = 1.0

    @model_validator(mode="after")
    def _sound(self) -> "Criterion":
        if self.name in ("reason", "verdict"):
            raise ValueError(f"a criterion cannot be called {self.name!r}: verdicts have that key")
        return self

    @property
    def rubric(self) -> str:
        levels = zip(self.scale.values, self.scale.levels, strict=False)
        lines = [f"{self.name}: {self.definition}", *(f"{v} = {level}" for v, level in levels)]
        if self.scale.not_applicable:
            lines.append(f"{json.dumps(NOT_APPLICABLE)} = does not apply here")
        return "\n".join(lines)
