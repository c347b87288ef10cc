"""How often each completion wins against the others of its prompt, and where wins go in circles.

    P_ij = mean preference for i over j,    w_i = mean over j of P_ij

Against a pool drawn from a policy, w_i estimates the chance that i beats what the policy says: the
target of methods that need no reward, since a win rate makes sense where preferences go in circles.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.aggregate._tally import about, preferences, shares, tally, with_prompts
from prefdata.tables import Completions, Scores, Strengths, Votes

# A criterion that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def win_rate(
    votes: Votes,
    completions: Completions | None = None,
    *,
    with_self: bool = True,
    criteria: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    estimator: str = "win_rate",
) -> tuple[Strengths, Scores]:
    """Average each completion's preferences over the completions that it was compared with.

    Both orders of showing count alike, votes on two completions are averaged before opponents are.
    Unscored votes are left out, and so are votes across prompts.

    - `strengths`: the win rate, in [0, 1]; no standard error.
    - `scores`: `preference` of every two compared completions, P(the smaller id is preferred), and
      `cycles` of each prompt: how many three of its completions beat each other in a circle.

    Options:
    - `with_self`: count each completion as an opponent of its own, at 1/2, as SPPO and LiPO do; it
      draws w towards 1/2 where there are few. False is DNO's expected win rate over others.
    - `criteria`: the criteria whose votes count; default all.
    - `weights`: votes that one vote on a criterion counts for; default 1 each.
    - `estimator`: the result's name in `strengths.estimator` and `scores.model`.

    Source: Wu et al. (2024), Self-Play Preference Optimization for Language Model Alignment;
    Liu et al. (2024), LiPO: Listwise Preference Optimization through Learning-to-Rank; Rosset et
    al. (2024), Direct Nash Optimization.
    """
    own = Votes(votes.filter(pl.col("prompt_id").is_not_null()))
    counted = tally(own, criteria, weights).with_columns(
        value=pl.col("wins") / (pl.col("wins") + pl.col("losses"))
    )
    counted = counted.with_columns(stderr=pl.lit(None, pl.Float64))
    both = _from_both_sides(counted)
    opponents = both.group_by("completion_id").agg(n=pl.len())
    extra = 1 if with_self else 0
    rates = shares(counted).join(opponents, on="completion_id", maintain_order="left")
    rate = (pl.col("strength") * pl.col("n") + 0.5 * extra) / (pl.col("n") + extra)
    rates = rates.with_columns(strength=rate).drop("n")
    made = with_prompts(rates, own, completions, estimator)
    circles = _circles(both, pl.DataFrame(made).select("completion_id", "prompt_id"))
    return made, Scores(
        pl.concat(
            [
                preferences(counted, estimator),
                about(
                    "prompt",
                    circles["prompt_id"],
                    "cycles",
                    circles["cycles"].to_numpy(),
                    estimator,
                ),
            ]
        )
    )


def _from_both_sides(counted: pl.DataFrame) -> pl.DataFrame:
    """Each completion's preferences over each `other`, as `won`."""
    a, b, value = pl.col("completion_a"), pl.col("completion_b"), pl.col("value")
    sides = [(a, b, value), (b, a, 1 - value)]
    return pl.concat(
        counted.select(completion_id=one, other=other, won=won) for one, other, won in sides
    )


def _circles(both: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Each prompt's number of threes i, j, k with i over j, j over k and k over i."""
    beats = both.filter(pl.col("won") > 0.5).select("completion_id", "other")
    second = beats.rename({"completion_id": "other", "other": "third"})
    closing = beats.rename({"completion_id": "third", "other": "completion_id"})
    circles = beats.join(second, on="other").join(closing, on=["third", "completion_id"])
    # Each circle is found once from each of its three.
    counts = circles.join(known, on="completion_id").group_by("prompt_id").agg(cycles=pl.len() // 3)
    every = known.select("prompt_id").unique().sort("prompt_id")
    return every.join(counts, on="prompt_id", how="left", maintain_order="left").with_columns(
        pl.col("cycles").fill_null(0).cast(pl.Float64)
    )
