"""Preferences over prompt and completion together: each side with a prompt of its own.

`prompt_chosen`, `response_chosen`, `prompt_rejected`, `response_rejected` are the columns of the
released trainer; its loss takes the log-probability of prompt and completion, so that with one
prompt on both sides it is DPO. A trainer that reads one `prompt` cannot hold such pairs, and the
other exports refuse them.

Source: Bansal et al. (2024), Comparing Bad Apples to Good Oranges: Aligning Large Language Models
via Joint Preference Optimization (DOVE).
"""

import polars as pl

from prefdata.tables import Completions, Format, Pairs, Prompts, Rows, check, plain, text_of

SIDES = ("chosen", "rejected")


def joint(
    prompts: Prompts, completions: Completions, pairs: Pairs, *, format: Format = "conversational"
) -> Rows:
    """One row a pair, by `pair_id`; `same_prompt` says whether both sides answer one prompt.

    `format` "conversational" keeps messages, "standard" gives plain strings, a line a message of
    the prompt, and raises `TableError` for completions of several messages.
    """
    asked = prompts.select("prompt_id", "prompt")
    rows = pairs.select("pair_id", "chosen_id", "rejected_id", "soft_label", "n_votes")
    for side in SIDES:
        said = completions.select("completion_id", "prompt_id", "completion").join(
            asked, on="prompt_id"
        )
        names = {
            "completion_id": f"{side}_id",
            "prompt_id": f"prompt_id_{side}",
            "prompt": f"prompt_{side}",
            "completion": f"response_{side}",
        }
        rows = rows.join(said.rename(names), on=f"{side}_id", how="left")
    rows = rows.with_columns(same_prompt=pl.col("prompt_id_chosen") == pl.col("prompt_id_rejected"))
    rows = check("joint", rows, where="export.joint")
    if format == "standard":
        rows = rows.with_columns(
            text_of(f"prompt_{side}").alias(f"prompt_{side}") for side in SIDES
        )
        rows = plain(rows, *(f"response_{side}" for side in SIDES), where="export.joint")
    return Rows(rows)
