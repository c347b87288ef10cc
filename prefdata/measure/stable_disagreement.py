"""Disagreement that is of the completions, told from what one panel of people happened to say.

Of each unit (two completions of a vote, one of a rating, on one criterion) the disagreement is the
variance of its annotators' labels, s^2 = sum (y - mean)^2 / (n - 1), unbiased for any number.
The annotators are cut into two halves at random, the disagreement of each unit is computed in both,
and the two are correlated over units:

    r = corr(s^2 of one half, s^2 of the other), the mean over many cuts.

Where other people disagree about the same units r is above 0. Where people err at one rate
everywhere each half disagrees about units of its own, and r is 0. Half the panel knows less than
all of it: the disagreement of all annotators has the reliability 2 r / (1 + r) (Spearman, Brown).

What no stability would look like is shown beside it: each annotator's labels permuted over the
units that it labelled, so that everyone keeps habits and scale and units lose what they are.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.aggregate._annotators import is_by
from prefdata.aggregate._criteria import weigh
from prefdata.errors import RecipeError
from prefdata.measure._wilson import Z95
from prefdata.tables import SIDES, Measures, Ratings, Scores, Votes, pair_ids

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

TOO_FEW = "fewer than 3 units have two annotators in both halves"
CONSTANT = "all units are disagreed about alike"


def stable_disagreement(
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    *,
    annotators: str = "human:*",
    criteria: Sequence[str] | None = None,
    n_splits: int = 100,
    seed: int = 0,
) -> tuple[Scores, Measures]:
    """Measure how far other annotators would disagree about the same completions.

    Measures, of each table that is there and of subject "criterion:<name>", with n the units:

    - `stable_disagreement_<table>`, in [-1, 1]: r, with its standard error over prompts, whose
      units go together, and its 95 % interval.
    - `disagreement_reliability_<table>`: 2 r / (1 + r), 0 where r is below 0; its interval is that
      of r carried over.
    - `permuted_disagreement_<table>`: the mean r with permuted labels, and in `low` and `high`
      where 95 % of such r lie. An r within them is no more than noise.

    Scores: `disagreement` of completions (ratings) and pairs (votes), under the model
    "criterion:<name>": the variance of the labels, drawn towards the mean of all units by what is
    not reliable. Where nothing is reliable all units have the same.

    Labels are the preference or the rating of each annotator, over its draws and orders in the
    mean. Units with fewer than two annotators in a half do not count in it. Null, with why in
    `note`, where fewer than three units are left or all are alike.

    Options:
    - `annotators`: whose labels: one kind as `human:*`, or `*` for all.
    - `criteria`: the criteria that count; default all.
    - `n_splits`: cuts into halves; at least 1.
    - `seed`: of the cuts and permutations.

    Raises `RecipeError` for an option out of range and a criterion that no row is on.

    Source: Aroyo et al. (2023), DICES Dataset: Diversity in Conversational AI Evaluation for
    Safety, for the panel and the question; Spearman (1910), Brown (1910) for halves.
    """
    if n_splits < 1:
        raise RecipeError(f"measure.stable_disagreement: n_splits = {n_splits}; at least 1")
    scores: list[pl.DataFrame] = [tables.empty("scores")]
    measures: list[dict[str, Any]] = []
    for table, criterion, units, labels in _panels(votes, ratings, annotators, criteria):
        draw = np.random.default_rng(seed)
        found = fit_halves(labels, n_splits=n_splits, draw=draw)
        measures += _rows(table, criterion, found)
        scores.append(_scores(table, criterion, units, labels, found))
    told = pl.DataFrame(measures, schema=tables.schema("measures").dtypes)
    made = Measures(tables.check("measures", told, where="measure.stable_disagreement"))
    return Scores(pl.concat(scores).sort("subject", "subject_id", "model")), made


class Labels(NamedTuple):
    """`value` of each label, whose it is and of which unit; the `home` (prompt) of each unit."""

    unit: Ints
    annotator: Ints
    value: Floats
    home: Ints


class Halves(NamedTuple):
    """`r` with `error`; `permuted` of every permutation; `n` units that counted, on average."""

    r: float
    error: float
    permuted: Floats
    n: int
    note: str


def fit_halves(labels: Labels, *, n_splits: int, draw: np.random.Generator) -> Halves:
    """The mean correlation of the disagreement of two halves of the annotators."""
    n_units, n_annotators = len(labels.home), int(labels.annotator.max(initial=-1)) + 1
    order = np.lexsort((labels.unit, labels.annotator))
    labels = labels._replace(
        **{k: getattr(labels, k)[order] for k in ("unit", "annotator", "value")}
    )
    of_r: list[float] = []
    of_permuted: list[float] = []
    counted: list[int] = []
    influence = np.zeros(n_units)
    note = TOO_FEW
    for _ in range(n_splits):
        is_first = np.zeros(n_annotators, bool)
        is_first[draw.permutation(n_annotators)[: n_annotators // 2]] = True
        in_first = is_first[labels.annotator]
        both = _both(labels, labels.value, in_first, n_units)
        kept = np.isfinite(both).all(0)
        if kept.sum() < 3:
            continue
        r, linear = _correlation(both[:, kept])
        if np.isnan(r):
            note = CONSTANT
            continue
        of_r.append(r)
        counted.append(int(kept.sum()))
        influence[kept] += linear / kept.sum()
        shuffled = labels.value[np.lexsort((draw.random(len(order)), labels.annotator))]
        both = _both(labels, shuffled, in_first, n_units)
        of_permuted.append(_correlation(both[:, np.isfinite(both).all(0)])[0])
    if not of_r:
        return Halves(np.nan, np.nan, np.zeros(0), 0, note)
    by_home = np.bincount(labels.home, influence / len(of_r))
    n_homes = max(len(by_home), 2)
    error = float(np.sqrt((by_home**2).sum() * n_homes / (n_homes - 1)))
    permuted = np.array(of_permuted)
    return Halves(
        float(np.mean(of_r)), error, permuted[np.isfinite(permuted)], round(np.mean(counted)), ""
    )


def _both(labels: Labels, value: Floats, in_first: NDArray[np.bool_], n_units: int) -> Floats:
    """The disagreement of each unit in each half, (2, units); NaN with fewer than two labels."""
    at = labels.unit + n_units * ~in_first
    return spread(at, value, 2 * n_units).reshape(2, n_units)


def spread(unit: Ints, value: Floats, n_units: int) -> Floats:
    """The unbiased variance of the labels of each unit; NaN with fewer than two."""
    n = np.bincount(unit, minlength=n_units)
    means = np.bincount(unit, value, n_units) / np.maximum(n, 1)
    squares = np.bincount(unit, (value - means[unit]) ** 2, n_units)
    return np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan)


def _correlation(both: Floats) -> tuple[float, Floats]:
    """Pearson's r of two rows and its derivative by the share of each column."""
    away: Floats = both - both.mean(1, keepdims=True)
    size: Floats = np.sqrt((away**2).mean(1))
    n = len(both.T)
    if n < 3 or not (size > 1e-12).all():
        return np.nan, np.zeros(n)
    one: Floats = away[0] / size[0]
    other: Floats = away[1] / size[1]
    r = float((one * other).mean())
    linear: Floats = one * other - r * (one * one + other * other) / 2
    return r, linear


