"""What all tests share: a small made-up world of tables, consistent in all its ids."""

import os

# Two test processes share two cores: threads of one BLAS would wait for those of the other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import settings

from prefdata import tables

# Under load one example may be slow; how long a test takes is no truth about the code.
settings.register_profile("prefdata", deadline=None)
settings.load_profile("prefdata")

World = dict[str, pl.DataFrame]


def make_world(
    n_prompts: int = 6, n_completions: int = 3, *, groups: Mapping[int, str] | None = None
) -> World:
    """Prompts with completions of planted strength: each later completion is the better one."""
    asked = [[{"role": "user", "content": f"question {at}"}] for at in range(n_prompts)]
    prompt_ids = tables.prompt_ids(asked).to_list()
    prompts = pl.DataFrame({"prompt_id": prompt_ids, "prompt": asked, "source": "made-up"})
    named = [(groups or {}).get(at) for at in range(n_prompts)]
    prompts = prompts.with_columns(pl.Series("group", named, pl.String))
    answers = [
        {"prompt_id": p, "completion": [{"role": "assistant", "content": f"answer {at}"}], "at": at}
        for p in prompt_ids
        for at in range(n_completions)
    ]
    completions = pl.DataFrame(answers)
    ids = tables.completion_ids(completions["prompt_id"], completions["completion"])
    completions = completions.with_columns(ids)
    strengths = completions.select(
        "completion_id",
        "prompt_id",
        estimator=pl.lit("bradley_terry"),
        strength=pl.col("at") - (n_completions - 1) / 2,
    )
    both = completions.join(completions, on="prompt_id", suffix="_b")
    pairs = both.filter(pl.col("at") < pl.col("at_b")).select(
        "prompt_id",
        chosen_id="completion_id_b",
        rejected_id="completion_id",
        margin=(pl.col("at_b") - pl.col("at")).cast(pl.Float64),
        soft_label=1 / (1 + (pl.col("at") - pl.col("at_b")).exp()),
        n_votes=2,
    )
    pairs = pairs.with_columns(tables.pair_ids(pairs["chosen_id"], pairs["rejected_id"]))
    small = pl.min_horizontal("chosen_id", "rejected_id")
    votes = pairs.select(
        "prompt_id",
        completion_a=small,
        completion_b=pl.max_horizontal("chosen_id", "rejected_id"),
        annotator=pl.lit("llm:judge/helpfulness"),
        criterion=pl.lit("helpfulness"),
        draw=0,
        a_first=pl.lit(True),
        preference=(pl.col("chosen_id") == small).cast(pl.Float64),
    )
    made = {
        "prompts": prompts,
        "completions": completions.drop("at"),
        "votes": votes,
        "strengths": strengths,
        "pairs": pairs,
    }
    return {name: tables.check(name, table, where="world") for name, table in made.items()}


def shuffle(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The same rows in another order."""
    order = list(range(table.height))
    Random(seed).shuffle(order)
    return table[order]


@pytest.fixture(scope="session")
def world() -> Callable[..., World]:
    return make_world


@pytest.fixture(scope="session")
def shuffled() -> Callable[[pl.DataFrame, int], pl.DataFrame]:
    return shuffle


def larger(name: str) -> Path | None:
    """A file of larger public data, where it is at hand.

    The folder is PREFDATA_TEST_DATA, else `data` of any folder beside the checkout.
    """
    beside = Path(__file__).resolve().parents[2].glob("*/data")
    named = os.environ.get("PREFDATA_TEST_DATA")
    folders = [Path(named)] if named else sorted(beside)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], pl.DataFrame]:
    """Larger public data, read where it is at hand and skipped, saying so, where it is not."""

    def read(name: str) -> pl.DataFrame:
        if file := larger(name):
            return pl.read_parquet(file)
        pytest.skip(f"{name} is not at hand; PREFDATA_TEST_DATA names the folder that holds it")

    return read
