"""Pairs in stages of training, from easy to hard: a split each, and `schedule.json`.

The rows are those of export.pairwise with `stage` and `difficulty`, shuffled within a stage. The
training split is parted into `stage_1`, `stage_2`, ...; other splits stay whole. The schedule has
an entry a stage: its split, its number of rows, and what its reference model is: the first model at
first, then the model as the stage before left it.

Source: Pattnaik et al. (2024), Curry-DPO: Enhancing Alignment using Curriculum Learning & Ranked
Preferences.
"""

import json
from collections.abc import Mapping

import polars as pl

from prefdata.errors import RecipeError
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Format, Pairs, Prompts, Rows, Scores, digest

SCOPE = "all"  # its rows are those of an export that sees all prompts
SAVED_AS = "jsonl"
PARTED_BY = "stage"


def curriculum(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    scores: Scores,
    *,
    max_stages: int = 3,
    format: Format = "conversational",
    seed: int = 0,
) -> Rows:
    """One row a pair that order.curriculum gave a stage, by stage and then in a random order.

    `max_stages` leaves out what is harder; `difficulty` calls the stages "easy", "medium" and
    "hard" where it is 3, else they bear their number. `format` is as in export.pairwise; `seed` is
    what the order comes from.

    Raises `RecipeError` for `max_stages` below 1.
    """
    if max_stages < 1:
        raise RecipeError(f"export.curriculum: max_stages = {max_stages}; at least 1")
    rows = pairwise(prompts, completions, pairs, scores, columns=["stage"], format=format)
    stage = pl.col("stage").cast(pl.Int64)
    rows = rows.filter(stage <= max_stages).with_columns(stage)
    named = {1: "easy", 2: "medium", 3: "hard"} if max_stages == 3 else {}
    words = [named.get(each, str(each)) for each in rows["stage"]]
    drawn = [digest("curriculum", seed, each) for each in rows["pair_id"]]
    return Rows(
        rows.with_columns(
            pl.Series("difficulty", words, pl.String), pl.Series("drawn", drawn, pl.String)
        )
        .sort("stage", "drawn")
        .drop("drawn")
    )


def beside(parts: Mapping[str, Rows]) -> Mapping[str, str]:
    """The schedule: in what order to train on which split, and with what reference."""
    stages = [name for name in parts if name.startswith(f"{PARTED_BY}_")]
    schedule = [
        {
            "stage": int(name.rpartition("_")[2]),
            "split": name,
            "file": f"{name}.jsonl",
            "n": parts[name].height,
            "reference": "previous_stage" if at else "initial",
            "epochs": 1,
        }
        for at, name in enumerate(stages)
    ]
    return {"schedule.json": json.dumps(schedule, indent=2) + "\n"}
