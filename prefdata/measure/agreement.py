"""How far annotators agree beyond chance: kappas, Gwet's AC1, Krippendorff's alpha."""

from collections.abc import Sequence

import polars as pl

from prefdata.errors import RecipeError, nearest
from prefdata.tables import Measures, Ratings, Votes

SCOPE = "all"


def agreement(
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    *,
    criteria: Sequence[str] | None = None,
) -> Measures:
    """Measure the agreement of annotators on votes, on ratings, or on both.

    A unit is two completions (of a vote) or one completion (of a rating) on one criterion. Labels
    are classes: of a vote its verdict (a, b or tie, from preference above, below or at 1/2), of a
    rating its value. Unscored rows have no label. With P the observed share of agreeing labels and
    E the share expected by chance, each coefficient is (P - E) / (1 - E):

    - `cohen_kappa_<table>`, subject "<annotator> & <annotator>" for each two with a common unit:
      E from the two annotators' own shares of each class on their common units. n: common units.
    - `fleiss_kappa_<table>`, subject "all": P the mean over units with two labels or more of the
      share of agreeing pairs, E the sum of squares of the classes' mean shares. n: those units.
    - `gwet_ac1_<table>`, subject "all": P as in Fleiss', E the sum over the K observed classes of
      share (1 - share) / (K - 1), which stays small where nearly all labels are of one class, as
      kappa's does not. n: the same units.
    - `krippendorff_alpha_<table>`, subject "all", nominal: units count by their labels, E without
      replacement. n: units with two labels or more. For ratings also
      `krippendorff_alpha_interval_<table>`, where a disagreement counts by its square, and
      `krippendorff_alpha_ordinal_<table>`, by the square of the labels that lie between the two
      (its stderr takes the places of the classes as given).

    Draws, and both orders of a judge, are separate labels: all coefficients but Cohen's pair them
    like labels of two annotators, so that a judge who contradicts itself lowers them. Cohen's
    kappa pairs labels of the same draw and order, each a unit of its own (a source gives what
    stands in one of its rows the same draw); where two annotators have other draws or orders of a
    unit, it pairs each label with each and weighs these pairs together as one unit. With several
    criteria each also is a subject of all but Cohen's.

    A coefficient with no unit, or with a single class where E is 1, is undefined: null. `stderr`
    is by the linear part of the coefficient with units as independent draws (for Cohen's kappa
    that of Fleiss, Cohen and Everitt), null for a single unit.

    Options:
    - `criteria`: the criteria that count; default all.

    Raises `RecipeError` for a criterion that no row is on.

    Source: Cohen (1960); Fleiss (1971), with Gwet's (2014) mean over unequal numbers of labels;
    Gwet (2008), Computing inter-rater reliability and its variance in the presence of high
    agreement; Krippendorff (2011), Computing Krippendorff's alpha-reliability; Fleiss, Cohen and
    Everitt (1969) for the error.
    """
    made = [pl.DataFrame(schema=_COLUMNS)]
    if votes is not None:
        key = ["completion_a", "completion_b", "criterion"]
        shown = pl.concat_str("draw", pl.col("a_first").cast(pl.String).fill_null("unknown"))
        asked = Votes(votes.with_columns(draw=shown))
        labels = _labels(asked, (pl.col("preference") - 0.5).sign(), key, criteria)
        made += [_cohen(labels, "votes"), *_of_all(labels, "votes"), _alpha(labels, "votes")]
    if ratings is not None:
        labels = _labels(ratings, pl.col("rating"), ["completion_id", "criterion"], criteria)
        made += [_cohen(labels, "ratings"), *_of_all(labels, "ratings")]
        made += [_alpha(labels, "ratings", each) for each in ("nominal", "interval", "ordinal")]
    return Measures(pl.concat(made).sort("measure", "subject"))


_COLUMNS = {
    "measure": pl.String,
    "subject": pl.String,
    "value": pl.Float64,
    "stderr": pl.Float64,
    "n": pl.Int64,
}


