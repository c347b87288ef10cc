"""Labels of items by annotators as arrays, from votes and from ratings.

The classes of a vote's truth are a better (0), b better (1) and, where allowed, equally good (2);
labels are numbered alike, with a tie as 2 and an abstention as the last. Of ratings the classes
are the grades, lowest first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from prefdata.aggregate._criteria import weigh
from prefdata.aggregate._graph import numbers
from prefdata.aggregate._tally import about, coded, preferences, shares, with_prompts
from prefdata.errors import RecipeError
from prefdata.tables import SIDES, Completions, Ratings, Scores, Strengths, Votes

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Of = Literal["votes", "ratings"]

# This module comes without types.
SPARSE: Any = sparse

# More distinct grades than this are no classes with a confusion matrix each.
MOST_GRADES = 25

A, B, TIE, ABSTENTION = 0, 1, 2, 3


@dataclass(frozen=True)
class Labels:
    """`weight[k]` labels `label[k]` of item `item[k]` by annotator `annotator[k]`.

    `turned[k]` says that the classes A and B, of label and truth, are to be read as exchanged: of
    votes label and truth are then those of the completion shown first and of the second. `items`
    has a row for each item. Of the `n_labels` labels the first `n_classes` name a class.
    """

    items: pl.DataFrame
    annotators: list[str]
    item: Ints
    annotator: Ints
    label: Ints
    weight: Floats
    turned: NDArray[np.bool_]
    n_classes: int
    n_labels: int
    symmetric: bool

    @property
    def n_items(self) -> int:
        return self.items.height

    def matrix(self, turned: bool) -> Any:
        """Weights as items x (annotator, label), of the turned labels or of the others."""
        k = self.turned == turned
        column = self.annotator[k] * self.n_labels + self.label[k]
        shape = self.n_items, len(self.annotators) * self.n_labels
        return SPARSE.csr_array((self.weight[k], (self.item[k], column)), shape=shape)

    def shares(self) -> Floats:
        """For each item the share of its labels on each class, with one label spread over all.

        A label that names no class is spread over A and B.
        """
        label = np.where(self.turned & (self.label < 2), 1 - self.label, self.label)
        names = label < self.n_classes
        cell = self.item[names] * self.n_classes + label[names]
        size = self.n_items * self.n_classes
        counts = np.bincount(cell, self.weight[names], size).reshape(-1, self.n_classes)
        if self.symmetric:
            rest = np.bincount(self.item[~names], self.weight[~names], self.n_items)
            counts[:, :2] = counts[:, :2] + rest[:, None] / 2
        counts = counts + 1 / self.n_classes
        return counts / counts.sum(1, keepdims=True)


def labels_of_votes(
    votes: Votes,
    criteria: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    *,
    ties: Literal["label", "halves"] = "label",
    true_ties: bool = False,
    positions: bool = True,
    abstentions: bool = False,
) -> Labels:
    """The votes on each two completions, whatever the criterion, as labels.

    A preference that is none of 0, 1/2 and 1 is its part of a label for a and the rest of one for
    b; with `ties` "halves" 1/2 is too. With `positions`, labels are those of the place shown, and
    a vote of unknown order is half of one in either order. Without `abstentions`, unscored votes
    are left out.
    """
    preference = pl.col("preference")
    known = weigh(votes, criteria, weights)
    if not abstentions:
        known = known.filter(preference.is_not_null())
    is_tie = (preference == 0.5) if ties == "label" else pl.lit(False)
    whole = preference.is_null() | is_tie
    sides = [
        known.with_columns(label=pl.lit(side), part=pl.when(whole).then(0.0).otherwise(part))
        for side, part in ((A, preference), (B, 1 - preference))
    ]
    other = pl.when(preference.is_null()).then(ABSTENTION).otherwise(TIE)
    sides.append(known.filter(whole).with_columns(label=other, part=pl.lit(1.0)))
    rows = pl.concat(sides, how="vertical_relaxed").filter(pl.col("part") > 0)
    first = pl.col("a_first") if positions else pl.lit(True)
    rows = rows.with_columns(first=first, part=pl.col("part") * pl.col("weight"))
    unknown = rows.filter(pl.col("first").is_null())
    orders = [unknown.with_columns(first=pl.lit(f), part=pl.col("part") / 2) for f in (True, False)]
    rows = pl.concat([rows.filter(pl.col("first").is_not_null()), *orders])
    rows = coded(coded(rows, *SIDES), "annotator")
    key = [*SIDES, "annotator", "first", "label"]
    rows = rows.sort(*key, "part").group_by(key, maintain_order=True).agg(pl.col("part").sum())
    items = rows.select(SIDES).unique(maintain_order=True).cast(pl.String)
    n_labels = 4 if abstentions else 3 if ties == "label" or true_ties else 2
    turned = ~rows["first"].to_numpy()
    label = rows["label"].to_numpy().astype(np.int64)
    names, annotator = _annotators(rows)
    return Labels(
        items,
        names,
        item=rows.select(pl.struct(SIDES).rle_id()).to_series().to_numpy().astype(np.int64),
        annotator=annotator,
        label=np.where(turned & (label < 2), 1 - label, label),
        weight=rows["part"].to_numpy(),
        turned=turned,
        n_classes=3 if true_ties else 2,
        n_labels=n_labels,
        symmetric=True,
    )


def _annotators(rows: pl.DataFrame) -> tuple[list[str], Ints]:
    names = rows["annotator"].unique().sort().cast(pl.String)
    return names.to_list(), numbers(rows["annotator"].cast(pl.String), names)


@dataclass(frozen=True)
class Graded:
    """The labels that ratings on one criterion are, and the rating that each class stands for."""

    criterion: str
    weight: float
    labels: Labels
    grades: Floats


def labels_of_ratings(
    ratings: Ratings,
    criteria: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    *,
    abstentions: bool = False,
    where: str,
) -> list[Graded]:
    """The ratings on each criterion as labels of completions; the distinct ratings are classes."""
    known = weigh(ratings, criteria, weights)
    if not abstentions:
        known = known.filter(pl.col("rating").is_not_null())
    made: list[Graded] = []
    for (criterion,), rows in known.sort("criterion").group_by("criterion", maintain_order=True):
        grades = rows["rating"].drop_nulls().unique().sort()
        if len(grades) > MOST_GRADES:
            raise RecipeError(
                f"{where}: criterion {criterion!r} has {len(grades)} different ratings; grades are "
                f"classes here, of which there are at most {MOST_GRADES}: use aggregate.mean_rating"
            )
        if not len(grades):
            continue
        key = ["completion_id", "annotator", "rating"]
        counted = rows.sort(key).group_by(key, maintain_order=True).agg(part=pl.len())
        items = rows.select("completion_id", "prompt_id").unique("completion_id")
        items = items.sort("completion_id")
        values = grades.to_numpy()
        label = np.searchsorted(values, counted["rating"].fill_null(2.0).to_numpy())
        names, annotator = _annotators(counted)
        labels = Labels(
            items,
            names,
            item=np.searchsorted(
                items["completion_id"].to_numpy(), counted["completion_id"].to_numpy()
            ).astype(np.int64),
            annotator=annotator,
            label=label.astype(np.int64),
            weight=counted["part"].cast(pl.Float64).to_numpy(),
            turned=np.zeros(counted.height, bool),
            n_classes=len(values),
            n_labels=len(values) + abstentions,
            symmetric=False,
        )
        made.append(Graded(str(criterion), float(rows["weight"][0]), labels, values))
    return made


@dataclass(frozen=True)
class Fitted:
    """The posterior of each item's class, and scores by name of annotators and of items."""

    posterior: Floats
    of_annotators: Mapping[str, Floats]
    of_items: Mapping[str, Floats]


