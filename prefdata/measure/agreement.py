"""How far annotators agree beyond chance: kappas, Gwet's AC1, Krippendorff's alpha, Kendall's tau.

Every coefficient is a function of sums over units, so that its interval is that of drawing groups
of prompts anew; the functions are in `_coefficients`, the draws in `_bootstrap`.
"""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from prefdata.aggregate._criteria import on_criteria
from prefdata.errors import RecipeError
from prefdata.measure._bootstrap import Statistic, intervals, stated
from prefdata.measure._coefficients import (
    OF_UNITS,
    cohen_kappa,
    distance_alpha,
    fleiss_kappa,
    gwet_ac1,
    kendall_tau,
    nominal_alpha,
)
from prefdata.measure._means import COLUMNS, two_names, with_groups
from prefdata.measure._orders import orders_of_rankings, orders_of_ratings
from prefdata.tables import Measures, Prompts, Rankings, Ratings, Votes

SCOPE = "all"

# (sums, number of parts, a statistic for each measure, the subjects with n) -> rows of measures;
# what is known of a subject may be `why` it has no sums.
Measured = Callable[[pl.DataFrame, int, Mapping[str, Statistic], pl.DataFrame], pl.DataFrame]

_TWO = ["annotator", "annotator_right"]
# Grades of a scale from 0 to 100; more values than that are numbers, and hardly one comes twice.
MOST_CLASSES = 101
_MANY = f"more than {MOST_CLASSES} classes"
_ALIKE = "undefined: there is one class only"
_ALONE = "only one annotator has labels"
_APART = "no unit has labels of two annotators"


