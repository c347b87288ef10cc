"""Which pairs push probability away from both completions: the centred hidden embedding similarity.

With h_t the last hidden state, after the final norm, at the position that predicts token t of a
completion, its end included, S = sum_t h_t and m = S / |y|:

    CHES    = <S+, S-> - |S+|^2
    LN-CHES = <m+, m-> - |m+|^2

of chosen (+) and rejected (-). It is the part of the gradient flow of log pi(chosen) in which the
two completions meet, all other coefficients set to 1. The higher, the more the chosen completion
loses when the pair is trained on. Hidden states point the same way, so that CHES itself grows with
the length of the rejected side and falls with that of the chosen; for filtering the paper takes
`ln_ches` and keeps the *lowest*. That is made for sides of about one length: on toy models with
lengths that vary, CHES ordered what training did to the chosen side, LN-CHES did not
(tests/benchmarks/bench_displacement.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import TableError
from prefdata.estimate._edit_distance import edit_distance
from prefdata.estimate._named import scores_of
from prefdata.estimate._sides import SIDES, ask_about, beside, completions_in, parts
from prefdata.estimate.log_likelihood import END, scored
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Measures, Pairs, Prompts, Scores

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

SCOPE = "all"  # the correlation with length is one of all pairs

SCORES = ("ches", "ln_ches", "last_hidden_product", "negative_edit_distance")
VECTORS = ("mean", "last")


def ches(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    *,
    model: Model,
    layer: int = -1,
    norm: bool | None = None,
    end: bool = True,
    likelihoods: bool = False,
) -> Asks[tuple[Scores, Measures]]:
    """Score each pair's `ches` and `ln_ches`, and two competitors that know less.

    These are `last_hidden_product`, the product of the two last states, and
    `negative_edit_distance`, in [-1, 0]: how many tokens one completion needs changed, added or
    left out to become the other, in tokens of the longer one, times -1. Of all four a higher one
    says that the completions are more alike. Products of states have no unit: their scale is the
    model's. A pair of equal states has `ches` and `ln_ches` 0. What a failed request would have
    told of a pair is not scored. Each completion is read once, however many pairs it is in.

    The measure `length_correlation` (Pearson's), subject "ches" and "ln_ches", says how far a
    score is told by tokens alone, those of rejected less those of chosen; n: pairs scored.

    Options:
    - `model`: the model that is to be trained, as it is before; one that gives hidden states.
    - `layer`: whose states: -1 is the last, 0 are the embeddings of tokens.
    - `norm`: whether the model's final norm is applied to them; by default to the last layer only.
    - `end`: whether the token that ends a completion is one of its tokens.
    - `likelihoods`: give also the scores of estimate.log_likelihood, of the completions that are in
      pairs. A model that gives both reads each completion once for the two.

    Raises `TableError` for states that cannot be of one model.

    Source: Razin et al. (2025), Unintentional Unalignment: Likelihood Displacement in Direct
    Preference Optimization; the defaults are those of their code.
    """
    where = {} if layer == -1 else {"layer": layer}
    where |= {} if norm is None else {"norm": norm}
    where |= {"end": True} if end else {}
    wants: list[tuple[str, Mapping[str, Any]]] = [
        *(("hidden", {"pool": pool, **where}) for pool in ("mean", "last")),
        ("tokens", {"ids": True}),
        *((("logprobs", {"end": END}),) if likelihoods else ()),
    ]
    made: list[pl.DataFrame] = []
    also: list[pl.DataFrame] = []
    for part in parts(pairs):
        shown = completions_in(part, completions)
        means, lasts, tokens, *rest = yield from ask_about(prompts, shown, model, wants)
        made.append(_scored(part, means, lasts, tokens, model))
        also += [scored(said, part, model) for said in rest]
    if not made:
        return Scores(tables.empty("scores")), Measures(tables.empty("measures"))
    rows = pl.concat(made)
    scores = scores_of(
        "pair", rows, {name: name for name in SCORES}, model=model.name, request_id="request_id"
    )
    measures = rows.select(
        pl.corr(name, pl.col("n_rejected") - pl.col("n_chosen")).fill_nan(None).alias(name)
        for name in SCORES[:2]
    )
    # A completion may be in several parts.
    return Scores(pl.concat([scores, *also]).unique(maintain_order=True)), Measures(
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


def _scored(
    pairs: Pairs, means: pl.DataFrame, lasts: pl.DataFrame, tokens: pl.DataFrame, model: Model
) -> pl.DataFrame:
    """The pairs both sides of which are known, with their scores and lengths."""
    known = (
        means.select("completion_id", "request_id", n="number", mean="vector")
        .join(lasts.select("completion_id", last="vector"), on="completion_id")
        .filter(pl.col("n") > 0, *(pl.col(name).list.len() > 0 for name in VECTORS))
        .join(tokens.select("completion_id", "token_ids", m="number"), on="completion_id")
        .with_row_index("at")
    )
    rows = beside(pairs.sort("pair_id"), known.select("completion_id", "at"))
    chosen, rejected = (rows[f"at_{side}"].to_numpy() for side in SIDES)
    mean, last = (_matrix(known[name], model) for name in VECTORS)
    n = known["n"].to_numpy()
    whole, normed = similarity(mean[chosen], mean[rejected], n[chosen], n[rejected])
    product = np.einsum("pw,pw->p", last[chosen], last[rejected])
    apart = _edits(known, chosen, rejected)
    values = zip(SCORES, (whole, normed, product, apart), strict=True)
    return rows.select(
        "pair_id",
        *(pl.Series(name, value, pl.Float64) for name, value in values),
        n_chosen=pl.Series(n[chosen]),
        n_rejected=pl.Series(n[rejected]),
        request_id=known["request_id"].gather(chosen),
    )


def _edits(known: pl.DataFrame, chosen: Ints, rejected: Ints) -> list[float | None]:
    """None where the tokens of a side are not known."""
    ids = known.select(pl.col("token_ids").list.tail(pl.col("m").cast(pl.Int64)))
    said = ids.to_series().to_list()
    both = [(said[a], said[b]) for a, b in zip(chosen, rejected, strict=True)]
    return [-edit_distance(a, b) / max(len(a), len(b)) if a and b else None for a, b in both]


def _matrix(vectors: pl.Series, model: Model) -> Floats:
    widths = vectors.list.len().unique().sort().to_list()
    if len(widths) > 1:
        raise TableError(
            f"estimate.ches: {model.name} gave states of {widths[0]} and of {widths[-1]} numbers, "
            "which are those of several models under one name; give it a revision, or ask again "
            "with --fresh"
        )
    return vectors.explode().to_numpy().reshape(len(vectors), *(widths or [0]))