def aggregated(
    votes: Votes | None,
    ratings: Ratings | None,
    completions: Completions | None,
    *,
    of: Of | None,
    read_votes: Callable[[Votes], Labels],
    fit: Callable[[Labels, str], Fitted],
    criteria: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    abstentions: bool = False,
    estimator: str,
) -> tuple[Strengths, Scores]:
    """Fit votes or ratings (`of`; None takes the only ones there are) and say what was found.

    `fit` is given the labels and how an error names them. How votes become labels is the model's;
    ratings become labels by `criteria`, `weights` and `abstentions` alike for all.
    """
    where = f"aggregate.{estimator}"
    if _chosen(votes, ratings, of, where) == "votes":
        assert votes is not None
        labels = read_votes(votes)
        fitted = fit(labels, where)
        value = fitted.posterior[:, A] + fitted.posterior[:, 2:].sum(1) / 2
        pairs = labels.items.with_columns(
            value=pl.Series(value, dtype=pl.Float64), stderr=pl.lit(None, pl.Float64)
        )
        strengths = with_prompts(shares(pairs), votes, completions, estimator)
        rows: list[pl.DataFrame] = [preferences(pairs, estimator)]
        ids = rows[0]["subject_id"]
        rows += [about("pair", ids, n, v, estimator) for n, v in fitted.of_items.items()]
        return strengths, Scores(pl.concat([*rows, *_of_annotators(labels, fitted, estimator)]))
    assert ratings is not None
    rows = [about("completion", [], "", np.zeros(0), estimator)]
    annotators: list[pl.DataFrame] = []
    posteriors: list[tuple[Graded, Floats]] = []
    for graded in labels_of_ratings(
        ratings, criteria, weights, abstentions=abstentions, where=where
    ):
        fitted = fit(graded.labels, f"{where}, criterion {graded.criterion!r}")
        posteriors.append((graded, fitted.posterior))
        values = {"grade": graded.grades[fitted.posterior.argmax(1)], **fitted.of_items}
        ids = graded.labels.items["completion_id"]
        rows += [
            about("completion", ids, f"{name}/{graded.criterion}", value, estimator)
            for name, value in values.items()
        ]
        annotators += _of_annotators(graded.labels, fitted, estimator)
    rows += [_averaged(annotators)] if annotators else []
    return _grades(posteriors, estimator), Scores(pl.concat(rows))


