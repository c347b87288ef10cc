"""What tests of asked judges share: a small world, what a request shows, and who answers it."""

import json
import re
from collections.abc import Callable
from typing import Any

import polars as pl

from prefdata import tables
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Prompts, Requests, Responses

MODEL = Model("grader", label="m", identity="m@1")
Request = dict[str, Any]
Reply = Callable[[Request], str | None]


def world(n_prompts: int = 3, n: int = 3) -> tuple[Prompts, Completions]:
    """Completion `k` says "answer k of ...": the later one is the better one."""
    prompt = [[{"role": "user", "content": f"question {i}"}] for i in range(n_prompts)]
    prompts = pl.DataFrame(
        {"prompt_id": tables.prompt_ids(prompt), "prompt": prompt, "source": "test"}
    )
    rows = [(p, f"answer {k} of {p[:4]}") for p in prompts["prompt_id"] for k in range(n)]
    said = [[{"role": "assistant", "content": text}] for _, text in rows]
    ids = [p for p, _ in rows]
    completions = pl.DataFrame(
        {
            "completion_id": tables.completion_ids(ids, said),
            "prompt_id": ids,
            "completion": said,
        }
    )
    return tables.typed(Prompts, prompts), tables.typed(Completions, completions)


def quality(completions: Completions) -> dict[str, int]:
    """The planted quality of each completion."""
    text = pl.col("completion").list.last().struct["content"]
    found = completions.select("completion_id", text.str.extract(r"answer (\d+)").cast(pl.Int64))
    return dict(found.rows())


def first(request: Request) -> str:
    """The first message of a user: what is asked, also where it is asked once more."""
    return next(turn["content"] for turn in request["messages"] if turn["role"] == "user")


def shown(request: Request) -> dict[str, str]:
    """The replies that a request shows, by letter, in their order."""
    return dict(re.findall(r"Reply ([A-Z]):\n```\n(.*?)\n```", first(request), re.DOTALL))


def known(text: str) -> int:
    """The planted quality that a judge reads off a reply."""
    return int(text.split()[1])


def keys(request: Request) -> list[str]:
    return list(json.loads(request["options"])["schema"]["properties"])


def answers(requests: Requests, reply: Reply, **fields: object) -> Responses:
    """What a model would say."""
    blank = {"tokens_in": 1, "tokens_out": 1, "finish_reason": "stop", **fields}
    frame = pl.DataFrame(
        {
            "request_id": requests["request_id"],
            "text": pl.Series([reply(row) for row in requests.to_dicts()], dtype=pl.String),
        }
    )
    return tables.typed(Responses, frame.with_columns(pl.lit(v).alias(k) for k, v in blank.items()))


def run(asks: Any, reply: Reply, **fields: object) -> Any:
    """What a stage makes of the replies."""
    return drive(asks, lambda requests: answers(requests, reply, **fields))


def shards(table: pl.DataFrame, prompts: Prompts, n: int, at: int) -> Any:
    """The rows of every n-th prompt."""
    return table.filter(
        pl.col("prompt_id").is_in(prompts["prompt_id"].gather_every(n, at).to_list())
    )
