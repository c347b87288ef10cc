"""The strength of each label by an ensemble of small reward models, each pair held out.

M linear heads on the differences of two completions (traits of the texts and their spelling,
embeddings, scores) are fitted to the labels of other prompt groups, each on a bootstrap of the
groups and on a part of the columns. The margin of a pair is the mean of their differences
r(chosen) - r(rejected), its spread their standard deviation. Low, even negative margins are labels
that the rest of the data contradicts; small ones are ambiguous.

Scored on the pairs that they were fitted on, heads of enough capacity give every label a positive
margin and the wrong ones vanish. So the pairs are held out, and the capacity of the heads (the
strength of their prior, which stands where early stopping does in heads trained by steps) is the
one with the least loss on what is held out: either alone is not enough.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._evidence import Evidence, gather
from prefdata.estimate._held_out import fit_held_out, fit_ridge
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Pairs, Prompts, Scores, Votes

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
# The share of its columns that a head sees.
SEEN = 0.8


def ensemble_strength(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    scores: Scores | None = None,
    votes: Votes | None = None,
    *,
    model: Model | None = None,
    with_prompt: bool = False,
    margins: Sequence[str] = (),
    annotators: Sequence[str] = (),
    n_heads: int = 10,
    n_folds: int = 5,
    keep_heads: bool = False,
    seed: int = 0,
) -> Asks[Scores]:
    """Score each pair's `ensemble_margin` (log-odds, signed, oriented to chosen) and its spread.

    `ensemble_spread` is the standard deviation over the heads (divided by their number), also the
    `stderr` of the margin, null where all heads say the same; `ensemble_decile` is 1 for the lowest
    tenth of margins to 10. With fewer than two prompt groups nothing can be held out and there are
    no scores.

    Options:
    - `model`: one that embeds; without it only the texts are seen, their traits and spelling.
    - `with_prompt`: embed prompt and completion together, not the completion alone.
    - `margins`: scores of pairs, higher where the chosen side is better, to use as evidence.
    - `annotators`: those whose votes are evidence; not those whose votes made the labels.
    - `n_heads`: heads of the ensemble, at least 2.
    - `n_folds`: parts of which each is judged by heads fitted on the others.
    - `keep_heads`: also add `head_margin` of each head, under the model "head:<number>".
    - `seed`: of folds, bootstraps and columns.

    Raises `RecipeError` for fewer heads or folds and for a score or annotator that is not there.

    Source: Wang et al. (2024), Secrets of RLHF in Large Language Models Part II: Reward Modeling.
    """
    if n_heads < 2 or n_folds < 2:
        raise RecipeError(
            f"estimate.ensemble_strength: n_heads = {n_heads}, n_folds = {n_folds}; "
            "both are at least 2"
        )
    seen = yield from gather(
        pairs, prompts, completions, scores, votes,
        model=model, with_prompt=with_prompt, margins=margins, annotators=annotators,
    )  # fmt: skip
    n_groups = len(np.unique(seen.groups))
    if n_groups < 2:
        return Scores(tables.union("scores", scores, where="estimate.ensemble_strength"))
    heads = fit_ensemble(seen, n_heads=n_heads, n_folds=min(n_folds, n_groups), seed=seed)
    mean, spread = heads.mean(0), heads.std(0)
    decile = np.ceil(10 * (mean.argsort(kind="stable").argsort() + 1) / len(mean))
    label = model.name if model else None
    made = [
        _scores(seen, "ensemble_margin", label, mean, np.where(spread > 0, spread, np.nan)),
        _scores(seen, "ensemble_spread", label, spread),
        _scores(seen, "ensemble_decile", label, decile),
    ]
    if keep_heads:
        made += [_scores(seen, "head_margin", f"head:{m}", z) for m, z in enumerate(heads)]
    return Scores(tables.union("scores", scores, *made, where="estimate.ensemble_strength"))


def fit_ensemble(seen: Evidence, *, n_heads: int, n_folds: int, seed: int) -> Floats:
    """Held-out margins, (heads, pairs), each by a head of other groups."""
    _, fold, precision = fit_held_out(seen, n_folds=n_folds, seed=seed)
    d = seen.x * seen.sign[:, None]
    draw = np.random.default_rng(seed)
    used = np.isfinite(precision)
    n_groups = int(seen.groups.max()) + 1
    margins = np.zeros((n_heads, len(d)))
    for head in range(n_heads):
        # One head is one bootstrap and one choice of columns, whatever is held out.
        weight = draw.poisson(1.0, n_groups)[seen.groups].astype(float)
        columns = used & (draw.random(len(used)) < SEEN)
        columns = columns if columns.any() else used
        for part in range(n_folds):
            inside = fold != part
            rows, start = d[np.ix_(inside, columns)], np.zeros(int(columns.sum()))
            fitted = fit_ridge(rows, precision[columns], start, weight[inside])
            margins[head, ~inside] = d[np.ix_(~inside, columns)] @ fitted
    return margins


def _scores(
    seen: Evidence, name: str, model: str | None, value: Floats, stderr: Floats | None = None
) -> pl.DataFrame:
    return seen.pairs.select(
        subject_id="pair_id",
        subject=pl.lit("pair"),
        score=pl.lit(name),
        model=pl.lit(model, pl.String),
        value=pl.Series(value),
        stderr=pl.lit(None, pl.Float64) if stderr is None else pl.Series(stderr).fill_nan(None),
        request_id=pl.lit(None, pl.String),
    )
