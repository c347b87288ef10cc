"""A prompt's strongest completion over each of the others."""

import polars as pl

from prefdata.pair._candidates import label, ranked
from prefdata.tables import Dropped, Pairs, Scores, Strengths, Votes

# An estimator that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def best_vs_rest(
    strengths: Strengths,
    votes: Votes | None = None,
    scores: Scores | None = None,
    *,
    estimator: str | None = None,
) -> tuple[Pairs, Dropped]:
    """Pair the strongest completion of each prompt with each of its others.

    A prompt with K strengths is K - 1 candidates; the chosen one is always the same, and margins
    grow with the rank of the rejected one. Of several equally strong the smallest id is the best;
    against the others of them the candidate is dropped ("tie"). `margin`, `soft_label`, `n_votes`
    and what is dropped are as in pair.best_vs_worst.

    Options:
    - `estimator`: whose strengths; needed where `strengths` holds those of several.

    Raises `RecipeError` for an unknown estimator, and for several without a choice.

    Source: Pattnaik et al. (2024), Curry-DPO: Enhancing Alignment using Curriculum Learning &
    Ranked Preferences (the best of four over the second, third and fourth).
    """
    place = pl.int_range(pl.len()).over("prompt_id")
    of_prompt = ranked(strengths, estimator, stage="pair.best_vs_rest").with_columns(place=place)
    best = of_prompt.filter(pl.col("place") == 0)
    rest = of_prompt.filter(pl.col("place") > 0)
    candidates = best.join(rest, on="prompt_id", maintain_order="left_right")
    return label(candidates, votes, scores, stage="pair.best_vs_rest")