def _labels(
    frame: pl.DataFrame, label: pl.Expr, key: list[str], criteria: Sequence[str] | None
) -> pl.DataFrame:
    """Scored rows as `unit, criterion, annotator, draw, label`, in an order of their own."""
    known = frame["criterion"].unique().to_list()
    for name in criteria or ():
        if known and name not in known:
            raise RecipeError(f"criterion {name!r} is on no row; {nearest(name, known)}")
    if criteria is not None:
        frame = frame.filter(pl.col("criterion").is_in(list(criteria)))
    scored = frame.with_columns(label=label).filter(pl.col("label").is_not_null())
    return (
        scored.sort(*key, "annotator", "draw", "label")
        .with_columns(unit=pl.struct(*key).rle_id())
        .select("unit", "criterion", "annotator", "draw", "label")
    )


def _cohen(labels: pl.DataFrame, table: str) -> pl.DataFrame:
    """Cohen's kappa of each two annotators with a common unit."""
    two = ["annotator", "annotator_right"]
    unit = [*two, "unit", "draw"]
    pairs = labels.join(labels, on="unit", maintain_order="left_right").filter(
        pl.col("annotator") < pl.col("annotator_right")
    )
    together = pl.col("draw") == pl.col("draw_right")
    n_together = pl.col("draw").filter(together).n_unique()
    matched = pl.all_horizontal(pl.col("draw", "draw_right").n_unique() == n_together)
    pairs = pairs.with_columns(matched=matched.over([*two, "unit"])).filter(
        together | ~pl.col("matched")
    )
    pairs = pairs.with_columns(draw=pl.when("matched").then("draw")).with_columns(
        weight=1.0 / pl.len().over(unit),
        same=(pl.col("label") == pl.col("label_right")).cast(pl.Float64),
    )
    # What a label adds to E is the share of its class among the other annotator's labels.
    of_left = _shares(pairs, "label", two).rename({"label": "label_right"})
    of_right = _shares(pairs, "label_right", two).rename({"label_right": "label"})
    units = (
        pairs.join(of_right, on=[*two, "label"], how="left")
        .join(of_left, on=[*two, "label_right"], how="left")
        .with_columns(pl.col("share", "share_right").fill_null(0))
        .sort(*unit, "same", "share", "share_right")
        .group_by(unit, maintain_order=True)
        .agg(same=pl.col("same").mean(), chance=(pl.col("share") + pl.col("share_right")).mean())
        .with_columns(subject=pl.concat_str(two, separator=" & "))
    )
    return _beyond_chance(units, f"cohen_kappa_{table}")


def _shares(pairs: pl.DataFrame, label: str, two: list[str]) -> pl.DataFrame:
    """The share of each class among one side's labels, for each two annotators."""
    counted = pairs.group_by([*two, label]).agg(share=pl.col("weight").sum())
    return counted.with_columns(pl.col("share") / pl.col("share").sum().over(two))


def _of_all(labels: pl.DataFrame, table: str) -> list[pl.DataFrame]:
    """Fleiss' kappa and Gwet's AC1 of all, and of each criterion where there are several."""
    n, m = pl.col("n"), pl.col("m")
    cells = _cells(labels).with_columns(part=n / m)
    share = pl.col("part").sum().over("subject", "label") / pl.col("part").sum().over("subject")
    others = pl.col("label").n_unique().over("subject") - 1
    units = (
        cells.with_columns(share=share, others=others)
        .group_by("subject", "unit", maintain_order=True)
        .agg(
            same=(n * (n - 1) / (m * (m - 1))).sum(),
            alike=(pl.col("share") * pl.col("part")).sum(),
            others=pl.when(pl.col("others").first() > 0).then(pl.col("others").first()),
        )
    )
    chances = {
        "fleiss_kappa": 2 * pl.col("alike"),
        "gwet_ac1": 2 * (1 - pl.col("alike")) / pl.col("others"),
    }
    return [
        _beyond_chance(units.with_columns(chance=chance), f"{name}_{table}")
        for name, chance in chances.items()
    ]