def at_least_0(where: str, options: Mapping[str, float]) -> None:
    """Raise `RecipeError` for a number of pseudo-labels that is below 0."""
    for name, value in options.items():
        if not 0 <= value < float("inf"):
            raise RecipeError(f"{where}: {name} is {value}; give 0 or a number above")


def _chosen(votes: Votes | None, ratings: Ratings | None, of: Of | None, where: str) -> Of:
    if of is not None:
        if (votes if of == "votes" else ratings) is None:
            raise RecipeError(f"{where}: of is {of!r}, but there are no {of}")
        return of
    there = [table is not None and table.height > 0 for table in (votes, ratings)]
    if all(there):
        raise RecipeError(f'{where}: there are votes and ratings; say of = "votes" or "ratings"')
    if votes is None and ratings is None:
        raise RecipeError(f"{where}: there are neither votes nor ratings to aggregate")
    return "ratings" if there[1] or votes is None else "votes"


def _of_annotators(labels: Labels, fitted: Fitted, estimator: str) -> list[pl.DataFrame]:
    return [
        about("annotator", labels.annotators, name, value, estimator)
        for name, value in fitted.of_annotators.items()
    ]


def _grades(fitted: Sequence[tuple[Graded, Floats]], estimator: str) -> Strengths:
    """The posterior mean rating over criteria by weight, with the posterior's deviation.

    Where it is 0 it is not known: of a single grade, or a posterior that is 1 but for rounding.
    """
    schema = {"completion_id": pl.String, "prompt_id": pl.String}
    parts = [pl.DataFrame(schema=schema | dict.fromkeys(("weight", "mean", "var"), pl.Float64))]
    for graded, posterior in fitted:
        mean = posterior @ graded.grades
        var = posterior @ graded.grades**2 - mean**2
        parts.append(
            graded.labels.items.with_columns(
                weight=pl.lit(graded.weight, pl.Float64),
                mean=pl.Series(mean, dtype=pl.Float64),
                var=pl.Series(np.maximum(var, 0), dtype=pl.Float64),
            )
        )
    weight = pl.col("weight")
    total = weight.sum()
    deviation = (weight.pow(2) * pl.col("var")).sum().sqrt() / total
    return Strengths(
        pl.concat(parts)
        .group_by("completion_id", "prompt_id", maintain_order=True)
        .agg(
            strength=((weight * pl.col("mean")).sum() / total).clip(0, 1),
            stderr=pl.when(deviation > 0).then(deviation),
        )
        .select(
            "completion_id",
            pl.lit(estimator).alias("estimator"),
            "prompt_id",
            "strength",
            "stderr",
        )
    )


def _averaged(rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row for each key: the mean over the criteria on which an annotator has a value."""
    key = ["subject_id", "subject", "score", "model", "request_id"]
    return (
        pl.concat(rows)
        .group_by(key, maintain_order=True)
        .agg(pl.col("value").mean(), pl.col("stderr").first())
        .select(*key[:4], "value", "stderr", "request_id")
    )
