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

from prefdata.errors import TableError, nearest
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

    `value` and `visits` name scores about completions, taken where they are there: `value_chosen`
    and `value_rejected`, `visits_chosen` and `visits_rejected`; without visits there is no
    `label_smoothing`. `depth` counts the steps before. A pair whose steps are the same but for
    spaces has no row.

    Raises `TableError` for a pair of different beginnings, for steps that do not hang together and,
    where there are scores about completions, for a name other than the defaults that none has.
    """
    where = "export.step_pairs"
    known = steps(completions, samples, where=where)
    rows = pairs.select("pair_id", "prompt_id", "chosen_id", "rejected_id")
    for side in ("chosen", "rejected"):
        own = known.select(
            "completion_id", "parent_id", "step", depth=pl.col("path").list.len() - 1
        )
        rows = rows.join(own.rename(lambda name, side=side: f"{name}_{side}"),
                         left_on=f"{side}_id", right_on=f"completion_id_{side}")  # fmt: skip
    apart = rows.filter(~pl.col("parent_id_chosen").eq_missing(pl.col("parent_id_rejected")))
    if apart.height:
        raise TableError(
            f"{where}: the two sides of {apart.height} pairs continue different beginnings, first "
            f"{apart.sort('pair_id')['pair_id'][0]}"
        )
    same = [pl.col(f"step_{side}").str.strip_chars() for side in ("chosen", "rejected")]
    rows = rows.filter(same[0] != same[1])
    for name, column in ((value, "value"), (visits, "visits")):
        rows = _scored(rows, scores, name, column, where)
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


def _scored(
    rows: pl.DataFrame, scores: Scores | None, name: str, column: str, where: str
) -> pl.DataFrame:
    """A score about completions beside both sides; null where there is none."""
    none = pl.lit(None, pl.Float64)
    if scores is None:
        return rows.with_columns(none.alias(f"{column}_{side}") for side in ("chosen", "rejected"))
    about = scores.filter(pl.col("subject") == "completion")
    there = about["score"].unique().to_list()
    if name != column and there and name not in there:
        raise TableError(f"{where}: no completion has a score {name!r}; {nearest(name, there)}")
    own = about.filter(pl.col("score") == name).select("subject_id", "value").unique("subject_id")
    for side in ("chosen", "rejected"):
        named = own.rename({"subject_id": f"{side}_id", "value": f"{column}_{side}"})
        rows = rows.join(named, on=f"{side}_id", how="left", maintain_order="left")
    return rows