def _beyond_chance(units: pl.DataFrame, measure: str) -> pl.DataFrame:
    """(P - E) / (1 - E) of each subject, from the mean of its units.

    `same` is a unit's share of agreement, and `chance` the derivative of E by the unit's share of
    the data; E is of second degree in the shares of the classes, so that its mean is 2 E.
    """
    observed, expected = pl.col("same").mean(), pl.col("chance").mean() / 2
    kappa = (observed - expected) / (1 - expected)
    linear = (pl.col("same") - observed - (1 - kappa) * (pl.col("chance") - 2 * expected)) / (
        1 - expected
    )
    n, defined = pl.len(), 1 - expected > 1e-12
    error = (linear.pow(2).sum() / (n * (n - 1.0))).sqrt()
    return (
        units.group_by("subject")
        .agg(
            value=pl.when(defined).then(kappa),
            stderr=pl.when(defined & (n > 1)).then(error),
            n=n.cast(pl.Int64),
        )
        .select(pl.lit(measure).alias("measure"), "subject", "value", "stderr", "n")
    )


def _alpha(labels: pl.DataFrame, table: str, metric: str = "nominal") -> pl.DataFrame:
    """Krippendorff's alpha, 1 - (n - 1) A / B of n labels.

    A sums the disagreements within units, each unit's divided by its labels less one, and B sums
    those between all labels; `b` is the derivative of B by the unit's share of the data.
    """
    n, m, label = pl.col("n"), pl.col("m"), pl.col("label")
    total = n.sum().over("subject")
    cells = _cells(labels).with_columns(total=total, of_class=n.sum().over("subject", "label"))
    if metric == "ordinal":  # the square of the labels in between is that of mean ranks
        classes = cells.select("subject", "label", "of_class").unique().sort("subject", "label")
        before = pl.col("of_class").cum_sum().over("subject") - pl.col("of_class") / 2
        ranks = classes.select("subject", "label", rank=before)
        cells = cells.join(ranks, on=["subject", "label"], maintain_order="left")
        cells = cells.with_columns(label="rank")
    if metric != "nominal":
        away = label - (n * label).sum().over("subject") / total
        cells = cells.with_columns(away=away).with_columns(
            spread=(n * pl.col("away") ** 2).sum().over("subject")
        )
        first, second = (n * pl.col("away")).sum(), (n * pl.col("away") ** 2).sum()
        within = 2 * (m.first() * second - first**2)
        b = 2 * (m.first() * pl.col("spread").first() + pl.col("total").first() * second)
    else:
        within = m.first() ** 2 - (n**2).sum()
        b = 2 * (pl.col("total").first() * m.first() - (n * pl.col("of_class")).sum())
    units = cells.group_by("subject", "unit", maintain_order=True).agg(
        a=within / (m.first() - 1), b=b, m=m.first(), total=pl.col("total").first()
    )
    return _of_sums(
        units, f"krippendorff_alpha{'' if metric == 'nominal' else f'_{metric}'}_{table}"
    )


def _of_sums(units: pl.DataFrame, measure: str) -> pl.DataFrame:
    a, b, rest = pl.col("a").sum(), pl.col("b").sum() / 2, pl.col("total").first() - 1.0
    linear = -rest / b * pl.col("a") - a / b * pl.col("m") + rest * a / b**2 * pl.col("b")
    n, defined = pl.len(), b > 1e-12
    error = (((linear - linear.mean()) ** 2).sum() * n / (n - 1.0)).sqrt()
    return (
        units.group_by("subject")
        .agg(
            value=pl.when(defined).then(1 - rest * a / b),
            stderr=pl.when(defined & (n > 1)).then(error),
            n=n.cast(pl.Int64),
        )
        .select(pl.lit(measure).alias("measure"), "subject", "value", "stderr", "n")
    )


def _cells(labels: pl.DataFrame) -> pl.DataFrame:
    """How often each class was given to each unit with `m` >= 2 labels, for each subject."""
    subjects = [labels.with_columns(subject=pl.lit("all"))]
    if labels["criterion"].n_unique() > 1:
        one = pl.concat_str(pl.lit("criterion:"), pl.col("criterion"))
        subjects.append(labels.with_columns(subject=one))
    key = ["subject", "unit", "label"]
    return (
        pl.concat(subjects)
        .group_by(key)
        .agg(n=pl.len().cast(pl.Float64))
        .with_columns(m=pl.col("n").sum().over("subject", "unit"))
        .filter(pl.col("m") > 1)
        .sort(key)
    )
