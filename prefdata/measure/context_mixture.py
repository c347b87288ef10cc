"""How far a preference that is mixed from contexts may be off, and by what.

The mixture (`aggregate.context_mixture`) takes weights q of the contexts z of a prompt, and
preferences p_z of a judge under them. With the right ones, pi and g_z,

    |sum_z q_z p_z - sum_z pi_z g_z|  <=  sum_z pi_z |p_z - g_z|  +  1/2 sum_z |q_z - pi_z|
          the mixture's error               of judging                 of choosing contexts

because all preferences are in [0, 1]. Who judges well under each context and knows how likely each
is does well without one.

Source: Pitis et al. 2024, "Improving Context-Aware Preference Modeling for Language Models" (the
decomposition; the bound here is for preferences, and exact).
"""

from collections.abc import Sequence

import polars as pl

from prefdata.measure._contexts import UNIT, heard, weighed
from prefdata.measure._means import means, unheard
from prefdata.tables import Completions, Measures, Prompts, Scores, Votes

SCOPE = "all"
WHERE = "measure.context_mixture"
MEASURES = ("context_mixture_error", "context_judging_error", "context_choice_error")


def context_mixture(
    votes: Votes,
    completions: Completions,
    prompts: Prompts,
    scores: Scores | None = None,
    *,
    annotator: str,
    judges: Sequence[str] | None = None,
    weights: str | None = None,
    gold_weights: str | None = None,
) -> Measures:
    """Measure judges' mixtures over contexts against gold's.

    Subject the judge, in [0, 1], means over two texts of a prompt group on which gold and the judge
    voted under the same contexts:

    - `context_mixture_error`: |the judge's mixture - gold's|; never above the sum of the others.
    - `context_judging_error`: how far its preference under a context is from gold's, by gold's
      weights.
    - `context_choice_error`: the total variation between the weights and gold's.

    Options:
    - `annotator`: whose votes under contexts are gold.
    - `judges`: who is measured; null: all others.
    - `weights`, `gold_weights`: scores of prompts in context that say how likely each is; null: all
      alike.

    Who has no vote has nulls, and the note says so. Raises `RecipeError` for a score that no prompt
    has, or that is below 0.
    """
    rows = heard(votes, completions, prompts)
    rows = weighed(rows, scores, weights, "q", where=WHERE)
    rows = weighed(rows, scores, gold_weights, "pi", where=WHERE)
    gold = rows.filter(pl.col("annotator") == annotator).select("prompt_id", *UNIT, g="for_t")
    others = rows.filter(pl.col("annotator") != annotator)
    if judges is not None:
        others = others.filter(pl.col("annotator").is_in(list(judges)))
    both = others.join(gold, on=["prompt_id", *UNIT], how="left")
    asked = gold.group_by(UNIT).len("n_gold")
    whole = pl.col("g").is_not_null().all() & (pl.len() == pl.col("n_gold").first())
    p, g, q, pi = (pl.col(name) for name in ("for_t", "g", "q", "pi"))
    each = (
        both.join(asked, on=UNIT)
        .sort("prompt_id")
        .group_by("annotator", *UNIT, maintain_order=True)
        .agg(
            (q * p - pi * g).sum().abs().alias(MEASURES[0]),
            (pi * (p - g).abs()).sum().alias(MEASURES[1]),
            ((q - pi).abs().sum() / 2).alias(MEASURES[2]),
            whole=whole,
        )
        .filter("whole")
        .rename({"annotator": "subject"})
    )
    missing = unheard(MEASURES, votes, judges, gold=annotator)
    return Measures(pl.concat([missing, *(means(each, name, name) for name in MEASURES)]))
