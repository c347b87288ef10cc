"""NeMo-RL's rank format: `context` and `completions`, each with its `rank`, 0 the best; as JSONL.

Source: NeMo-RL, `nemo_rl/data/datasets/preference_datasets/preference_dataset.py`; its DPO and
reward model training take rows of two completions of different ranks and stop at others, so that
longer lists are for trainers of one's own.
"""

from typing import Literal

import polars as pl

from prefdata.errors import RecipeError, TableError
from prefdata.export._texts import refuse_joint
from prefdata.export.listwise import listwise
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Pairs, Prompts, Rows, Strengths

SCOPE = "all"  # its rows are those of exports that see all prompts
SAVED_AS = "jsonl"


def nemo_rl(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    strengths: Strengths | None = None,
    *,
    of: Literal["pairs", "lists"] = "pairs",
    estimator: str | None = None,
) -> Rows:
    """One row a pair, or a prompt with all its completions (`of` "lists").

    Completions of equal strength have one rank; the next has the next number. `estimator` names
    whose strengths the lists are ranked by and is required when there are several.
    """
    where = "export.nemo_rl"
    source = {"pairs": pairs, "lists": strengths}[of]
    if source is None:
        table = "pairs" if of == "pairs" else "strengths"
        raise TableError(f'{where}: of = "{of}", but no stage made the table {table}')
    if of == "pairs":
        if estimator is not None:
            raise RecipeError(f'{where}: estimator ranks lists; leave it out or say of = "lists"')
        refuse_joint(Pairs(source), where=where)
        rows = pairwise(prompts, completions, Pairs(source))
        ranked = [
            pl.struct(pl.lit(rank, pl.Int64).alias("rank"), pl.col(side).alias("completion"))
            for rank, side in enumerate(("chosen", "rejected"))
        ]
        return Rows(
            rows.select(
                pl.col("prompt").alias("context"),
                pl.concat_list(*ranked).alias("completions"),
                "pair_id",
                "prompt_id",
            )
        )
    rows = listwise(prompts, completions, Strengths(source), estimator=estimator)
    dense = pl.col("ranks").list.eval(pl.element().rank("dense").cast(pl.Int64) - 1)
    flat = rows.with_columns(dense).explode("completions", "ranks")
    each = pl.struct(pl.col("ranks").alias("rank"), pl.col("completions").alias("completion"))
    lists = flat.group_by("prompt_id", maintain_order=True).agg(
        pl.col("prompt").first().alias("context"), each.alias("completions")
    )
    return Rows(lists.select("context", "completions", "prompt_id"))
