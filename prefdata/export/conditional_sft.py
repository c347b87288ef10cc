"""Every completion kept, under a control token for its quality: supervised rows from preferences.

Both completions of a pair are learnt, each after the token of its class (good or bad); or every
rated completion after that of its bin. `control_tokens.json` lists the tokens with the words that
they may be initialised from, so that tokens can be tuned before the model is.

Source: Xue, Wang, Ji (2023), Parameter-Efficient Tuning Helps Language Model Alignment (MEET); the
conditioning is that of Keskar et al. (2019), CTRL.
"""

import json
from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.errors import RecipeError, TableError
from prefdata.export._texts import refuse_joint, with_texts
from prefdata.tables import (
    Completions,
    Format,
    Pairs,
    Prompts,
    Rows,
    Strengths,
    check,
    one_estimator,
    plain,
)

SCOPE = "all"  # an estimator that some prompts lack is no mistake
SAVED_AS = "jsonl"

TOKEN = "<|quality_{}|>"


def conditional_sft(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    strengths: Strengths | None = None,
    *,
    edges: Sequence[float] = (),
    estimator: str | None = None,
    format: Format = "conversational",
) -> Rows:
    """Two rows a pair, the rejected one's class 0 and the chosen one's 1; or a row a completion.

    With `edges`, rising numbers, completions are classed by strength: class 0 is below the first,
    the last class at the last or above. They are given, not computed, so that no test row moves
    them: take the quantiles of a training set and keep them. `estimator` names whose strengths and
    is required when there are several. `format` is as in export.pairwise.

    A pair's two rows have byte for byte one prompt and follow their pair into its split.

    Raises `RecipeError` for edges that do not rise, `TableError` for pairs of answers to different
    prompts.
    """
    where = "export.conditional_sft"
    if list(edges) != sorted(set(edges)):
        raise RecipeError(f"{where}: edges = {list(edges)}; give rising numbers")
    rows = _binned(strengths, edges, estimator, where) if edges else _of_pairs(pairs, where)
    token = pl.format(TOKEN, "class_id")
    rows = with_texts(rows, prompts, completions, "completion").with_columns(control_token=token)
    rows = check("conditional_sft", rows, where=where)
    if format == "standard":
        rows = plain(rows, "prompt", "completion", where=where)
    return Rows(rows.drop("pair_id") if edges else rows)


def _of_pairs(pairs: Pairs | None, where: str) -> pl.DataFrame:
    if pairs is None:
        raise TableError(
            f"{where}: no stage made pairs; give edges to class completions by strength"
        )
    refuse_joint(pairs, where=where, instead="a control token says what is good for one prompt")
    weight = pl.col("weight").fill_null(1.0).cast(pl.Float64)
    return pl.concat(
        pairs.select("pair_id", "prompt_id", completion_id=f"{side}_id", class_id=pl.lit(at),
                     weight=weight)
        for at, side in enumerate(("rejected", "chosen"))
    )  # fmt: skip


def _binned(
    strengths: Strengths | None, edges: Sequence[float], estimator: str | None, where: str
) -> pl.DataFrame:
    if strengths is None:
        raise TableError(f"{where}: edges are of strengths, and no stage made any")
    own = one_estimator(strengths, estimator, where=where)
    above = [(pl.col("strength") >= edge).cast(pl.Int64) for edge in edges]
    return own.select("prompt_id", "completion_id", class_id=pl.sum_horizontal(above),
                      weight=pl.lit(1.0), pair_id=pl.lit(None, pl.String))  # fmt: skip


def beside(parts: Mapping[str, Rows]) -> Mapping[str, str]:
    """The control tokens, worst first, with the words that they may start from."""
    found = pl.concat([rows.select("class_id", "control_token") for rows in parts.values()])
    ranked: list[tuple[int, str]] = found.unique().sort("class_id").rows()
    words = ("bad", "good") if len(ranked) == 2 else None
    tokens = [
        {"class_id": at, "token": token, "starts_from": words[at] if words else f"quality {at}"}
        for at, token in ranked
    ]
    return {"control_tokens.json": json.dumps(tokens, indent=2) + "\n"}
