"""What LLaMA-Factory reads: JSONL of messages, and `dataset_info.json`, which says so.

Pairs are `messages` (the prompt's), `chosen` and `rejected`; single completions `messages` and
`label`. Copy the entries of `dataset_info.json` into its own, or give the folder as `dataset_dir`.

Source: LLaMA-Factory, `data/README.md` and `src/llamafactory/data/converter.py` (sharegpt format).
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

import polars as pl

from prefdata.errors import TableError
from prefdata.export._texts import one_message, refuse_joint
from prefdata.export.binary import binary
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Pairs, Prompts, Rows

SCOPE = "all"  # its rows are those of exports that see all prompts
SAVED_AS = "jsonl"

TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function",
    "system_tag": "system",
}
# After a system message the user and the assistant take turns; all else it skips in silence.
ALTERNATING = r"^(system,)?(user|tool)(,assistant,(user|tool))*$"


def llamafactory(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    *,
    of: Literal["pairs", "completions"] = "pairs",
) -> Rows:
    """One row a pair (`of` "pairs") or, for KTO, one a completion of a pair ("completions").

    Raises `TableError` for what LLaMA-Factory would leave out without an error: a completion of
    several messages, and a prompt in which user and assistant do not take turns.
    """
    where = "export.llamafactory"
    if of == "pairs":
        refuse_joint(pairs, where=where)
        made = pairwise(prompts, completions, pairs)
    else:
        made = binary(prompts, completions, pairs)
    roles = pl.col("prompt").list.eval(pl.element().struct.field("role")).list.join(",")
    odd = made.filter(~roles.str.contains(ALTERNATING))
    if odd.height:
        raise TableError(
            f"{where}: in {odd.height} prompts user and assistant do not take turns after one "
            f"system message, first {odd['prompt'][0].to_list()}"
        )
    if of == "completions":
        rows = one_message(made, "completion", where=where)
        whole = pl.col("prompt").list.concat(pl.concat_list("completion")).alias("messages")
        return Rows(rows.select(whole, "label", "prompt_id", "completion_id"))
    rows = one_message(made, "chosen", "rejected", where=where)
    return Rows(
        rows.select(
            pl.col("prompt").alias("messages"), "chosen", "rejected", "pair_id", "prompt_id"
        )
    )


def beside(parts: Mapping[str, Rows]) -> Mapping[str, str]:
    """An entry a split that has rows, under the name `prefdata_<split>`."""
    info: dict[str, Any] = {}
    for name, rows in parts.items():
        if rows.is_empty():
            continue
        entry: dict[str, Any] = {"file_name": f"{name}.jsonl", "formatting": "sharegpt"}
        if "chosen" in rows.columns:
            entry |= {"ranking": True}
            entry |= {"columns": {each: each for each in ("messages", "chosen", "rejected")}}
        else:
            entry |= {"columns": {"messages": "messages", "kto_tag": "label"}}
        info[f"prefdata_{name}"] = {**entry, "tags": TAGS}
    return {"dataset_info.json": json.dumps(info, indent=2) + "\n"}
