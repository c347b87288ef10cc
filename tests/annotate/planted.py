"""Small worlds of prompts and completions, and models that answer by a function."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from prefdata import tables
from prefdata.stage import drive
from prefdata.tables import Completions, Prompts, Requests, Responses

Reply = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def world(
    texts: Mapping[str, Sequence[str]], references: Mapping[str, str] | None = None
) -> tuple[Prompts, Completions]:
    """Each prompt with its completions."""
    asked = [[{"role": "user", "content": each}] for each in texts]
    known = [(references or {}).get(each) for each in texts]
    prompts = pl.DataFrame({"prompt": asked, "source": "test"}).with_columns(
        tables.prompt_ids(asked), pl.Series("reference", known, pl.String)
    )
    rows = [
        (prompt, [{"role": "assistant", "content": text}])
        for prompt, given in zip(prompts["prompt_id"], texts.values(), strict=True)
        for text in given
    ]
    ids, said = [prompt for prompt, _ in rows], [text for _, text in rows]
    completions = pl.DataFrame(
        {"prompt_id": pl.Series(ids, dtype=pl.String), "completion": said},
        schema_overrides={"completion": tables.MESSAGES},
    ).with_columns(tables.completion_ids(ids, said))
    return tables.typed(Prompts, prompts), tables.typed(Completions, completions)


def answered(stage: Any, reply: Reply) -> tuple[Any, pl.DataFrame]:
    """What a stage makes of the replies to each of its requests, and what it asked."""
    asked: list[pl.DataFrame] = []

    def ask(requests: Requests) -> Responses:
        asked.append(requests)
        blank = {"tokens_in": 1, "tokens_out": 0}
        rows = [
            {**blank, "request_id": row["request_id"], **reply(row)} for row in requests.to_dicts()
        ]
        made = pl.DataFrame(rows, schema=tables.schema("responses").dtypes)
        return Responses(made.sample(fraction=1.0, shuffle=True, seed=1))

    made = drive(stage, ask)
    return made, pl.concat(asked) if asked else pl.DataFrame()


def said(row: Mapping[str, Any]) -> str:
    """The given completion."""
    return "".join(turn["content"] for turn in row["completion"] or ())


def text_of(completions: pl.DataFrame) -> dict[str, str]:
    return {
        key: "".join(turn["content"] for turn in turns)
        for key, turns in completions.select("completion_id", "completion").iter_rows()
    }


def logprobs(values: Sequence[float]) -> dict[str, Any]:
    told = [{"token": f"t{at}", "logprob": value} for at, value in enumerate(values)]
    return {"logprobs": told, "number": sum(values)}
