"""Every two completions of a prompt as a pair."""

import polars as pl

from prefdata.pair._candidates import label, ranked
from prefdata.tables import Dropped, Pairs, Scores, Strengths, Votes

# An estimator that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def all_pairs(
    strengths: Strengths,
    votes: Votes | None = None,
    scores: Scores | None = None,
    *,
    estimator: str | None = None,
) -> tuple[Pairs, Dropped]:
    """Pair every two completions of each prompt, the stronger one as chosen.

    A prompt with n strengths has n (n - 1) / 2 candidates; each is a row of `pairs` or, with its
    reason, of `dropped`: "tie" where both are equally strong, "preference contradicts strengths"
    where the votes on just these two say the opposite.

    - `margin`: strength of chosen less strength of rejected, above 1e-9; closer is a tie.
    - `soft_label`: the estimator's score `preference` of the two where there is one, else
      sigmoid(margin); in [0.5, 1].
    - `n_votes`: scored votes on just these two, on any criterion; 0 where no votes are given.

    Options:
    - `estimator`: whose strengths; needed where `strengths` holds those of several.

    Raises `RecipeError` for an unknown estimator, and for several without a choice.

    Source: Ouyang et al. (2022), Training language models to follow instructions with human
    feedback: all K over 2 pairs of a ranking.
    """
    of_prompt = ranked(strengths, estimator, stage="pair.all_pairs").with_columns(
        place=pl.int_range(pl.len()).over("prompt_id")
    )
    candidates = of_prompt.join(of_prompt, on="prompt_id", maintain_order="left_right").filter(
        pl.col("place") < pl.col("place_right")
    )
    return label(candidates, votes, scores, stage="pair.all_pairs")