def agreement(
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    rankings: Rankings | None = None,
    prompts: Prompts | None = None,
    *,
    criteria: Sequence[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Measures:
    """Measure the agreement of annotators on votes, ratings and rankings, whichever there are.

    A unit is two completions (of a vote) or one completion (of a rating) on one criterion. Labels
    are classes: of a vote its verdict (a, b or tie, from preference above, below or at 1/2), of a
    rating its value. Unscored rows have no label. With P the observed share of agreeing labels and
    E the share expected by chance, each coefficient is (P - E) / (1 - E), at most 1, 0 by chance:

    - `cohen_kappa_<table>`, subject "<annotator> & <annotator>" (an "&" of a name is doubled) for
      each two with a common unit: E from the two annotators' own shares of each class on their
      common units. n: common units.
    - `fleiss_kappa_<table>`, subject "all": P the mean over units with labels of two annotators or
      more of the share of agreeing pairs, E the sum of squares of the classes' mean shares. n:
      those units.
    - `gwet_ac1_<table>`, subject "all": P as in Fleiss', E the sum over the K observed classes of
      share (1 - share) / (K - 1), which stays small where nearly all labels are of one class, as
      kappa's does not. n: the same units.
    - `krippendorff_alpha_<table>`, subject "all", nominal: units count by their labels, E without
      replacement. n: the same units. For ratings also `krippendorff_alpha_interval_<table>`,
      where a disagreement counts by its square, and `krippendorff_alpha_ordinal_<table>`, by the
      square of the labels that lie between the two (draws take the places of the classes as given).

    Draws, and both orders of a judge, are separate labels: all coefficients but Cohen's pair them
    like labels of two annotators, so that a judge who contradicts itself lowers them. Cohen's
    kappa pairs labels of the same draw and order, each a unit of its own (a source gives what
    stands in one of its rows the same draw); where two annotators have other draws or orders of a
    unit, it pairs each label with each and weighs these pairs together as one unit.

    - `kendall_tau_<table>` of ratings and rankings, in [-1, 1]: tau-b, (C - D) / sqrt(N M), with C
      and D the pairs of completions of one prompt, over all prompts, that two annotators order
      alike and the other way round, N and M those that the one and the other does not tie. Without
      ties it is the mean of the prompts' taus, weighted by their pairs. An annotator's draws are
      one order: by the mean rating, or by the draws that rank the one before the other. Subjects
      are each two annotators with a common pair, and "all", where C, D, N and M are summed over
      these, N and M in either order. n: pairs of completions.

    With several criteria each also is a subject, "criterion:<name>", like "all".

    `stderr`, `low` and `high` are by drawing groups of prompts anew: bias-corrected, accelerated
    bootstrap intervals. A coefficient without a unit that two annotators labelled, or of a single
    class, where E is 1, is null and has a note that says so.

    Options:
    - `criteria`: the criteria that count; default all.
    - `draws`: how often groups of prompts are drawn.
    - `seed`: of the draws.

    Raises `RecipeError` for a criterion that no row is on, and for less than one draw.

    Source: Cohen (1960); Fleiss (1971), with Gwet's (2014) mean over unequal numbers of labels;
    Gwet (2008), Computing inter-rater reliability and its variance in the presence of high
    agreement; Krippendorff (2011), Computing Krippendorff's alpha-reliability; Kendall (1945), The
    treatment of ties in ranking problems; Efron (1987), Better bootstrap confidence intervals.
    """
    if draws < 1:
        raise RecipeError(f"measure.agreement: draws is {draws}; at least 1")

    def measured(
        sums: pl.DataFrame, n_parts: int, by_name: Mapping[str, Statistic], n: pl.DataFrame
    ) -> pl.DataFrame:
        found = intervals(sums, n_parts, by_name, draws=draws, seed=seed, kind="accelerated")
        made = stated(found, pl.col("statistic"), n, f"{draws} draws of prompt groups")
        alike = pl.when(pl.col("value").is_null()).then(pl.lit(_ALIKE)).otherwise("note")
        rest = n.join(found, on="subject", how="anti")
        names = pl.DataFrame({"measure": list(by_name)}, schema={"measure": pl.String})
        none = names.join(rest, how="cross").select("measure", "subject", "n", note="why")
        return pl.concat([made.with_columns(note=alike), none], how="diagonal_relaxed")

    made = [pl.DataFrame(schema=COLUMNS)]
    if votes is not None:
        key = ["completion_a", "completion_b", "criterion"]
        shown = pl.concat_str("draw", pl.col("a_first").cast(pl.String).fill_null("unknown"))
        scored = _scored(votes, "preference", criteria, prompts).with_columns(draw=shown)
        labels = _labels(scored, (pl.col("preference") - 0.5).sign(), key)
        made += [_cohen(labels, "votes", measured), _of_classes(labels, "votes", measured)]
    if ratings is not None:
        scored = _scored(ratings, "rating", criteria, prompts)
        labels = _labels(scored, pl.col("rating"), ["completion_id", "criterion"])
        made += [_cohen(labels, "ratings", measured), _of_classes(labels, "ratings", measured)]
        made += _of_distances(labels, "ratings", measured)
        made += [_kendall(orders_of_ratings(Ratings(scored)), scored, "ratings", measured)]
    if rankings is not None:
        scored = _scored(rankings, "ranking", criteria, prompts)
        made += [_kendall(orders_of_rankings(Rankings(scored)), scored, "rankings", measured)]
    return Measures(pl.concat(made).sort("measure", "subject"))


def _scored(
    frame: pl.DataFrame, column: str, criteria: Sequence[str] | None, prompts: Prompts | None
) -> pl.DataFrame:
    """The scored rows on the wanted criteria, with the number of their `group`."""
    grouped = with_groups(on_criteria(frame, criteria).drop_nulls(column), prompts)
    return grouped.with_columns(group=pl.col("group").rank("dense"))


def _labels(scored: pl.DataFrame, label: pl.Expr, key: list[str]) -> pl.DataFrame:
    """`unit, criterion, group, annotator, draw, label`, in an order of their own."""
    return (
        scored.with_columns(label=label)
        .sort(*key, "annotator", "draw", "label")
        .with_columns(unit=pl.struct(*key).rle_id())
        .with_columns(group=pl.col("group").min().over("unit"))
        .select("unit", "criterion", "group", "annotator", "draw", "label")
    )


def _cohen(labels: pl.DataFrame, table: str, measured: Measured) -> pl.DataFrame:
    """Cohen's kappa of each two annotators with a common unit."""
    unit = [*_TWO, "unit", "draw"]
    pairs = labels.join(labels.drop("group", "criterion"), on="unit").filter(
        pl.col("annotator") < pl.col("annotator_right")
    )
    together = pl.col("draw") == pl.col("draw_right")
    n_together = pl.col("draw").filter(together).n_unique()
    matched = pl.all_horizontal(pl.col("draw", "draw_right").n_unique() == n_together)
    pairs = pairs.with_columns(matched=matched.over([*_TWO, "unit"])).filter(
        together | ~pl.col("matched")
    )
    pairs = pairs.with_columns(draw=pl.when("matched").then("draw"))
    pairs = pairs.with_columns(x=1.0 / pl.len().over(unit))
    side = [*_TWO, "group", "label", "x"]
    given = pl.concat(
        [
            pairs.select(side).with_columns(side=pl.lit(0)),
            pairs.with_columns(label="label_right").select(side).with_columns(side=pl.lit(1)),
        ]
    ).with_columns(part=pl.col("label").rank("dense").over(_TWO).cast(pl.Int64) - 1)
    few = pl.col("part").max().over(_TWO) < MOST_CLASSES
    name = two_names(*_TWO).alias("subject")
    n = pairs.select(unit).unique().group_by(_TWO).agg(n=pl.len())
    given = given.filter(few)
    k = _many(given)
    same = pairs.filter(pl.col("label") == pl.col("label_right"))
    same = same.join(given.select(_TWO).unique(), on=_TWO, how="semi")
    parts = [
        given.select(*_TWO, "group", "x", part=pl.col("part") + k * pl.col("side")),
        same.select(*_TWO, "group", "x", part=pl.lit(2 * k, pl.Int64)),
    ]
    sums = pl.concat(parts).select(name, "group", "part", "x")
    n = n.select(name, "n", why=pl.lit(_MANY))
    return measured(sums, 2 * k + 1, {f"cohen_kappa_{table}": cohen_kappa}, n)


def _many(numbered: pl.DataFrame) -> int:
    """How many classes there are at most, from their numbers in `part`."""
    return int(numbered.select(pl.col("part").max() + 1).item() or 0)


def _subjects(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows under `subject` "all", and under their criterion where there are several."""
    subjects = [rows.with_columns(subject=pl.lit("all"))]
    if rows["criterion"].n_unique() > 1:
        one = pl.concat_str(pl.lit("criterion:"), pl.col("criterion"))
        subjects.append(rows.with_columns(subject=one))
    return pl.concat(subjects)


def _cells(labels: pl.DataFrame) -> pl.DataFrame:
    """The `n` labels of each class of each unit that two annotators labelled, `m` in all."""
    several = labels.filter(pl.col("annotator").n_unique().over("unit") > 1)
    key = ["subject", "group", "unit", "label"]
    return (
        _subjects(several)
        .group_by(key)
        .agg(n=pl.len().cast(pl.Float64))
        .with_columns(m=pl.col("n").sum().over("subject", "unit"))
        .sort(key)
    )


def _of_classes(labels: pl.DataFrame, table: str, measured: Measured) -> pl.DataFrame:
    """Fleiss' kappa, Gwet's AC1 and Krippendorff's nominal alpha."""
    n, m = pl.col("n"), pl.col("m")
    every = _cells(labels)
    cells = every.with_columns(
        part=pl.col("label").rank("dense").over("subject").cast(pl.Int64) - 1
    ).with_columns(others=pl.col("part").max().over("subject"))
    cells = cells.filter(pl.col("others") < MOST_CLASSES)
    k = _many(cells)
    units = cells.group_by("subject", "group", "unit", maintain_order=True).agg(
        same=(n * (n - 1) / (m * (m - 1))).sum(),
        others=pl.col("others").first().cast(pl.Float64),
        within=(m.first() ** 2 - (n**2).sum()) / (m.first() - 1),
    )
    columns = ["subject", "group", "part", "x"]
    sums = pl.concat(
        [
            cells.with_columns(x=n).select(columns),
            cells.with_columns(x=n / m, part=pl.col("part") + k).select(columns),
            *(
                units.with_columns(x=name, part=pl.lit(2 * k + at, pl.Int64)).select(columns)
                for at, name in enumerate(("same", "others", "within"))
            ),
        ]
    )
    by_name = {
        f"fleiss_kappa_{table}": fleiss_kappa,
        f"gwet_ac1_{table}": gwet_ac1,
        f"krippendorff_alpha_{table}": nominal_alpha,
    }
    return measured(sums, 2 * k + OF_UNITS, by_name, _counted(labels, every, "unit"))


def _of_distances(labels: pl.DataFrame, table: str, measured: Measured) -> list[pl.DataFrame]:
    """Krippendorff's alpha for squared differences of labels, and of their mean ranks."""
    n, m, y = pl.col("n"), pl.col("m"), pl.col("y")
    cells = _cells(labels)
    classes = cells.group_by("subject", "label").agg(of_class=n.sum()).sort("subject", "label")
    # The square of the labels in between is that of mean ranks.
    before = pl.col("of_class").cum_sum().over("subject") - pl.col("of_class") / 2
    share = before / pl.col("of_class").sum().over("subject")
    ranks = classes.select("subject", "label", rank=share)
    cells = cells.join(ranks, on=["subject", "label"], maintain_order="left")
    counted = _counted(labels, cells, "unit")
    made: list[pl.DataFrame] = []
    for metric, place in (("interval", pl.col("label")), ("ordinal", pl.col("rank"))):
        mean = (place * n).sum().over("subject") / n.sum().over("subject")
        units = (
            cells.with_columns(y=place - mean)
            .group_by("subject", "group", "unit", maintain_order=True)
            .agg(m=m.first(), first=(n * y).sum(), second=(n * y**2).sum())
            .with_columns(within=2 * (m * pl.col("second") - pl.col("first") ** 2) / (m - 1))
        )
        sums = pl.concat(
            units.select("subject", "group", part=pl.lit(at, pl.Int64), x=name)
            for at, name in enumerate(("m", "first", "second", "within"))
        )
        by_name = {f"krippendorff_alpha_{metric}_{table}": distance_alpha}
        made.append(measured(sums, 4, by_name, counted))
    return made


def _kendall(
    orders: pl.DataFrame, scored: pl.DataFrame, table: str, measured: Measured
) -> pl.DataFrame:
    """Tau-b of each two annotators, and of all at once."""
    key, x, y = ["criterion", "a", "b"], pl.col("verdict"), pl.col("verdict_right")
    met = (
        orders.join(orders.drop("group"), on=key)
        .filter(pl.col("annotator") < pl.col("annotator_right"))
        .with_columns(apart=x * y, one=x.abs(), other=y.abs(), pair=pl.struct(key))
    )
    either = (pl.col("one") + pl.col("other")) / 2
    two = met.with_columns(subject=two_names(*_TWO))
    every = _subjects(met.with_columns(one=either, other=either))
    columns = ["subject", "group", "apart", "one", "other"]
    rows = pl.concat([two.select(columns), every.select(columns)])
    by_group = rows.group_by("subject", "group").agg(pl.col("apart", "one", "other").sum())
    sums = pl.concat(
        by_group.select("subject", "group", part=pl.lit(at, pl.Int64), x=name)
        for at, name in enumerate(("apart", "one", "other"))
    )
    of_two = two.group_by("subject").agg(n=pl.len().cast(pl.Int64))
    n = pl.concat([of_two, _counted(scored, every, "pair")], how="diagonal")
    return measured(sums, 3, {f"kendall_tau_{table}": kendall_tau}, n)


def _counted(rows: pl.DataFrame, met: pl.DataFrame, unit: str) -> pl.DataFrame:
    """`subject, n, why` of all subjects of the rows: its units where annotators met."""
    n = met.group_by("subject").agg(n=pl.col(unit).n_unique().cast(pl.Int64))
    alone = pl.when(pl.col("alone")).then(pl.lit(_ALONE)).otherwise(pl.lit(_APART))
    return (
        _subjects(rows)
        .group_by("subject")
        .agg(alone=pl.col("annotator").n_unique() < 2)
        .join(n, on="subject", how="left")
        .select(
            "subject",
            n=pl.col("n").fill_null(0),
            why=pl.when(pl.col("n") > 0).then(pl.lit(_MANY)).otherwise(alone),
        )
    )
