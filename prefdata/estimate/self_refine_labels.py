"""Doubt the labels that a policy itself is least sure of.

For each pair the policy's own margin is

    m = beta [(log p_policy - log p_reference)(chosen) - (log p_policy - log p_reference)(rejected)]

The labels with the lowest margins, signed, are in doubt: their target is 1 - alpha, that of all
others 1. It is the low end that is doubted, not what is near 0: a margin far below 0 contradicts
its label. The paper takes the lowest of the last margins seen in training and looks again in each
step; here it is the whole table, once, by the policy as it is.

Their other half, margins of a policy extrapolated away from the reference, mixes the two models'
logits before the softmax; from the probabilities of the given tokens it cannot be had.

Source: Kim et al. 2025, "Spread preference annotation: Direct preference judgment for efficient
LLM alignment".
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.annotate._implied import implied
from prefdata.errors import RecipeError
from prefdata.estimate._named import scores_of
from prefdata.estimate._sides import beside, completions_in
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Pairs, Prompts, Scores

SCOPE = "all"

Floats = NDArray[np.floating[Any]]


def self_refine_labels(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    *,
    policy: Model,
    reference: Model,
    beta: float = 0.1,
    share: float = 0.1,
    alpha: float = 0.1,
    per_token: bool = False,
) -> Asks[Scores]:
    """Score each pair's `implicit_reward` (the margin m) and `self_refined` (its target).

    `implicit_reward` is a log-odds oriented to the chosen side, `self_refined` is P(chosen is
    preferred), 1 - alpha for the share of the pairs with the lowest margins and 1 for the others;
    of equal margins the smaller id is doubted first. Both are under the policy's name. A pair with
    a side that either model gave no probability of has no score and is not counted in the share.

    Options:
    - `policy`: the model whose margins are read, asked for `logprobs`.
    - `reference`: the model that the policy was trained from.
    - `beta`: the strength of the divergence in that training.
    - `share`: the share of the labels in doubt.
    - `alpha`: how much of a doubted label is taken back; at most 1/2, where it says nothing.
    - `per_token`: the mean log-ratio of a side's tokens in place of the sum.

    Raises `RecipeError` for a share outside of [0, 1], an alpha outside of [0, 1/2], a beta that is
    not above 0, and where policy and reference are one model.
    """
    if not (0 <= share <= 1 and 0 <= alpha <= 0.5 and beta > 0):
        raise RecipeError(
            f"estimate.self_refine_labels: share = {share}, alpha = {alpha}, beta = {beta}; "
            "share is in [0, 1], alpha in [0, 0.5] and beta above 0"
        )
    if (policy.identity or policy.name) == (reference.identity or reference.name):
        raise RecipeError(
            f"estimate.self_refine_labels: policy and reference are both {policy.name!r}; their "
            "margins are all 0: name the model that the policy was trained from"
        )
    rows = (
        completions_in(pairs, completions)
        .join(prompts.select("prompt_id", "prompt"), on="prompt_id")
        .sort("prompt_id", "completion_id")
    )
    heard = yield from implied(rows, policy, reference, per_token=per_token)
    apart = pl.col("log_ratio_chosen") - pl.col("log_ratio_rejected")
    both = (
        beside(pairs, heard.select("completion_id", "log_ratio"))
        .with_columns(own=beta * apart)
        .drop_nulls("own")
        .sort("pair_id")
    )
    target = refined(both["own"].to_numpy(), share=share, alpha=alpha)
    values = {"implicit_reward": "own", "self_refined": pl.Series(target, dtype=pl.Float64)}
    return Scores(scores_of("pair", both, values, model=policy.name))


def refined(margins: Floats, *, share: float, alpha: float) -> Floats:
    """1 - alpha for the round(share * n) lowest margins, of equal ones the first; else 1."""
    target = np.ones(len(margins))
    lowest = np.argsort(margins, kind="stable")[: round(share * len(margins))]
    target[lowest] = 1 - alpha
    return target
