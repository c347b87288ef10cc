"""What axolotl reads for DPO, IPO and ORPO: JSONL of messages, and the `datasets` of its config.

`messages` are the prompt's, `chosen` and `rejected` one message each: the defaults of its type
`chat_template.default`, which takes the last message of a longer completion and drops the others.

Source: axolotl, `src/axolotl/prompt_strategies/dpo/chat_template.py`.
"""

from collections.abc import Mapping

import polars as pl

from prefdata.export._texts import one_message, refuse_joint
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Pairs, Prompts, Rows

SCOPE = "all"  # its rows are those of an export that sees all prompts
SAVED_AS = "jsonl"


def axolotl(prompts: Prompts, completions: Completions, pairs: Pairs) -> Rows:
    """One row a pair; `TableError` for completions of several messages."""
    where = "export.axolotl"
    refuse_joint(pairs, where=where)
    made = pairwise(prompts, completions, pairs)
    rows = one_message(made, "chosen", "rejected", where=where)
    return Rows(
        rows.select(
            pl.col("prompt").alias("messages"), "chosen", "rejected", "pair_id", "prompt_id"
        )
    )


def beside(parts: Mapping[str, Rows]) -> Mapping[str, str]:
    """The part of a config that reads the rows; `path` is relative to where axolotl runs."""
    entries = [
        f"  - path: {name}.jsonl\n    ds_type: json\n    split: train\n"
        "    type: chat_template.default\n"
        for name in parts
    ]
    test = [entry for name, entry in zip(parts, entries, strict=True) if name != "train"]
    train = [entry for name, entry in zip(parts, entries, strict=True) if name == "train"]
    text = "rl: dpo\ndatasets:\n" + "".join(train)
    return {"axolotl.yml": text + ("test_datasets:\n" + "".join(test) if test else "")}
