"""What a plan will ask: requests, tokens and cost by stage, with intervals; nothing is asked.

The stages really run, on invented replies (answers that the ledger holds are used as they are): so
the number of requests is what the build will ask, but for completions that turn out equal, verdicts
that have to be asked again, and rows that a filter will drop. Above `sample` prompts a sample is
run and scaled. `expectation` says what tokens and cost come to and how sure that is.

It is a rehearsal too: a mistake that only shows where there are rows, such as two results under one
name, comes to light before anything is spent. `rehearsal` finds those that need none.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Any

import polars as pl

from prefdata import tables as t
from prefdata.errors import RecipeError, TableError
from prefdata.loop import follow, run_stage
from prefdata.models.costs import most_written
from prefdata.models.experience import Experience, kind, size
from prefdata.models.spec import ModelSpec
from prefdata.models.tokens import BYTES_A_TOKEN, GUESSED_TOKENS, TokenCounter
from prefdata.planning.expectation import (
    EQUAL,
    REASKED,
    Doubt,
    Estimator,
    Expected,
    Figures,
    Part,
    Scale,
)
from prefdata.planning.invention import Inventor
from prefdata.planning.plan import Plan, PlannedStage
from prefdata.stage import PlugIn
from prefdata.tables import Requests, Responses, Tables

SAMPLE = 1000
# Quotes and braces are tokens too.
BYTES_A_TOKEN_OF_JSON = 3.0


@dataclass(frozen=True)
class Forecast:
    """What one stage will ask. `answered` of its requests are in the ledger already.

    `models` has the requests and the answered of each role; `expected.models` the rest of it.
    `first` is the first request for each role and want that the ledger does not answer.
    `boundless` are the roles of whose replies nothing bounds the length.
    """

    stage: str
    requests: int = 0
    answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    expected: Expected = field(default_factory=Expected)
    unknown: str = ""
    models: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    first: tuple[Mapping[str, Any], ...] = ()
    boundless: tuple[str, ...] = ()


@dataclass
class _Asked:
    """What one stage asked while it was rehearsed; `known` are the answered requests by role."""

    known: Counter[str] = field(default_factory=Counter[str])
    parts: dict[Any, Part] = field(default_factory=dict[Any, Part])
    first: dict[Any, Mapping[str, Any]] = field(default_factory=dict[Any, Mapping[str, Any]])
    unknown: str = ""

    @property
    def answered(self) -> int:
        return self.known.total()

    @property
    def by_role(self) -> Counter[str]:
        """All requests by role."""
        new: Counter[str] = Counter()
        for part in self.parts.values():
            new[part.role] += part.n
        return new + self.known

    @property
    def requests(self) -> int:
        return self.by_role.total()


def forecast(
    plan: Plan,
    tables: Tables,
    *,
    find: Callable[[pl.Series], Responses] | None = None,
    experience: Experience | None = None,
    count: Callable[[ModelSpec], TokenCounter] | None = None,
    sample: int = SAMPLE,
    n_prompts: int | None = None,
    guess: float = 0.0,
) -> list[Forecast]:
    """One `Forecast` for each stage that asks.

    `find` looks request ids up in the ledger, `experience` is what its answers teach, `count` finds
    what counts the tokens of a model (by default they are estimated). `n_prompts` is how many
    there are, where the tables have only some of them, and `guess` by how much that may be wrong.

    Raises the `RecipeError` or `TableError` of a stage, unless a sample of imported labels may be
    its cause. From the first stage that cannot run on invented replies for another reason, the
    numbers are unknown, with why; so is that of a stage to which invented replies left no rows.
    """
    asking = [stage for stage in plan.stages if stage.contract.asks]
    if not asking:
        return []
    few, scale = _sample(tables, sample, n_prompts)
    scale = replace(scale, guess=guess)
    identities = {role: model.identity for role, model in plan.models.items()}
    rehearsal = _Rehearsal(find, experience or Experience(), identities)
    is_telling = scale.factor == 1 or not {"votes", "ratings", "pairs"} & tables.keys()
    seen = rehearsal.stages
    seen.update({stage.name: _Asked() for stage in asking})
    for stage in (*plan.stages, *plan.exports):
        rehearsal.current = stage.name
        try:
            if stage in plan.exports:
                run_stage(_rehearsed(stage), few, rehearsal.ask)
            else:
                before, few = few, follow([_rehearsed(stage)], few, ask=rehearsal.ask)
                _left_nothing(seen, asking, stage, before)
        except Exception as error:
            if is_telling and isinstance(error, RecipeError | TableError):
                raise
            _unknown(seen, asking, stage, error)
            break
    estimator = Estimator(plan.recipe.specs, identities, rehearsal.experience, count)
    return [
        _forecast(estimator, stage, seen[stage.name], scale, _doubt(stage, asking, plan, seen))
        for stage in asking
    ]


def _rehearsed(stage: PlannedStage) -> PlannedStage:
    """The stage with a number drawn for what a plug-in would say, which may take it hours."""
    luck = Random(0)

    def drawn(*_: Any) -> float:
        return luck.random()

    instead = {
        name: replace(option, function=drawn)
        for name, option in stage.options.items()
        if isinstance(option, PlugIn)
    }
    return replace(stage, options={**stage.options, **instead})


def _forecast(
    estimator: Estimator, stage: PlannedStage, asked: _Asked, scale: Scale, doubt: Doubt
) -> Forecast:
    expected = estimator.expected(list(asked.parts.values()), scale, doubt)
    likely = expected.likely
    return Forecast(
        stage.name,
        requests=round(asked.requests * scale.factor),
        answered=round(asked.answered * scale.factor),
        tokens_in=round(likely.tokens_in),
        tokens_out=round(likely.tokens_out),
        cost=likely.cost,
        expected=expected,
        unknown=asked.unknown,
        models={
            role: (round(n * scale.factor), round(asked.known[role] * scale.factor))
            for role, n in sorted(asked.by_role.items())
        },
        first=tuple(asked.first.values()),
        boundless=tuple(
            sorted({p.role for p in asked.parts.values() if p.want == "text" and p.bound is None})
        ),
    )


def _doubt(
    stage: PlannedStage, asking: list[PlannedStage], plan: Plan, seen: Mapping[str, _Asked]
) -> Doubt:
    """How many fewer or more requests a stage may need than invented replies make it ask.

    `MORE = 1.0` in a stage's file says that on real replies it may ask as many again.
    """
    more = REASKED if stage.judges and stage.options.get("reask") else 0.0
    more += float(getattr(sys.modules[stage.function.__module__], "MORE", 0.0))
    before = asking[: asking.index(stage)]
    writers = [s for s in before if "completions" in s.contract.writes and seen[s.name].parts]
    roles = {model.role for writer in writers for model in writer.models}
    greedy = any(plan.models[role].options.get("temperature") == 0 for role in roles)
    asked = seen[stage.name]
    answered = asked.answered / asked.requests if asked.requests else 0.0
    return Doubt((1.0 if greedy else EQUAL) if writers else 0.0, more, answered)


def _left_nothing(
    seen: Mapping[str, _Asked], asking: list[PlannedStage], stage: PlannedStage, tables: Tables
) -> None:
    """A stage that asks nothing because stages that ask made it no rows may well ask in earnest."""
    if stage not in asking or seen[stage.name].requests:
        return
    earlier = asking[: asking.index(stage)]
    for name in stage.contract.reads:
        makers = [each.name for each in earlier if name in each.contract.writes]
        if makers and tables.get(name, t.empty(name)).is_empty():
            seen[stage.name].unknown = f"depends on the {name} that {makers[-1]} finds"


def _unknown(
    seen: dict[str, _Asked], asking: list[PlannedStage], stage: PlannedStage, error: Exception
) -> None:
    for later in asking:
        if seen[later.name].requests == 0:
            seen[later.name].unknown = f"on invented replies, {error}"


def _sample(tables: Tables, most: int, n: int | None) -> tuple[Tables, Scale]:
    """The tables of at most so many prompts, chosen by id, and what they stand for."""
    prompts = tables.get("prompts", t.empty("prompts"))
    n = prompts.height if n is None else n
    if n <= most and n == prompts.height:
        return tables, Scale()
    few = prompts.sort("prompt_id").head(most)
    chosen = {
        name: frame.join(few.select("prompt_id"), on="prompt_id", how="semi")
        if "prompt_id" in frame.columns
        else frame
        for name, frame in tables.items()
    }
    spread = max(
        (_spread(few, frame) for frame in chosen.values() if "prompt_id" in frame.columns),
        default=0.0,
    )
    return chosen, Scale(n / max(few.height, 1), few.height, spread)


def _spread(prompts: pl.DataFrame, frame: pl.DataFrame) -> float:
    """Standard deviation of the rows that a prompt has, relative to their mean."""
    rows = prompts.select("prompt_id").join(
        frame.group_by("prompt_id").len("n"), on="prompt_id", how="left"
    )["n"]
    counts = rows.fill_null(0).cast(pl.Float64)
    mean = float(counts.sum()) / max(counts.len(), 1)
    return float(counts.std() or 0.0) / mean if mean else 0.0  # pyright: ignore[reportArgumentType]


class _Rehearsal:
    """Answers what stages ask and sums it up by stage, model and kind."""

    def __init__(
        self,
        find: Callable[[pl.Series], Responses] | None,
        experience: Experience,
        identities: Mapping[str, str],
    ) -> None:
        self.stages: dict[str, _Asked] = {}
        self.current = ""
        self.experience = experience
        self._find = find
        self._identities = identities
        self._inventor = Inventor(length=self._length)

    def ask(self, requests: Requests) -> Responses:
        known = t.empty("responses") if self._find is None else self._find(requests["request_id"])
        if known.height:
            self._inventor.see(requests, Responses(known))
            self.experience.hear(requests, Responses(known), self._identities, _options)
        asked = self.stages.setdefault(self.current, _Asked())
        asked.known.update(requests.join(known, on="request_id", how="semi")["model"].to_list())
        unknown = requests.join(known, on="request_id", how="anti")
        rows = [self._invented(row, asked) for row in unknown.iter_rows(named=True)]
        invented = pl.DataFrame(rows, schema=t.schema("responses").dtypes)
        return Responses(pl.concat([known, invented]))

    def _length(self, row: Mapping[str, Any]) -> float:
        """Tokens of a free text: as many as in the ledger's answers of its kind, else a guess."""
        _, of_kind, bound = _kind(row["want"], row["options"])
        known = self.experience.length(self._identities[row["model"]], of_kind)
        length = known.mean if known else GUESSED_TOKENS
        return min(length, bound or length)

    def _invented(self, row: Mapping[str, Any], asked: _Asked) -> dict[str, Any]:
        asked.first.setdefault((row["model"], row["want"]), row)
        reply = self._inventor.reply(row)
        n_bytes = size(row["messages"], row["completion"])
        turns = (*row["messages"], *(row["completion"] or ()))
        key = row["model"], *_kind(row["want"], row["options"])
        if key not in asked.parts:
            written = round(len(reply["text"] or "") / BYTES_A_TOKEN_OF_JSON) + 1
            is_free = not _options(row["options"]).get("schema")
            asked.parts[key] = Part(*key, guess=GUESSED_TOKENS if is_free else written)
        asked.parts[key].add(n_bytes, len(turns), "\n".join(turn["content"] for turn in turns))
        return {**reply, "tokens_in": round(n_bytes / BYTES_A_TOKEN) + 1, "tokens_out": 1}


@lru_cache(4096)
def _options(said: str) -> Mapping[str, Any]:
    return json.loads(said)


@lru_cache(4096)
def _kind(want: str, said: str) -> tuple[str, str, int | None]:
    """What tells requests of one model apart here: what is wanted, its kind, the bound of it."""
    options = _options(said)
    most = most_written("text", options)
    return want, kind(want, options), None if most == math.inf else int(most)


def total(forecasts: list[Forecast]) -> tuple[Figures, Figures]:
    """The interval of all stages together."""
    low = sum((each.expected.low for each in forecasts), Figures())
    return low, sum((each.expected.high for each in forecasts), Figures())
