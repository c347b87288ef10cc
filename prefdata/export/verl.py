"""What verl reads, as Parquet: prompts with what their reward is told by, or pairs of plain texts.

Prompts are `data_source`, `prompt`, `ability`, `reward_model` (`style`, `ground_truth`) and
`extra_info`; pairs are `prompt`, `chosen`, `rejected`, plain texts that its reward model dataset
puts together without a chat template.

Source: verl, `docs/preparation/prepare_data.rst` and `verl/utils/dataset/rm_dataset.py`.
"""

from typing import Literal

import polars as pl

from prefdata.errors import TableError
from prefdata.export._texts import refuse_joint
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Pairs, Prompts, Rows, plain

SCOPE = "all"  # an index counts all prompts
SAVED_AS = "parquet"


def verl(
    prompts: Prompts,
    completions: Completions | None = None,
    pairs: Pairs | None = None,
    *,
    of: Literal["prompts", "pairs"] = "prompts",
    ability: str = "chat",
) -> Rows:
    """One row a prompt for reinforcement learning, or a pair for a reward model (`of` "pairs").

    A prompt's `style` is "rule" where it has a reference, which is its `ground_truth`, else "model"
    with an empty one. `data_source` is the prompt's source, by which verl picks a reward function.
    `ability` names what the prompts train.
    """
    where = "export.verl"
    if of == "pairs":
        if completions is None or pairs is None:
            raise TableError(f'{where}: of = "pairs", but no stage made the table pairs')
        refuse_joint(pairs, where=where)
        made = pairwise(prompts, completions, pairs)
        instead = "its reward data hold one turn: leave longer conversations out before"
        rows = plain(made, "prompt", "chosen", "rejected", where=where, instead=instead)
        return Rows(rows.select("prompt", "chosen", "rejected", "pair_id", "prompt_id"))
    known = pl.col("reference").is_not_null()
    style = pl.when(known).then(pl.lit("rule")).otherwise(pl.lit("model"))
    truth = pl.col("reference").fill_null("")
    rows = prompts.sort("prompt_id").with_row_index("index")
    return Rows(
        rows.select(
            pl.col("source").alias("data_source"),
            "prompt",
            pl.lit(ability).alias("ability"),
            pl.struct(style.alias("style"), truth.alias("ground_truth")).alias("reward_model"),
            pl.struct(pl.col("index").cast(pl.Int64), "prompt_id").alias("extra_info"),
            "prompt_id",
        )
    )
