"""Pairs with the win rates that each side is to reach against the policy.

`chosen_probs` is P(chosen preferred to rejected), `chosen_probs_win` the win rate of the chosen one
against the completions of its prompt, `chosen_probs_lose` that of the rejected one: the columns of
the released trainer, whose loss draws ln pi / pi_t of either to eta (win rate - 1/2).

Source: Wu et al. (2024), Self-Play Preference Optimization for Language Model Alignment.
"""

import polars as pl

from prefdata.aggregate._rates import rates
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Format, Pairs, Prompts, Rows, Strengths

SCOPE = "all"  # an estimator that some prompts lack is no mistake


def sppo(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    strengths: Strengths,
    *,
    estimator: str | None = None,
    format: Format = "conversational",
) -> Rows:
    """One row a pair both sides of which have a win rate, with the columns of export.pairwise.

    `chosen_probs` is the pair's soft label. `estimator` names whose strengths are the win rates
    (aggregate.win_rate) and is required when there are several; `format` is as in export.pairwise.

    Raises `TableError` for strengths outside of [0, 1], which are no win rates.
    """
    own = rates(strengths, estimator, where="export.sppo", instead="aggregate.win_rate")
    rows = pairwise(prompts, completions, pairs, format=format)
    for side, name in (("chosen", "chosen_probs_win"), ("rejected", "chosen_probs_lose")):
        known = own.select(pl.col("completion_id").alias(f"{side}_id"), name=pl.col("strength"))
        rows = rows.join(known.rename({"name": name}), on=f"{side}_id", maintain_order="left")
    return Rows(rows.with_columns(chosen_probs="soft_label"))
