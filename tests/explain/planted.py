"""A world in which words decide: who proposes, who votes, and who labelled, all planted."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.stage import Model, drive
from prefdata.tables import Completions, Pairs, Prompts, Requests, Responses
from tests.annotate.replying import first

MODEL = Model("grader", label="m", identity="m@1")
WORDS = [f"word{at:02d}" for at in range(43)]
Reply = Callable[[dict[str, Any]], str | None]


def rule(word: str) -> str:
    return f"Select the reply that says {word}."


def world(
    n: int, weights: dict[str, float], *, seed: int = 0, words: list[str] = WORDS
) -> tuple[Prompts, Completions, Pairs]:
    """n prompts with two completions of random words; who has more weight is likelier chosen."""
    draw = np.random.default_rng(seed)
    asked = [[{"role": "user", "content": f"question {seed} {at}"}] for at in range(n)]
    prompts = pl.DataFrame(
        {"prompt_id": tables.prompt_ids(asked), "prompt": asked, "source": "test"}
    )
    has = draw.random((n, 2, len(words))) < 0.5
    texts = [
        [f"{at} {side} " + " ".join(w for w, h in zip(words, has[at, side], strict=True) if h)
         for side in (0, 1)] for at in range(n)
    ]  # fmt: skip
    owners = [each for each in prompts["prompt_id"] for _ in (0, 1)]
    said = [[{"role": "assistant", "content": text}] for two in texts for text in two]
    ids = tables.completion_ids(owners, said)
    completions = pl.DataFrame({"completion_id": ids, "prompt_id": owners, "completion": said})
    worth = np.array([weights.get(word, 0.0) for word in words])
    apart = (has[:, 0].astype(float) - has[:, 1]) @ worth
    one = draw.random(n) < 1 / (1 + np.exp(-apart))
    return (
        tables.typed(Prompts, prompts),
        tables.typed(Completions, completions),
        labelled(prompts, ids, one),
    )


def labelled(prompts: pl.DataFrame, ids: pl.Series, one: np.ndarray) -> Pairs:
    """A pair for each prompt, of its two completions in a row; the first is chosen if `one`."""
    sides = ids.to_numpy().reshape(-1, 2)
    chosen, rejected = (np.where(one, sides[:, i], sides[:, 1 - i]) for i in (0, 1))
    pairs = {
        "pair_id": tables.pair_ids(chosen.tolist(), rejected.tolist()),
        "prompt_id": prompts["prompt_id"],
        "chosen_id": chosen,
        "rejected_id": rejected,
        "soft_label": 1.0,
        "n_votes": 1,
    }
    return tables.typed(Pairs, pl.DataFrame(pairs))


def blocks(request: dict[str, Any]) -> list[set[str]]:
    """The words of each fenced text of a request: the prompt, then the replies as shown."""
    return [set(text.split()) for text in re.findall(r"```\n(.*?)\n```", first(request), re.DOTALL)]


def proposes(request: dict[str, Any]) -> str:
    """Words that the preferred reply has and the other has not, as many as are asked for."""
    most = json.loads(request["options"])["schema"]["properties"]["principles"]["maxItems"]
    _, chosen, other = blocks(request)
    only = sorted((chosen - other) & set(WORDS))
    random.Random(request["request_id"]).shuffle(only)
    return json.dumps({"principles": [rule(word) for word in only[:most]] or ["Select the reply."]})


def listed(request: dict[str, Any]) -> dict[str, str]:
    """The principles that a request asks about, by number."""
    return dict(re.findall(r"^(\d+)\. (.*)$", first(request), re.MULTILINE))


def written(said: dict[str, str], schema: dict[str, Any]) -> str:
    """Votes by number as the schema wants them: by number, or as lists of the numbers."""
    fields = schema["properties"]
    lists = {
        value: [int(at) for at, vote in said.items() if vote == value]
        for value in fields
        if fields[value]["type"] == "array"
    }
    return json.dumps(lists or said)


def votes(request: dict[str, Any]) -> str:
    """Each principle speaks for the reply that has its word."""
    _, a, b = blocks(request)
    said: dict[str, str] = {}
    for number, text in listed(request).items():
        word = text.removesuffix(".").split()[-1]
        one, other = word in a, word in b
        said[number] = ("tie" if one else "N/A") if one == other else "A" if one else "B"
    return written(said, json.loads(request["options"])["schema"])


def is_proposal(request: dict[str, Any]) -> bool:
    return "principles" in json.loads(request["options"])["schema"]["properties"]


def reply(request: dict[str, Any]) -> str:
    return proposes(request) if is_proposal(request) else votes(request)


def run(asks: Any, said: Reply = reply, heard: list[dict[str, Any]] | None = None) -> Any:
    """What a stage makes of the replies; embeddings are one axis a last word."""

    def ask(requests: Requests) -> Responses:
        rows: list[dict[str, Any]] = []
        for request in requests.to_dicts():
            if heard is not None:
                heard.append(request)
            blank = {"request_id": request["request_id"], "tokens_in": 1, "tokens_out": 1}
            if request["want"] == "embedding":
                rows.append({**blank, "vector": vector(first(request))})
            else:
                rows.append({**blank, "text": said(request), "finish_reason": "stop"})
        schema = tables.schema("responses").dtypes
        return tables.typed(
            Responses,
            pl.DataFrame(rows, {k: v for k, v in schema.items() if k in set().union(*rows)}),
        )

    return drive(asks, ask)


def vector(text: str) -> list[float]:
    word = text.removesuffix(".").split()[-1]
    made = np.zeros(len(WORDS) + 1)
    made[WORDS.index(word) if word in WORDS else -1] = 1.0
    return made.tolist()


def constitution_reply(request: dict[str, Any]) -> str:
    """Follows the listed rules, each a vote; says A where they are silent or there are none."""
    _, a, b = blocks(request)
    apart = 0
    for text in listed(request).values():
        word = text.removesuffix(".").split()[-1]
        apart += (word in a) - (word in b)
    return json.dumps({"verdict": "B" if apart < 0 else "A"})


def pairs_of_set(frame: pl.DataFrame, *, turned: bool) -> list[dict[str, str]]:
    """A synthetic set of ICAI as rows of pairs, with the labels as they are or turned."""
    made: list[dict[str, str]] = []
    for row in frame.to_dicts():
        a, b = (re.fullmatch(r"Instruction: (.*?)\n\nOutput:\s*(.*)", row[side], re.DOTALL)
                for side in ("text_a", "text_b"))  # fmt: skip
        assert a
        assert b
        better, worse = (a, b) if (row["preferred_text"] == "text_a") != turned else (b, a)
        made.append({"prompt": a[1].strip(), "chosen": better[2].strip(),
                     "rejected": worse[2].strip()})  # fmt: skip
    return made