def _panels(
    votes: Votes | None, ratings: Ratings | None, annotators: str, criteria: Sequence[str] | None
) -> Iterator[tuple[str, str, pl.DataFrame, Labels]]:
    """Of each table and criterion its units (`subject_id`, in the order of their numbers) and
    their labels."""
    kinds: list[tuple[str, pl.DataFrame | None, list[str], str]] = [
        ("ratings", ratings, ["completion_id"], "rating"),
        ("votes", votes, SIDES, "preference"),
    ]
    for table, frame, key, value in kinds:
        if frame is None:
            continue
        rows = weigh(frame, criteria, None).drop_nulls(value).filter(is_by(annotators))
        cells = (
            rows.sort("criterion", *key, "annotator", value)
            .group_by("criterion", *key, "annotator", maintain_order=True)
            .agg(pl.mean(value).alias("value"), pl.first("prompt_id"))
        )
        for (criterion,), own in cells.group_by("criterion", maintain_order=True):
            yield table, str(criterion), *_numbered(own, key)


def _numbered(cells: pl.DataFrame, key: list[str]) -> tuple[pl.DataFrame, Labels]:
    units = cells.unique(key, keep="first", maintain_order=True).select(*key, "prompt_id")
    subject = units[key[0]] if len(key) == 1 else pair_ids(units[key[0]], units[key[1]])
    home = pl.coalesce("prompt_id", key[0]).rank("dense")
    labels = Labels(
        cells.select(pl.struct(*key).rle_id()).to_series().to_numpy().astype(np.int64),
        cells["annotator"].rank("dense").to_numpy().astype(np.int64) - 1,
        cells["value"].to_numpy(),
        units.select(home).to_series().to_numpy().astype(np.int64) - 1,
    )
    return units.select(subject_id=subject), labels


def _reliability(r: float) -> float:
    return 2 * r / (1 + r) if r > 0 else 0.0


def _rows(table: str, criterion: str, found: Halves) -> list[dict[str, Any]]:
    common = {"subject": f"criterion:{criterion}", "n": found.n, "note": found.note or None}
    names = ("stable_disagreement", "disagreement_reliability", "permuted_disagreement")
    if np.isnan(found.r):
        return [{"measure": f"{name}_{table}", **common} for name in names]
    low = max(found.r - Z95 * found.error, -1.0)
    high = min(found.r + Z95 * found.error, 1.0)
    numbers: list[dict[str, Any]] = [
        {"value": found.r, "stderr": found.error, "low": low, "high": high},
        {
            "value": _reliability(found.r),
            "low": _reliability(low),
            "high": _reliability(high),
        },
        {},
    ]
    if len(found.permuted):
        ends = np.quantile(found.permuted, [0.025, 0.975])
        mean = float(found.permuted.mean())
        numbers[2] = {"value": mean, "low": float(ends[0]), "high": float(ends[1])}
    return [
        {"measure": f"{name}_{table}", **common, **each}
        for name, each in zip(names, numbers, strict=True)
    ]


def _scores(
    table: str, criterion: str, units: pl.DataFrame, labels: Labels, found: Halves
) -> pl.DataFrame:
    seen = spread(labels.unit, labels.value, len(labels.home))
    known = np.isfinite(seen)
    mean = float(seen[known].mean()) if known.any() else 0.0
    kept = 0.0 if np.isnan(found.r) else _reliability(found.r)
    made = units.filter(pl.Series(known)).with_columns(
        subject=pl.lit("completion" if table == "ratings" else "pair"),
        score=pl.lit("disagreement"),
        model=pl.lit(f"criterion:{criterion}"),
        value=pl.Series(mean + kept * (seen[known] - mean), dtype=pl.Float64),
        stderr=pl.lit(None, pl.Float64),
        request_id=pl.lit(None, pl.String),
    )
    return made.select(*tables.schema("scores").columns)
