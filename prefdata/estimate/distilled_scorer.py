"""A scorer of completions, distilled from pairs: what the labels taught, for a whole pool at once.

With f_c the features of a completion, weights w maximise over the pairs

    sum log sigmoid((f_chosen - f_rejected) . w) - ridge |w|^2 / 2

which is a Bradley-Terry model whose strengths are f_c . w. Features are what can be counted in a
text and its groups of three letters, or its embedding by a model; each is brought to a root mean
square difference of 1. So judges label some pairs, by criteria say (`annotate.criteria_votes`), and
the scorer gives all others a number for nothing.

A completion whose prompt group has pairs is scored by weights that were fitted without that group,
any other by the mean of them all. `distilled_accuracy` is that of the former, and so honest.

Source: Guo et al. 2025, "CritiQ: Mining Data Quality Criteria from Human Preferences" (a scorer
trained on the pairs that criteria labelled, there a language model); Bradley and Terry 1952.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._evidence import Ints, counted, embed
from prefdata.estimate._spelling import spelling
from prefdata.explain._labelled import labels
from prefdata.explain._predict import fit_weights, folds_of, hits
from prefdata.measure._means import means, with_groups
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Measures, Pairs, Prompts, Scores, text_of

SCOPE = "all"

Doubles = NDArray[np.float64]


def distilled_scorer(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    *,
    embedder: Model | None = None,
    ridge: float = 1.0,
    folds: int = 5,
    seed: int = 0,
) -> Asks[tuple[Scores, Measures]]:
    """The score `distilled` of every completion, on the log-odds scale, and how good it is.

    Only differences of completions of one prompt mean something. Where an embedding failed there is
    no score. `distilled_accuracy`, subject "distilled", in [0, 1]: of the pairs, by weights that
    were fitted on other prompt groups. With fewer groups than folds nothing is fitted, and the note
    says so.

    Options:
    - `embedder`: a model whose embeddings are the features; null: the texts themselves.
    - `ridge`: how much weights are held at 0, above 0; with few pairs take more.
    - `folds`: the parts of the prompt groups, each left out once; at least 2.
    - `seed`: which groups are in which part.
    """
    if folds < 2:
        raise RecipeError(f"estimate.distilled_scorer: folds = {folds}; it is at least 2")
    if ridge <= 0:
        raise RecipeError(f"estimate.distilled_scorer: ridge = {ridge}; it is above 0")
    told = labels(pairs, prompts)
    if told["group"].n_unique() < folds:
        return _unfitted(told)
    pool = completions.sort("completion_id")
    texts = pool.select("completion_id", text=text_of("completion"))
    if embedder is None:
        features = counted(texts).join(spelling(texts), on="completion_id", maintain_order="left")
    else:
        shown = pool.select("completion_id", messages="completion")
        features = yield from embed(shown, embedder)
    known = features.select("completion_id").join(pool, on="completion_id", maintain_order="left")
    known = with_groups(known.select("completion_id", "prompt_id"), prompts)
    f = np.nan_to_num(features.drop("completion_id").to_numpy().astype(np.float64))
    rows = _placed(told, known)
    if rows["group"].n_unique() < folds:
        return _unfitted(rows)
    x = f[rows["better"].to_numpy()] - f[rows["worse"].to_numpy()]
    size = np.sqrt((x**2).mean(0))
    scale = np.where(size > 1e-12, size, np.inf)
    part = folds_of(rows["group"], folds, seed)
    weights = _weights(x / scale, part, folds, ridge)
    of = rows.select("group", part=pl.Series(part, dtype=pl.Int64)).unique("group")
    parts = known.join(of, on="group", how="left", maintain_order="left")["part"].fill_null(folds)
    value: Doubles = ((f / scale) * weights[parts.to_numpy()]).sum(1)
    ahead = value[rows["better"].to_numpy()] - value[rows["worse"].to_numpy()]
    scores = known.select(
        subject_id="completion_id",
        subject=pl.lit("completion"),
        score=pl.lit("distilled"),
        value=pl.Series(value, dtype=pl.Float64),
        model=pl.lit(None if embedder is None else embedder.name, pl.String),
    )
    hit = rows.select("group", subject=pl.lit("distilled"), hit=pl.Series(hits(ahead)))
    return tables.typed(Scores, scores), Measures(means(hit, "hit", "distilled_accuracy"))


def _unfitted(rows: pl.DataFrame) -> tuple[Scores, Measures]:
    note = f"{rows['group'].n_unique()} prompt groups with pairs are too few to leave parts out"
    none = pl.DataFrame(schema={"subject": pl.String, "group": pl.String, "hit": pl.Float64})
    subject = pl.DataFrame({"subject": ["distilled"]})
    measured = means(none, "hit", "distilled_accuracy", subject, note=note)
    return Scores(tables.empty("scores")), Measures(measured)


def _placed(told: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The labelled comparisons with the rows of the `better` and the `worse` one."""
    place = known.select("completion_id").with_row_index("at").cast({"at": pl.Int64})
    for side in ("a", "b"):
        at = place.rename({"completion_id": f"completion_{side}", "at": side})
        told = told.join(at, on=f"completion_{side}")
    told = told.sort("completion_a", "completion_b")
    one, other = pl.col("a"), pl.col("b")
    return told.select(
        "group",
        better=pl.when("a_chosen").then(one).otherwise(other),
        worse=pl.when("a_chosen").then(other).otherwise(one),
    )


def _weights(x: Doubles, part: Ints, folds: int, ridge: float) -> Doubles:
    """A row of weights for each part, fitted without it, and below them their mean."""
    ones = np.ones((len(x), 1))
    each = [fit_weights(x[part != k], ones[part != k], ridge)[:, 0] for k in range(folds)]
    return np.stack([*each, np.mean(each, 0)])
