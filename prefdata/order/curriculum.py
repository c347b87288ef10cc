"""From easy to hard: which stage of training each pair belongs to.

The pairs of a prompt are ranked by how easy they are, and the easiest is of stage 1, the next of
stage 2. So each stage has every prompt once at most, and no prompt's hard pair is in an early stage
because others' are harder.
"""

import polars as pl

from prefdata.errors import RecipeError, TableError
from prefdata.estimate._named import named
from prefdata.order._scored import scored
from prefdata.tables import Pairs, Scores, digest

SCOPE = "all"  # a score is missing only if no pair has it


def curriculum(
    pairs: Pairs, scores: Scores | None = None, *, by: str = "margin", seed: int = 0
) -> Scores:
    """Add the scores `stage` (1, the easiest) and `ease` (what it was ranked by) of pairs.

    Equal pairs stand by id. A pair of answers to different prompts is its own prompt. A pair for
    which there is no `ease` has no stage. Export them with export.curriculum.

    Options:
    - `by`: "margin", greater is easier; "logp_gap", the absolute difference of the scores
      `ref_logp_chosen` and `ref_logp_rejected`, greater is easier; "random" or "merged" (one stage
      for all), as controls; or the name of a score about pairs (`name@model` picks one of
      several models), greater is easier.
    - `seed`: what "random" is drawn from.

    Raises `TableError` where no pair has a margin, `RecipeError` for a score that none has.

    Source: Pattnaik et al. (2024), Curry-DPO: Enhancing Alignment using Curriculum Learning &
    Ranked Preferences.
    """
    where = "order.curriculum"
    ease = _ease(pairs, scores, by, seed, where)
    rows = pairs.select("pair_id", of=pl.coalesce("prompt_id", "pair_id")).join(ease, on="pair_id")
    rows = rows.sort("of", "ease", "pair_id", descending=[False, True, False])
    stage = pl.lit(1) if by == "merged" else pl.int_range(1, pl.len() + 1).over("of")
    return scored(scores, rows.with_columns(stage=stage), ("stage", "ease"))


def _ease(pairs: Pairs, scores: Scores | None, by: str, seed: int, where: str) -> pl.DataFrame:
    """The pairs for which there is one, as (pair_id, ease)."""
    if by in ("random", "merged"):
        drawn = [int(digest(where, seed, each)[:12], 16) / 16**12 for each in pairs["pair_id"]]
        return pairs.select("pair_id", pl.Series("ease", drawn, pl.Float64))
    if by == "margin":
        known = pairs.select("pair_id", ease="margin").drop_nulls()
        if pairs.height and known.is_empty():
            raise TableError(f"{where}: no pair has a margin; give by, or make pairs of strengths")
        return known
    names = ["ref_logp_chosen", "ref_logp_rejected"] if by == "logp_gap" else [by]
    if scores is None:
        raise RecipeError(f"{where}: by = {by!r}, but no stage before made scores")
    values = [
        named(scores, name, where=where).select(pair_id="subject_id", ease="value")
        for name in names
    ]
    if by != "logp_gap":
        return values[0]
    both = values[0].join(values[1], on="pair_id")
    return both.select("pair_id", ease=(pl.col("ease") - pl.col("ease_right")).abs())
