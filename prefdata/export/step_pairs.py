"""Preferences between two next steps after the same beginning.

`prefix` are the messages up to the step: the prompt and, if there are earlier steps, the solution
as far as it goes; `chosen_step` and `rejected_step` what each of two partial solutions adds to it.
Where a search counted visits, smoothing follows how much more often the better was chosen:

    confidence = 1 / (1 + N_rejected / max(1, N_chosen))
    label_smoothing = min(1 - confidence, 1/2)

Source: Xie et al. (2024), Monte Carlo Tree Search Boosts Reasoning via Iterative Preference
Learning.
"""

import polars as pl

from prefdata import tables
from prefdata.errors import TableError
from prefdata.estimate._named import of_completions
from prefdata.estimate._sides import SIDES, beside
from prefdata.export._steps import steps
from prefdata.export._texts import message
from prefdata.tables import Completions, Pairs, Prompts, Rows, Samples, Scores, check

SCOPE = "all"  # a score that some prompts lack is no mistake


def step_pairs(
    prompts: Prompts,
    completions: Completions,
    samples: Samples,
    pairs: Pairs,
    scores: Scores | None = None,
    *,
    value: str = "value",
    visits: str = "visits",
) -> Rows:
    """One row a pair of two continuations of one beginning, by `pair_id`.

    `value` and `visits` name scores about completions, `name@model` where several models gave one:
    `value_chosen` and `value_rejected`, `visits_chosen` and `visits_rejected`. Those of the default
    names are taken where they are there; without visits there is no `label_smoothing`. `depth`
    counts the steps before. A pair whose steps are the same but for spaces has no row.

    Raises `TableError` for a pair of different beginnings and for steps that do not hang together,
    and `RecipeError` for another name that no completion's score has, and for a score that several
    models gave.
    """
    where = "export.step_pairs"
    known = steps(completions, samples, where=where)
    rows = pairs.select("pair_id", "prompt_id", "chosen_id", "rejected_id")
    depth = pl.col("path").list.len() - 1
    rows = beside(rows, known.select("completion_id", "parent_id", "step", depth=depth))
    apart = rows.filter(~pl.col("parent_id_chosen").eq_missing(pl.col("parent_id_rejected")))
    if apart.height:
        raise TableError(
            f"{where}: the two sides of {apart.height} pairs continue different beginnings, first "
            f"{apart.sort('pair_id')['pair_id'][0]}"
        )
    same = [pl.col(f"step_{side}").str.strip_chars() for side in SIDES]
    rows = rows.filter(same[0] != same[1])
    for name, column in ((value, "value"), (visits, "visits")):
        own = _scored(scores, name, column, where).rename({"value": column})
        rows = beside(rows, own, how="left")
    confidence = 1 / (1 + pl.col("visits_rejected") / pl.col("visits_chosen").clip(1))
    before = known.select(pl.col("completion_id").alias("parent_id"), text="text")
    rows = rows.join(before, left_on="parent_id_chosen", right_on="parent_id", how="left")
    rows = rows.join(prompts.select("prompt_id", "prompt"), on="prompt_id")
    begun = pl.col("prompt").list.concat(message("assistant", pl.col("text")))
    made = rows.select(
        pl.when(pl.col("text").is_null()).then("prompt").otherwise(begun).alias("prefix"),
        chosen_step="step_chosen",
        rejected_step="step_rejected",
        value_chosen="value_chosen",
        value_rejected="value_rejected",
        visits_chosen="visits_chosen",
        visits_rejected="visits_rejected",
        label_smoothing=pl.when(confidence.is_not_null()).then(
            pl.min_horizontal(1 - confidence, 0.5)
        ),
        depth=pl.col("depth_chosen").cast(pl.Int64),
        pair_id="pair_id",
        prompt_id="prompt_id",
        chosen_id="chosen_id",
        rejected_id="rejected_id",
    )
    return Rows(check("step_pairs", made, where=where))


def _scored(scores: Scores | None, name: str, default: str, where: str) -> pl.DataFrame:
    """`completion_id, value` of a score; no rows where one of the default name is not there."""
    there = tables.empty("scores") if scores is None else scores
    about = there.filter(pl.col("subject") == "completion")
    if name == default and name not in about["score"]:
        about = about.clear()
    return of_completions(about, name, where=where)
