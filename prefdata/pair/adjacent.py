"""Neighbours in the order of a prompt's completions as pairs."""

import polars as pl

from prefdata.pair._candidates import label, ranked
from prefdata.tables import Dropped, Pairs, Scores, Strengths, Votes

# An estimator that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def adjacent(
    strengths: Strengths,
    votes: Votes | None = None,
    scores: Scores | None = None,
    *,
    estimator: str | None = None,
) -> tuple[Pairs, Dropped]:
    """Order the completions of each prompt by strength and pair each with the next.

    A prompt with n strengths has n - 1 candidates; each is a row of `pairs` or, with its reason,
    of `dropped`: "tie" where neighbours are equally strong, "preference contradicts strengths"
    where the votes on just these two say the opposite. Equally strong completions stand in the
    order of their ids.

    - `margin`: strength of chosen less strength of rejected, above 1e-9; closer is a tie.
    - `soft_label`: the estimator's score `preference` of the two where there is one, else
      sigmoid(margin); in [0.5, 1].
    - `n_votes`: scored votes on just these two, on any criterion; 0 where no votes are given.

    Options:
    - `estimator`: whose strengths; needed where `strengths` holds those of several.

    Raises `RecipeError` for an unknown estimator, and for several without a choice.

    Source: own; the links of a ranking read as a chain.
    """
    of_prompt = ranked(strengths, estimator, stage="pair.adjacent").with_columns(
        place=pl.int_range(pl.len()).over("prompt_id")
    )
    following = of_prompt.with_columns(pl.col("place") - 1)
    candidates = of_prompt.join(following, on=["prompt_id", "place"], maintain_order="left")
    return label(candidates, votes, scores, stage="pair.adjacent")
