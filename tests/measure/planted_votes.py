"""Worlds of two completions a prompt, voted on by annotators with planted likings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables as t

Floats = NDArray[np.float64]
SCALE = 1.5


def voted_world(
    draw: np.random.Generator,
    texts: Sequence[tuple[str, str]],
    quality: Floats,
    liked: Mapping[str, Floats],
    *,
    first: float = 0.0,
    name: str = "question",
) -> dict[str, Any]:
    """Votes and completions; `quality` and what each annotator adds to it are (prompts, 2).

    P(prefers the one) = sigmoid(SCALE (its quality - the other's) + its liking - the other's
    + first if it is shown first, - first if not).
    """
    n = len(texts)
    asked = [[{"role": "user", "content": f"{name} {at}"}] for at in range(n)]
    prompt_ids = t.prompt_ids(asked).to_list()
    said = [[{"role": "assistant", "content": text}] for two in texts for text in two]
    of_prompt = [each for each in prompt_ids for _ in range(2)]
    completions = pl.DataFrame({"prompt_id": of_prompt, "completion": said})
    completions = completions.with_columns(t.completion_ids(completions["prompt_id"], said))
    ids = completions["completion_id"].to_numpy().reshape(n, 2)
    sign = np.where(ids[:, 0] > ids[:, 1], -1.0, 1.0)
    a, b = np.sort(ids, axis=1).T
    frames = []
    for annotator, liking in liked.items():
        place = draw.random(n) < 0.5
        toward = SCALE * quality + liking
        eta = sign * (toward[:, 0] - toward[:, 1]) + first * np.where(place, 1.0, -1.0)
        frames.append(
            pl.DataFrame(
                {
                    "prompt_id": prompt_ids,
                    "completion_a": a,
                    "completion_b": b,
                    "annotator": annotator,
                    "criterion": "helpfulness",
                    "draw": 0,
                    "a_first": place,
                    "preference": (draw.random(n) < 1 / (1 + np.exp(-eta))).astype(float),
                }
            )
        )
    return {
        "votes": t.check("votes", pl.concat(frames), where="test"),
        "completions": t.check("completions", completions, where="test"),
        "ids": ids,
    }


def samples_of(world: Mapping[str, Any], generators: Sequence[Sequence[str]]) -> pl.DataFrame:
    """The samples of a world: one generator for each of its completions, (prompts, 2)."""
    names = [name for two in generators for name in two]
    made = pl.DataFrame({"completion_id": world["ids"].ravel(), "generator": names, "draw": 0})
    of = world["completions"].select("completion_id", "prompt_id")
    return t.check("samples", made.join(of, on="completion_id"), where="test")


def swapped(world: Mapping[str, Any], seed: int, *tables: str) -> dict[str, pl.DataFrame]:
    """The same world with other ids of completions, so that others come first of their two."""
    ids = world["completions"]["completion_id"]
    others = np.random.default_rng(seed).permutation(ids.to_numpy())
    new = dict(zip(ids, others, strict=True))
    turn = pl.col("completion_a") > pl.col("completion_b")
    renamed = world["votes"].with_columns(
        pl.col("completion_a", "completion_b").replace_strict(new)
    )
    votes = renamed.with_columns(
        completion_a=pl.min_horizontal("completion_a", "completion_b"),
        completion_b=pl.max_horizontal("completion_a", "completion_b"),
        a_first=pl.col("a_first") != turn,
        preference=pl.when(turn).then(1 - pl.col("preference")).otherwise("preference"),
    )
    made = {
        name: world[name].with_columns(pl.col("completion_id").replace_strict(new))
        for name in ("completions", *tables)
    }
    return {"votes": votes, **made}


def measured(measures: pl.DataFrame, name: str, subject: str) -> dict[str, Any]:
    rows = measures.filter(pl.col("measure") == name, pl.col("subject") == subject)
    return rows.row(0, named=True)
