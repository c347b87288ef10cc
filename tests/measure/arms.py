"""Planted bandits: prompts whose completions are arms, drawn from known distributions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables as t

Floats = NDArray[np.float64]


def bandit(
    n_prompts: int, n_arms: int, drawn: Mapping[str, Floats], draws: int, seed: int = 0
) -> dict[str, Any]:
    """`draws` of each generator for each prompt, from its distribution over the arms.

    `arm` maps a completion to its arm; every arm is a completion, drawn or not.
    """
    random = np.random.default_rng(seed)
    asked = [[{"role": "user", "content": f"state {seed} {at}"}] for at in range(n_prompts)]
    prompts = pl.DataFrame({"prompt": asked, "source": "bandit"})
    prompts = prompts.with_columns(t.prompt_ids(asked))
    of_prompt = np.repeat(prompts["prompt_id"].to_numpy(), n_arms)
    arms = np.tile(np.arange(n_arms), n_prompts)
    said = [[{"role": "assistant", "content": f"arm {arm}"}] for arm in arms]
    completions = pl.DataFrame({"prompt_id": of_prompt, "completion": said})
    completions = completions.with_columns(t.completion_ids(completions["prompt_id"], said))
    ids = completions["completion_id"].to_numpy().reshape(n_prompts, n_arms)
    frames = []
    for name, shares in drawn.items():
        chosen = random.choice(n_arms, size=(n_prompts, draws), p=shares)
        frame = pl.DataFrame(
            {
                "completion_id": np.take_along_axis(ids, chosen, axis=1).ravel(),
                "prompt_id": np.repeat(prompts["prompt_id"].to_numpy(), draws),
                "generator": name,
            }
        )
        frames.append(
            frame.with_columns(draw=pl.int_range(pl.len()).over("completion_id", "generator"))
        )
    return {
        "prompts": t.check("prompts", prompts, where="test"),
        "completions": t.check("completions", completions, where="test"),
        "samples": t.check("samples", pl.concat(frames), where="test"),
        "arm": dict(zip(ids.ravel().tolist(), arms.tolist(), strict=True)),
        "ids": ids,
    }


def scored(world: Mapping[str, Any], values: Mapping[tuple[str, str], Floats]) -> pl.DataFrame:
    """Scores of every completion from a value for each arm, by (score, model)."""
    frames = [
        pl.DataFrame(
            {
                "subject_id": list(world["arm"]),
                "subject": "completion",
                "score": score,
                "model": model,
                "value": value[np.fromiter(world["arm"].values(), int)],
            }
        )
        for (score, model), value in values.items()
    ]
    return t.check("scores", pl.concat(frames), where="test")


def row(measures: pl.DataFrame, measure: str, subject: str | None = None) -> dict[str, Any]:
    found = measures.filter(pl.col("measure") == measure)
    if subject is not None:
        found = found.filter(pl.col("subject") == subject)
    return found.row(0, named=True)
