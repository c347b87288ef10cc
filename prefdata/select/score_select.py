"""The completions that a score is highest for, or a sample in which they are likelier.

With temperature T a set of k is drawn without replacement, with probabilities in proportion to
exp(score / T): the k largest of score / T + g, g drawn from Gumbel's distribution. T = 0 takes the
k largest scores.

Source: Guo et al. 2025, "CritiQ: Mining Data Quality Criteria from Human Preferences" (selection by
a scorer); Kool et al. 2019, "Stochastic Beams and Where to Find Them" (sampling by Gumbel's
distribution).
"""

from math import log

import polars as pl

from prefdata.errors import RecipeError
from prefdata.estimate._named import of_completions
from prefdata.tables import Completions, Scores, digest

SCOPE = "all"  # a share is one of all completions


def score_select(
    completions: Completions,
    scores: Scores,
    *,
    score: str,
    keep: float | None = None,
    count: int | None = None,
    per_prompt: bool = True,
    temperature: float = 0.0,
    seed: int = 0,
) -> Completions:
    """Keep the completions with the highest values of a score, unchanged, or a sample of them.

    A completion without the score is not kept. What refers to one that is gone goes too, and is in
    `dropped`. Of equal values the smaller completion_id is kept.

    Options:
    - `score`: the name of a score about completions; `name@model` where several models gave one.
    - `keep`: the share of the scored completions to keep, in (0, 1], rounded down, one at least.
    - `count`: or how many to keep, at least 1.
    - `per_prompt`: whether share or number are of each prompt; false: of all together, which only
      makes sense for a score that compares completions of different prompts.
    - `temperature`: 0: the highest; above: a sample, the more even the higher it is, on the score's
      own scale.
    - `seed`: of the sample.

    Raises `RecipeError` for both or none of the two, and for a score that no completion has or that
    several models gave.
    """
    where = "select.score_select"
    if (keep is None) == (count is None):
        raise RecipeError(f"{where}: give either keep, a share, or count, a number")
    if (keep is not None and not 0 < keep <= 1) or (count is not None and count < 1):
        raise RecipeError(
            f"{where}: keep = {keep}, count = {count}; expected a share in (0, 1] or a number of "
            "at least 1"
        )
    if temperature < 0:
        raise RecipeError(f"{where}: temperature = {temperature}; it is at least 0")
    rows = completions.join(of_completions(scores, score, where=where), on="completion_id")
    if temperature > 0:
        luck = [_gumbel(seed, each) for each in rows["completion_id"]]
        rows = rows.with_columns(
            value=pl.col("value") / temperature + pl.Series(luck, dtype=pl.Float64)
        )
    group = "prompt_id" if per_prompt else pl.lit(0)
    n = pl.lit(count) if count is not None else ((keep or 0) * pl.len() + 1e-9).floor().clip(1)
    place = pl.struct(-pl.col("value"), "completion_id").rank("ordinal")
    kept = rows.filter(place.over(group) <= n.over(group))
    return Completions(
        completions.filter(pl.col("completion_id").is_in(kept["completion_id"].implode()))
    )


def _gumbel(seed: int, id: str) -> float:
    u = (int(digest("score_select", seed, id), 16) + 0.5) / 16**20
    return -log(-log(u))
