"""Pairs in tokens, with a reference model's log-probability of each: for token-level trainers.

`prompt_ids`, `chosen_ids`, `rejected_ids` are TRL's names and its collator makes `input_ids` and
`completion_mask` of them; the mask leaves the prompt out and the completion's end in.
"""

import polars as pl

from prefdata.errors import TableError
from prefdata.export._tokens import by_one_model
from prefdata.tables import Likelihoods, Pairs, Rows, check

SCOPE = "all"  # whether several models are there is one question to all prompts

_TOP = ("topk_ids", "topk_logps", "tail_logps")


def token_level(pairs: Pairs, likelihoods: Likelihoods, *, model: str | None = None) -> Rows:
    """One row a pair, by `pair_id`, of those both sides of which have `likelihoods`.

    For either side there is `ref_<side>_token_logps` (nats, one for each of `<side>_ids`) and,
    where the likeliest tokens were asked for, `ref_<side>_topk_ids`, `ref_<side>_topk_logps` and
    `ref_<side>_tail_logps`, lists in the place of each token. `model` names whose likelihoods are
    taken and is required when there are several.

    Raises `RecipeError` for several models without a choice and one that is not there, and
    `TableError` for a pair whose sides answer different prompts.

    Source: Zeng et al. (2024), Token-level Direct Preference Optimization; TRL, the tokenised
    columns of its preference trainers.
    """
    known = by_one_model(likelihoods, model, where="export.token_level")
    rows = pairs.select("pair_id", "prompt_id", "chosen_id", "rejected_id").sort("pair_id")
    for side in ("chosen", "rejected"):
        own = known.select(
            pl.col("completion_id").alias(f"{side}_id"),
            pl.col("prompt_token_ids").alias(f"prompt_of_{side}"),
            pl.col("token_ids").alias(f"{side}_ids"),
            pl.col("logps").alias(f"ref_{side}_token_logps"),
            *(pl.col(name).alias(f"ref_{side}_{name}") for name in _TOP),
        )
        rows = rows.join(own, on=f"{side}_id", maintain_order="left")
    joint = rows.filter(pl.col("prompt_of_chosen") != pl.col("prompt_of_rejected"))
    if joint.height:
        raise TableError(
            f"export.token_level: {joint.height} pairs have sides with different tokens before "
            f"them, which a row with one prompt cannot hold, first {joint['pair_id'][0]}"
        )
    rows = rows.drop("prompt_of_rejected").rename({"prompt_of_chosen": "prompt_ids"})
    rows = check("token_level", rows, where="export.token_level")
    blank = [name for name in rows.columns if rows[name].null_count() == rows.height]
    return Rows(rows.drop(name for name in blank if name.endswith(_TOP)))
