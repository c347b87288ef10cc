"""How often a model already ranks the pairs as they are labelled, and what training would need.

With l_w, l_l the log-probabilities of chosen and rejected under the reference model,
c = l_l - l_w (loser over winner) and a the share of annotators for the chosen side:

    ranked right     l_w >= l_l, raw (sums) or normalised (means per token)
    idealised        (l_w - l_l) + logit(a) / beta > 0 : right at the optimum of DPO, even if that
                     is reached exactly
    alpha needed     sigmoid(beta c), the share above which the optimum is right
    difficulty       -log sigmoid(beta c), the DPO loss of the pair below which it is ranked right

A small difficulty is a hard pair: its loss must come near 0. Where c <= 0 the pair is right from
the start and its difficulty is log 2 or more. All is computed in logs: a / (1 - a) to the power
1 / beta would overflow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._named import named, scores_of
from prefdata.measure._means import means, with_groups
from prefdata.tables import Measures, Pairs, Prompts, Scores

Floats = NDArray[np.floating[Any]]

SCOPE = "all"  # accuracies are those of all pairs

# What a losing side is left with where all agree: a share of 1 has no finite log-odds.
LEAST = 1e-3
RAW = ("ref_logp_chosen", "ref_logp_rejected")
NORMALISED = ("ref_logp_chosen_per_token", "ref_logp_rejected_per_token")


def ranking_accuracy(
    pairs: Pairs,
    prompts: Prompts,
    scores: Scores,
    *,
    beta: float = 0.1,
    betas: Sequence[float] = (0.01, 0.1, 1.0, 5.0, 10.0),
    model: str | None = None,
) -> tuple[Scores, Measures]:
    """Score each pair's `difficulty` (nats), `alpha_needed` in [0, 1] and `ranked_right`, 0 or 1.

    Also `ranked_right_per_token`. Reads the scores of estimate.log_likelihood and the pairs'
    soft_label as the share of annotators for the chosen side. Pairs without log-probabilities have
    none of these.

    Measures, of the model as subject, each with its 95 % interval by prompt groups:
    `ranking_accuracy`, `ranking_accuracy_per_token`, and `idealised_ranking_accuracy` with
    "<model>, beta <beta>" for each of `betas`: what exact DPO would reach on these labels, and no
    training can be held to more.

    Options:
    - `beta`: of DPO, for the scores; above 0.
    - `betas`: those for which the idealised accuracy is measured.
    - `model`: whose log-probabilities, where several models gave some.

    Raises `RecipeError` for a beta that is not above 0 and where no pair has log-probabilities.

    Source: Chen et al. (2024), Preference Learning Algorithms Do Not Learn Preference Rankings.
    Their idealised accuracy without normalisation divides log-probabilities; here it is Eq. 3.
    """
    if any(each <= 0 for each in (beta, *betas)):
        raise RecipeError("estimate.ranking_accuracy: beta is above 0")
    rows, who = _known(pairs, prompts, scores, model)
    if rows.is_empty():
        return scores, Measures(tables.empty("measures"))
    raw, normed = (rows[a].to_numpy() - rows[b].to_numpy() for a, b in (RAW, NORMALISED))
    share = rows["soft_label"].to_numpy()
    values = {
        "difficulty": difficulty(raw, beta),
        "alpha_needed": expit(-beta * raw),
        "ranked_right": (raw >= 0).astype(float),
        "ranked_right_per_token": (normed >= 0).astype(float),
    }
    made = scores_of(
        "pair", rows, {name: pl.Series(value) for name, value in values.items()}, model=who
    )
    hits = {
        ("ranking_accuracy", who): values["ranked_right"],
        ("ranking_accuracy_per_token", who): values["ranked_right_per_token"],
    }
    for each in betas:
        right = (idealised(raw, share, each) > 0).astype(float)
        hits["idealised_ranking_accuracy", f"{who}, beta {each:g}"] = right
    measures = [
        means(rows.select("group", subject=pl.lit(subject), hit=pl.Series(hit)), "hit", name)
        for (name, subject), hit in hits.items()
    ]
    both = tables.union("scores", scores, made, where="estimate.ranking_accuracy")
    return Scores(both), Measures(pl.concat(measures))


def difficulty(margin: Floats, beta: float) -> Floats:
    """-log sigmoid(beta c), from margins l_w - l_l = -c."""
    return np.logaddexp(0.0, beta * margin)


def idealised(margin: Floats, share: Floats, beta: float) -> Floats:
    """log pi*(chosen) / pi*(rejected) at the optimum of DPO."""
    return margin + logit(np.clip(share, LEAST, 1 - LEAST)) / beta


def _known(
    pairs: Pairs, prompts: Prompts, scores: Scores, model: str | None
) -> tuple[pl.DataFrame, str]:
    """Pairs with their log-probabilities and group, and the name of the model."""
    rows = with_groups(pairs.sort("pair_id"), prompts)
    for name in (*RAW, *NORMALISED):
        wanted = f"{name}@{model}" if model else name
        known = named(scores, wanted, where="estimate.ranking_accuracy")
        known = known.rename({"subject_id": "pair_id", "value": name})
        rows = rows.join(known, on="pair_id", maintain_order="left")
    if rows.is_empty() and pairs.height:
        raise RecipeError(
            "estimate.ranking_accuracy: no pair has log-probabilities; put estimate.log_likelihood "
            "after the pair stage, before this one"
        )
    whose = scores.filter(pl.col("score") == RAW[0])["model"]
    return rows, model or str(whose.first())
