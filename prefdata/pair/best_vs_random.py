"""One pair a prompt: its strongest completion over one of the others, drawn."""

from typing import Literal

import polars as pl

from prefdata.pair._candidates import label, ranked
from prefdata.tables import Dropped, Pairs, Scores, Strengths, Votes, digest

# An estimator that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def best_vs_random(
    strengths: Strengths,
    votes: Votes | None = None,
    scores: Scores | None = None,
    *,
    among: Literal["weaker", "others"] = "weaker",
    estimator: str | None = None,
    seed: int = 0,
) -> tuple[Pairs, Dropped]:
    """Pair the strongest completion of each prompt with a random other one.

    The draw comes from the seed and the completion's id, so it stays when others are added or
    rows are sorted anew. `margin`, `soft_label`, `n_votes` and what is dropped are as in
    pair.best_vs_worst.

    Options:
    - `among`: "weaker" draws from those below the best, as Argilla's binarised UltraFeedback does
      with mean ratings; "others" from all others, as Zephyr's with overall scores: a draw that is
      as strong as the best is then dropped as a tie.
    - `estimator`: whose strengths; needed where `strengths` holds those of several.
    - `seed`: what draws are made from.

    Raises `RecipeError` for an unknown estimator, and for several without a choice.

    Source: Tunstall et al. (2023), Zephyr: Direct Distillation of LM Alignment; on ratings by
    Cui et al. (2024), UltraFeedback: Boosting Language Models with Scaled AI Feedback.
    """
    place = pl.int_range(pl.len()).over("prompt_id")
    of_prompt = ranked(strengths, estimator, stage="pair.best_vs_random").with_columns(place=place)
    best = of_prompt.filter(pl.col("place") == 0)
    tiers = pl.col("tier").max().over("prompt_id")
    weaker = (pl.col("tier") > 0) | (tiers == 0) if among == "weaker" else pl.lit(True)
    rest = of_prompt.filter((pl.col("place") > 0) & weaker)
    drawn = [digest("random rejected", seed, each) for each in rest["completion_id"]]
    rest = rest.with_columns(pl.Series("drawn", drawn, pl.String)).sort("prompt_id", "drawn")
    one = rest.unique("prompt_id", keep="first", maintain_order=True).drop("drawn")
    candidates = best.join(one, on="prompt_id", maintain_order="left")
    return label(candidates, votes, scores, stage="pair.best_vs_random")
