"""What OpenRLHF's reward and DPO datasets read: whole conversations, as JSONL.

Pairs are `chosen`, `rejected` and `margin`; single completions, for the KTO that it had before
0.10, `response` and `label` (1 or 0). `arguments.txt` beside the rows holds the flags with which
its commands read them, as they are spelt since 0.10.2; a reward model minds the margin with
`--model.margin_loss_enable`. OpenRLHF takes all messages but the last for the prompt, so a
completion is one message.

Source: OpenRLHF 0.11, `openrlhf/datasets/reward_dataset.py`; 0.9, `unpaired_preference_dataset.py`.
"""

from collections.abc import Mapping
from typing import Literal

import polars as pl

from prefdata.export._texts import one_message, refuse_joint
from prefdata.export.binary import binary
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Pairs, Prompts, Rows

SCOPE = "all"  # its rows are those of exports that see all prompts
SAVED_AS = "jsonl"


def openrlhf(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    *,
    of: Literal["pairs", "completions"] = "pairs",
) -> Rows:
    """One row a pair (`of` "pairs") or, for KTO, one a completion of a pair ("completions").

    A pair without a margin has 0, as OpenRLHF takes it. Pairs of answers to different prompts raise
    `TableError`: DPO there takes the prompt of the chosen one for both.
    """
    where = "export.openrlhf"
    if of == "completions":
        rows = one_message(binary(prompts, completions, pairs), "completion", where=where)
        whole = pl.col("prompt").list.concat(pl.concat_list("completion"))
        return Rows(
            rows.select(
                whole.alias("response"),
                pl.col("label").cast(pl.Int64),
                "prompt_id",
                "completion_id",
            )
        )
    refuse_joint(pairs, where=where)
    explicit = pairwise(prompts, completions, pairs)
    one_message(explicit, "chosen", "rejected", where=where)
    margin = pl.col("margin") if "margin" in explicit.columns else pl.lit(None, pl.Float64)
    return Rows(
        explicit.select(
            pl.col("prompt").list.concat(pl.col("chosen")).alias("chosen"),
            pl.col("prompt").list.concat(pl.col("rejected")).alias("rejected"),
            margin.fill_null(0.0).alias("margin"),
            "pair_id",
            "prompt_id",
        )
    )


def beside(parts: Mapping[str, Rows]) -> Mapping[str, str]:
    """The flags by which OpenRLHF reads the rows: a file read by itself is its split "train"."""
    if "chosen" in next(iter(parts.values())).columns:
        flags = ["--data.dataset train.jsonl --data.chosen_key chosen --data.rejected_key rejected",
                 "--data.apply_chat_template"]  # fmt: skip
        held_out = [name for name, rows in parts.items() if name != "train" and rows.height]
        flags += [f"--eval.dataset {name}.jsonl --eval.split train" for name in held_out[:1]]
    else:
        flags = ["--dataset train.jsonl --output_key response --label_key label",
                 "--apply_chat_template"]  # fmt: skip
    return {"arguments.txt": "\n".join(flags) + "\n"}
