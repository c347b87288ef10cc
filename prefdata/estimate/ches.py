"""Which pairs push probability away from both completions: the centred hidden embedding similarity.

With h_t the last hidden state, after the final norm, at the position that predicts token t of a
completion, S = sum_t h_t and m = S / |y|:

    CHES    = <S+, S-> - |S+|^2
    LN-CHES = <m+, m-> - |m+|^2

of chosen (+) and rejected (-). It is the part of the gradient flow of log pi(chosen) in which the
two completions meet, all other coefficients set to 1. The higher, the more the chosen completion
loses when the pair is trained on. Hidden states point the same way, so that CHES itself grows with
the length of the rejected side and falls with that of the chosen; for filtering take `ln_ches` and
keep the *lowest*.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.estimate._sides import ask_about, beside, parts
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Measures, Pairs, Prompts, Scores

Floats = NDArray[np.floating[Any]]

SCOPE = "all"  # the correlation with length is one of all pairs
SIDES = ("chosen", "rejected")
SCORES = ("ches", "ln_ches", "last_hidden_product")


def ches(
    pairs: Pairs, prompts: Prompts, completions: Completions, *, model: Model
) -> Asks[tuple[Scores, Measures]]:
    """Score each pair's `ches` and `ln_ches`, and `last_hidden_product`, their competitor.

    The last is the product of the two last states. They have no unit: their scale is the model's.
    A pair of equal states has `ches` and `ln_ches` 0. A pair of which a request failed has no
    score. Each completion is read once, however many pairs it is in.

    The measure `length_correlation` (Pearson's), subject "ches" and "ln_ches", says how far a
    score is told by tokens alone, those of rejected less those of chosen; n: pairs scored.

    Options:
    - `model`: the model that is to be trained, as it is before; one that gives hidden states.

    Source: Razin et al. (2025), Unintentional Unalignment: Likelihood Displacement in Direct
    Preference Optimization.
    """
    made: list[pl.DataFrame] = []
    for part in parts(pairs):
        sides = pl.concat([part["chosen_id"], part["rejected_id"]]).unique().implode()
        shown = Completions(completions.filter(pl.col("completion_id").is_in(sides)))
        wants = [("hidden", {"pool": pool}) for pool in ("mean", "last")]
        means, lasts = yield from ask_about(prompts, shown, model, wants)
        mean = means.select("completion_id", "request_id", n="number", mean="vector")
        last = lasts.select("completion_id", last="vector")
        known = mean.join(last, on="completion_id").filter(
            pl.col("n") > 0, pl.col("mean").list.len() > 0, pl.col("last").list.len() > 0
        )
        made.append(_scored(beside(part, known)))
    if not made:
        return Scores(tables.empty("scores")), Measures(tables.empty("measures"))
    rows = pl.concat(made)
    scores = [
        rows.select(
            subject_id="pair_id",
            subject=pl.lit("pair"),
            score=pl.lit(name),
            model=pl.lit(model.name),
            value=name,
            request_id="request_id_chosen",
        )
        for name in SCORES
    ]
    measures = rows.select(
        pl.corr(name, pl.col("n_rejected") - pl.col("n_chosen")).fill_nan(None).alias(name)
        for name in SCORES[:2]
    )
    return Scores(pl.concat(scores)), Measures(
        measures.unpivot(variable_name="subject").with_columns(
            measure=pl.lit("length_correlation"), n=pl.lit(rows.height)
        )
    )


def similarity(
    mean_chosen: Floats, mean_rejected: Floats, n_chosen: Floats, n_rejected: Floats
) -> tuple[Floats, Floats]:
    """CHES and LN-CHES of pairs, from the means (pairs, width) and the numbers of their states."""
    cross = np.einsum("pw,pw->p", mean_chosen, mean_rejected)
    own = np.einsum("pw,pw->p", mean_chosen, mean_chosen)
    return n_chosen * n_rejected * cross - n_chosen**2 * own, cross - own


def _scored(rows: pl.DataFrame) -> pl.DataFrame:
    """The pairs with their scores instead of their vectors."""
    mean, last = ([_matrix(rows[f"{name}_{s}"]) for s in SIDES] for name in ("mean", "last"))
    n = [rows[f"n_{side}"].to_numpy() for side in SIDES]
    whole, normed = similarity(*mean, *n)
    values = (whole, normed, np.einsum("pw,pw->p", *last))
    named = (pl.Series(name, each) for name, each in zip(SCORES, values, strict=True))
    return rows.select("pair_id", "n_chosen", "n_rejected", "request_id_chosen").with_columns(named)


def _matrix(vectors: pl.Series) -> Floats:
    return np.array(vectors.to_list(), dtype=float).reshape(len(vectors), -1)
