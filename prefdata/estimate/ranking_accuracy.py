"""How often a model already ranks the pairs as they are labelled, and what training would need.

With l_w, l_l the log-probabilities of chosen and rejected under the reference model,
c = l_l - l_w (loser over winner) and a the share of annotators for the chosen side:

    ranked right     l_w >= l_l, raw (sums) or normalised (means per token); where annotators are
                     tied, a = 1/2, |exp l_w - exp l_l| < 0.01, which of sums is nearly always so
    idealised        (l_w - l_l) + logit(a) / beta > 0 : right at the optimum of DPO, even if that
                     is reached exactly; a tie as the reference has it, whose ratio it keeps
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
from prefdata.estimate._named import scores_of, whose, with_score
from prefdata.measure._means import means, with_groups
from prefdata.tables import Measures, Pairs, Prompts, Scores

Floats = NDArray[np.floating[Any]]

SCOPE = "all"  # accuracies are those of all pairs
WHERE = "estimate.ranking_accuracy"
MAKER = "estimate.log_likelihood, after the pair stage,"

# What a losing side is left with where all agree: a share of 1 has no finite log-odds.
LEAST = 1e-3
# How far apart the probabilities of two tied completions may be.
TIED = 0.01
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
        raise RecipeError(f"{WHERE}: beta is above 0, found {beta} and {[*betas]}")
    rows, who = _known(pairs, prompts, scores, model)
    if rows.is_empty():
        return scores, Measures(tables.empty("measures"))
    share = rows["soft_label"].to_numpy()
    raw = rows[RAW[0]].to_numpy() - rows[RAW[1]].to_numpy()
    values: dict[str, Floats] = {
        "difficulty": difficulty(raw, beta),
        "alpha_needed": expit(-beta * raw),
        "ranked_right": ranked_right(rows, *RAW),
        "ranked_right_per_token": ranked_right(rows, *NORMALISED),
    }
    made = scores_of(
        "pair", rows, {name: pl.Series(value) for name, value in values.items()}, model=who
    )
    hits = {
        ("ranking_accuracy", who): values["ranked_right"],
        ("ranking_accuracy_per_token", who): values["ranked_right_per_token"],
    }
    for each in betas:
        right = np.where(share == 0.5, values["ranked_right"], idealised(raw, share, each) > 0)
        hits["idealised_ranking_accuracy", f"{who}, beta {each:g}"] = right
    measures = [
        means(rows.select("group", subject=pl.lit(subject), hit=pl.Series(hit)), "hit", name)
        for (name, subject), hit in hits.items()
    ]
    both = tables.union("scores", scores, made, where=WHERE)
    return Scores(both), Measures(pl.concat(measures))


def ranked_right(rows: pl.DataFrame, chosen: str, rejected: str) -> Floats:
    """1 where the model ranks as annotators do, else 0."""
    one, other = pl.col(chosen), pl.col(rejected)
    near = (one.exp() - other.exp()).abs() < TIED
    right = pl.when(pl.col("soft_label") == 0.5).then(near).otherwise(one >= other)
    return rows.select(right.cast(pl.Float64)).to_series().to_numpy()


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
    who = model or whose(scores, RAW[0], where=WHERE)
    rows = with_groups(pairs.sort("pair_id"), prompts)
    for name in (*RAW, *NORMALISED):
        wanted = f"{name}@{who}" if who else name
        rows = with_score(rows, scores, wanted, where=WHERE, column=name, maker=MAKER)
    rows = rows.drop_nulls([*RAW, *NORMALISED])
    if rows.is_empty() and pairs.height:
        raise RecipeError(f"{WHERE}: no pair has log-probabilities; put {MAKER} before it")
    return rows, who
