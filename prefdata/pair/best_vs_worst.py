"""One pair a prompt: its strongest completion over its weakest."""

import polars as pl

from prefdata.pair._candidates import label, ranked
from prefdata.tables import Dropped, Pairs, Scores, Strengths, Votes

# An estimator that some prompts lack is no mistake; one that all lack is.
SCOPE = "all"


def best_vs_worst(
    strengths: Strengths,
    votes: Votes | None = None,
    scores: Scores | None = None,
    *,
    estimator: str | None = None,
) -> tuple[Pairs, Dropped]:
    """Pair the strongest completion of each prompt with its weakest.

    A prompt with at least two strengths is one candidate: `pairs` and `dropped` together have as
    many rows as there are such prompts. Dropped, with its reason, is a prompt whose completions
    are all equally strong ("tie"), and one where the votes on just these two say the opposite
    ("preference contradicts strengths"). Of several equally strong the smallest id is taken.

    - `margin`: strength of chosen less strength of rejected, above 1e-9; closer is a tie.
    - `soft_label`: the estimator's score `preference` of the two where there is one, else
      sigmoid(margin); in [0.5, 1].
    - `n_votes`: scored votes on just these two, on any criterion; 0 where no votes are given.

    Options:
    - `estimator`: whose strengths; needed where `strengths` holds those of several.

    Raises `RecipeError` for an unknown estimator, and for several without a choice.

    Source: Dong et al. (2024), RLHF Workflow, pair the best of n completions with the worst.
    """
    of_prompt = ranked(strengths, estimator, stage="pair.best_vs_worst").with_columns(
        place=pl.int_range(pl.len()).over("prompt_id"),
        last=pl.col("tier").max().over("prompt_id"),
    )
    best = of_prompt.filter(pl.col("place") == 0)
    # The first of the last tier; where there is one tier only, its second.
    rest = of_prompt.filter((pl.col("place") > 0) & (pl.col("tier") == pl.col("last")))
    worst = rest.unique("prompt_id", keep="first", maintain_order=True)
    candidates = best.join(worst, on="prompt_id", maintain_order="left")
    return label(candidates, votes, scores, stage="pair.best_vs_worst")
