"""Strengths from comparisons with one common baseline: K comparisons in place of K (K - 1) / 2.

    s_k = mean over orders of logit P(y_k preferred to the baseline)
    P(i preferred to j) = sigmoid(s_i - s_j)

A judge that adds something to the logit of whatever stands first adds it once and takes it away
once, so over both orders it is gone.

Source: Zhai et al. (2024), Online Self-Preferring Language Models (ranked pairing).
"""

from collections.abc import Sequence

import polars as pl

from prefdata.aggregate._criteria import weigh
from prefdata.errors import RecipeError
from prefdata.generate._generators import refuse_unknown
from prefdata.tables import Samples, Strengths, Votes

# A baseline that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def ranked_pairing(
    votes: Votes,
    samples: Samples,
    *,
    baseline: str,
    temperature: float = 1.0,
    max_logit: float = 4.6,
    criteria: Sequence[str] | None = None,
    estimator: str = "ranked_pairing",
) -> Strengths:
    """Give each completion the mean log odds of being preferred to the baseline of its prompt.

    Votes on a completion and a baseline count, however many annotators, orders and draws; unscored
    ones and others are left out. Orders are averaged first, then what is left. The baseline itself
    has no strength. `stderr` is null. pair.all_pairs makes soft labels of the margins.

    Options:
    - `baseline`: the generator whose completions are the baselines, as `samples` names it.
    - `temperature`: strengths are divided by it; above 0. Small ones make labels harder.
    - `max_logit`: the bound on a vote's log odds, above 0, which also makes hard votes finite; 4.6
      is 99 %.
    - `criteria`: the criteria whose votes count; default all.
    - `estimator`: the result's name in `strengths.estimator`.

    Raises `RecipeError` for a baseline that wrote nothing and for options out of range.
    """
    where = f"aggregate.{estimator}"
    if not 0 < temperature < float("inf") or not 0 < max_logit < float("inf"):
        raise RecipeError(f"{where}: temperature and max_logit are above 0")
    refuse_unknown([baseline], samples, where=where)
    base = samples.filter(pl.col("generator") == baseline)["completion_id"].unique().implode()
    p = pl.col("preference")
    logit = (p.log() - (1 - p).log()).clip(-max_logit, max_logit)
    scored = weigh(votes, criteria, None).filter(
        p.is_not_null() & pl.col("prompt_id").is_not_null()
    )
    sides = [
        scored.filter(pl.col(against).is_in(base) & ~pl.col(own).is_in(base)).select(
            "prompt_id",
            "annotator",
            "criterion",
            completion_id=own,
            logit=logit if own == "completion_a" else -logit,
            first=pl.col("a_first") if own == "completion_a" else ~pl.col("a_first"),
        )
        for own, against in (("completion_a", "completion_b"), ("completion_b", "completion_a"))
    ]
    key = ["prompt_id", "completion_id"]
    each = [*key, "annotator", "criterion"]
    by_order = pl.concat(sides).sort(*each, "first", "logit").group_by(*each, "first")
    by_one = by_order.agg(pl.col("logit").mean()).sort(*each, "first").group_by(each)
    means = by_one.agg(pl.col("logit").mean()).sort(each).group_by(key, maintain_order=True)
    made = means.agg(strength=pl.col("logit").mean() / temperature)
    return Strengths(
        made.select(
            "completion_id",
            pl.lit(estimator).alias("estimator"),
            "prompt_id",
            "strength",
            pl.lit(None, pl.Float64).alias("stderr"),
        )
    )
