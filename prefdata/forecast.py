"""What a plan will ask: requests, tokens and cost by stage, without asking anything.

The stages really run, on invented replies (answers that the ledger holds are used as they are): so
the number of requests is what the build will ask, but for completions that turn out equal, verdicts
that have to be asked again, and rows that a filter will drop. Tokens are estimated at
`CHARACTERS_PER_TOKEN`. Above `sample` prompts a sample is run and scaled.

It is a rehearsal too: a mistake that only a stage itself can see, such as a judge of the wrong kind
or two results under one name, comes to light before anything is spent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from prefdata import tables as t
from prefdata.errors import RecipeError, TableError
from prefdata.invention import Inventor
from prefdata.loop import Tables, follow, run_stage
from prefdata.models.account import cost
from prefdata.models.spec import ModelSpec
from prefdata.plan import Plan, PlannedStage
from prefdata.tables import Requests, Responses

CHARACTERS_PER_TOKEN = 4.0
SAMPLE = 1000


@dataclass(frozen=True)
class Forecast:
    """What one stage will ask. `answered` of its requests are in the ledger already."""

    stage: str
    requests: int = 0
    answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    unknown: str = ""

    def times(self, factor: float) -> "Forecast":
        """The same for `factor` times as many prompts."""
        return replace(
            self,
            requests=round(self.requests * factor),
            answered=round(self.answered * factor),
            tokens_in=round(self.tokens_in * factor),
            tokens_out=round(self.tokens_out * factor),
            cost=self.cost * factor,
        )


def forecast(
    plan: Plan,
    tables: Tables,
    *,
    find: Callable[[pl.Series], Responses] | None = None,
    sample: int = SAMPLE,
) -> list[Forecast]:
    """One `Forecast` for each stage that asks; `find` looks request ids up in the ledger.

    Raises the `RecipeError` or `TableError` of a stage, unless a sample of imported labels may be
    its cause. From the first stage that cannot run on invented replies for another reason, the
    numbers are unknown, with why.
    """
    asking = [stage for stage in plan.stages if stage.contract.asks]
    if not asking:
        return []
    few, factor = _sample(tables, sample)
    is_telling = factor == 1 or not {"votes", "ratings", "pairs"} & tables.keys()
    seen = {stage.name: Forecast(stage.name) for stage in asking}
    inventor, current = Inventor(), ""

    def ask(requests: Requests) -> Responses:
        answers, counts = _invent(requests, find, plan.recipe.models, inventor)
        so_far = seen[current]
        seen[current] = replace(
            so_far, **{key: getattr(so_far, key) + value for key, value in counts.items()}
        )
        return answers

    for stage in (*plan.stages, *plan.exports):
        current = stage.name
        try:
            if stage in plan.exports:
                run_stage(stage, few, ask)
            else:
                few = follow([stage], few, ask=ask)
        except Exception as error:
            if is_telling and isinstance(error, RecipeError | TableError):
                raise
            _unknown(seen, asking, stage, error)
            break
    return [each.times(factor) for each in seen.values()]


def _unknown(
    seen: dict[str, Forecast], asking: list[PlannedStage], stage: PlannedStage, error: Exception
) -> None:
    for later in asking:
        if seen[later.name].requests == 0:
            reason = f"{stage.name} needs real replies: {error}"
            seen[later.name] = replace(seen[later.name], unknown=reason)


def _sample(tables: Tables, most: int) -> tuple[Tables, float]:
    """The tables of at most so many prompts, chosen by id, and the factor to scale by."""
    prompts = tables.get("prompts", t.empty("prompts"))
    if prompts.height <= most:
        return tables, 1.0
    few = prompts.sort("prompt_id").head(most)
    chosen = {
        name: frame.join(few.select("prompt_id"), on="prompt_id", how="semi")
        if "prompt_id" in frame.columns
        else frame
        for name, frame in tables.items()
    }
    return chosen, prompts.height / most


def _invent(
    requests: Requests,
    find: Callable[[pl.Series], Responses] | None,
    specs: Mapping[str, ModelSpec],
    inventor: Inventor,
) -> tuple[Responses, dict[str, Any]]:
    known = t.empty("responses") if find is None else find(requests["request_id"])
    inventor.see(requests, Responses(known))
    unknown = requests.join(known, on="request_id", how="anti").to_dicts()
    rows = [{**inventor.reply(row), **_size(row)} for row in unknown]
    for row in rows:
        row["tokens_out"] = _written(row)
    invented = pl.DataFrame(rows, schema=t.schema("responses").dtypes)
    counts = {
        "requests": requests.height,
        "answered": known.height,
        "tokens_in": int(invented["tokens_in"].sum()),
        "tokens_out": int(invented["tokens_out"].sum()),
        "cost": cost(requests, Responses(invented), specs),
    }
    return Responses(pl.concat([known, invented])), counts


def _size(request: Mapping[str, Any]) -> dict[str, Any]:
    turns = (*request["messages"], *(request["completion"] or ()))
    characters = sum(len(turn["content"]) for turn in turns)
    return {"tokens_in": round(characters / CHARACTERS_PER_TOKEN) + 1}


def _written(reply: Mapping[str, Any]) -> int:
    return round(len(reply["text"]) / CHARACTERS_PER_TOKEN) + 1 if reply["text"] else 0
