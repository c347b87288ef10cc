"""Each pair twice, conditioned on the score to reach: once as it is, once turned round.

    R(x, y, g) = -(g - r(x, y))^2

With the chosen one's score for a goal g the chosen one is right, with the rejected one's score the
rejected one is: N pairs become 2 N, without a new label. The goal is said in a system message or
before the user's words; when the model is used, it is the greatest score.

Source: Zhang et al. (2024), Reward-Augmented Data Enhances Direct Preference Alignment of LLMs. In
its released code the variant without a system message forgets to turn the second pair round.
"""

import re
from typing import Literal

import polars as pl

from prefdata.aggregate._rates import rates
from prefdata.errors import RecipeError
from prefdata.export._texts import message, with_texts
from prefdata.tables import Completions, Pairs, Prompts, Rows, Strengths, check

SCOPE = "all"  # an estimator that some prompts lack is no mistake

GOAL = (
    "Answer so that your answer would be given the score below, on a scale from {} (worst) to {} "
    "(best), without speaking of the score.\nOverall score: {}"
)
SAID = "".join(re.escape(part) + "[^\\n]*?" for part in GOAL.split("{}"))


def reward_augmented(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    strengths: Strengths,
    *,
    scale: tuple[float, float] = (1, 10),
    decimals: int = 0,
    placed: Literal["system", "user"] = "system",
    estimator: str | None = None,
) -> Rows:
    """Two rows a pair, by `pair_id` and `reversed`; every row has `goal`, `reward_*` 0 and below.

    Scores are strengths in [0, 1] (aggregate.mean_rating) on `scale`, rounded to `decimals`. Pairs
    whose sides round to one score have no rows, for they would contradict each other, nor have
    those whose rejected side has the greater score. `placed` is where the goal is said: in a system
    message of its own before the prompt, or before what the user says last. `estimator` names whose
    strengths are taken and is required when there are several.

    Splits other than the one for training hold their pairs once, as they are, and say no goal.

    Raises `RecipeError` for a scale that does not rise, `TableError` for strengths outside of
    [0, 1].
    """
    where = "export.reward_augmented"
    low, high = scale
    if not low < high:
        raise RecipeError(f"{where}: scale is {list(scale)}; it rises")
    own = rates(strengths, estimator, where=where, instead="aggregate.mean_rating")
    score = (low + (high - low) * pl.col("strength")).round(decimals)
    rows = pairs.drop_nulls("prompt_id").select("pair_id", "prompt_id", "chosen_id", "rejected_id")
    for side in ("chosen", "rejected"):
        known = own.select(
            pl.col("completion_id").alias(f"{side}_id"), score.alias(f"score_{side}")
        )
        rows = rows.join(known, on=f"{side}_id")
    rows = rows.filter(pl.col("score_chosen") > pl.col("score_rejected"))
    turned = rows.rename(lambda name: name.replace("chosen", "#").replace("rejected", "chosen"))
    turned = turned.rename(lambda name: name.replace("#", "rejected")).select(rows.columns)
    both = pl.concat([rows.with_columns(reversed=pl.lit(False)),
                      turned.with_columns(reversed=pl.lit(True))])  # fmt: skip
    both = both.with_columns(
        goal=pl.col("score_chosen"),
        reward_chosen=pl.lit(0.0),
        reward_rejected=-(pl.col("score_chosen") - pl.col("score_rejected")).pow(2),
    )
    whole = with_texts(both, prompts, completions, "chosen", "rejected")
    number = pl.col("goal").cast(pl.Int64) if decimals == 0 else pl.col("goal")
    ends = (f"{end:g}" for end in scale)
    words = pl.format(GOAL, *(pl.lit(end) for end in ends), number.cast(pl.String))
    whole = whole.with_columns(_conditioned(words, placed).alias("prompt"))
    return Rows(check("reward_augmented", whole, where=where))


def held_out(rows: Rows) -> Rows:
    """The pairs as they were, without the goal before them."""
    by_system = pl.col("prompt").list.first().struct.field("content").str.contains(f"^{SAID}$")
    own = pl.col("prompt").list.last().struct.field("content").str.replace(f"^{SAID}\n\n", "")
    before = pl.col("prompt").list.head(pl.col("prompt").list.len() - 1)
    as_was = pl.when(by_system).then(pl.col("prompt").list.slice(1)).otherwise(
        before.list.concat(message("user", own))
    )  # fmt: skip
    return Rows(rows.filter(~pl.col("reversed")).with_columns(prompt=as_was))


def _conditioned(words: pl.Expr, placed: Literal["system", "user"]) -> pl.Expr:
    prompt = pl.col("prompt")
    if placed == "system":
        return message("system", words).list.concat(prompt)
    last = pl.format("{}\n\n{}", words, prompt.list.last().struct.field("content"))
    return prompt.list.head(prompt.list.len() - 1).list.concat(message("user", last))
