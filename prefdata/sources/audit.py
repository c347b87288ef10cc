"""Which way is up: what an import took for better, whether its ratings and votes agree, and what
else of a source is told because it may not be meant: that it is empty, or repeats itself."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.errors import SourceError
from prefdata.finding import Finding
from prefdata.sources.kinds import PairSource, RankingSource, RatingSource, Scaled, VoteSource
from prefdata.sources.labels import FROM
from prefdata.sources.reshape import not_so
from prefdata.sources.rows import Part
from prefdata.sources.spec import SourceSpec
from prefdata.tables import schema


def audit(
    part: Part, specs: Sequence[SourceSpec], columns: Sequence[Mapping[str, str]]
) -> list[Finding]:
    """What each source of pairs, votes or ratings holds to be better, and how often it repeats.

    The sign of the difference of two completions' mean ratings is compared with every source of
    votes on them; ties on either side say nothing. Under one half is a `SourceError`, unless the
    source is `orientation = "trusted"`. `columns` are each source's, ours to the file's.
    """
    findings: list[Finding] = []
    for at, spec in enumerate(specs):
        if isinstance(spec, PairSource):
            findings.append(_of_pairs(part, at, spec, columns[at]))
        elif isinstance(spec, VoteSource):
            findings.append(_of_votes(part, at, spec))
        elif isinstance(spec, RatingSource):
            findings.append(_of_ratings(part, at, spec, columns[at]))
        elif isinstance(spec, RankingSource):
            findings.append(_of_rankings(part, at, spec, columns[at]))
    for at, spec in enumerate(specs):
        if isinstance(spec, Scaled) and spec.scale is not None:
            findings += _agreements(part, at, spec, specs, columns[at])
    return [*findings, *_repeats("votes", part.votes, specs), *_rated_again(part, specs)]


def empty(rows: Mapping[str, int]) -> list[Finding]:
    """The sources without a row, of the number of rows by source."""
    return [
        Finding("rows", "warning", "it has no row", part=name) for name, n in rows.items() if not n
    ]


def held(
    specs: Sequence[SourceSpec], quarantined: pl.DataFrame, rows: Mapping[str, int]
) -> list[Finding]:
    """How often what should hold of a source's rows did not; `SourceError` for more than half.

    Then columns are taken for what they are not, and leaving out the rows would hide it.
    """
    findings: list[Finding] = []
    for spec in specs:
        own = quarantined.filter(pl.col("source") == spec.name)
        for rule in spec.holds:
            lost = own.filter(pl.col("reason") == not_so(rule))["line"].n_unique()
            n = rows[spec.name]
            says = f"in {lost} of {n} rows it is not so that {rule}"
            if 2 * lost > n and spec.orientation != "trusted":
                raise SourceError(
                    f"{spec.where}: {says}, so a column is not what it is taken for. Correct "
                    'columns or values; if the file really is so, set orientation = "trusted"'
                )
            if lost:
                findings.append(Finding("holds", "warning", says, n=lost, of=n, part=spec.name))
    return findings


def _rated_again(part: Part, specs: Sequence[SourceSpec]) -> list[Finding]:
    """Repeats of ratings. Those of a side that stands in several pairs were given once."""
    own = [at for at, spec in enumerate(specs) if isinstance(spec, RatingSource)]
    return _repeats("ratings", part.ratings.filter(pl.col("at").is_in(own)), specs)


def _repeats(name: str, rows: pl.DataFrame, specs: Sequence[SourceSpec]) -> list[Finding]:
    """Labels of one annotator on the same, where no draw tells them apart."""
    key = [column for column in schema(name).key if column != "draw"]
    value = {"votes": "preference", "ratings": "rating"}[name]
    again = (
        rows.filter(pl.col("draw").is_null())
        .sort(FROM)
        .with_columns(
            number=pl.int_range(pl.len()).over(key),
            same=pl.col(value).eq_missing(pl.col(value).first().over(key)),
            of=pl.col("line").first().over(key),
            of_at=pl.col("at").first().over(key),
        )
        .filter(pl.col("number") > 0)
    )
    findings: list[Finding] = []
    for (at,), found in again.group_by("at", maintain_order=True):
        one = found.row(0, named=True)
        before = f" of {specs[one['of_at']].name}" if one["of_at"] != at else ""
        says = (
            f"{found.height} {name} are of an annotator who has judged the same already, "
            f"{found['same'].sum()} saying the same again; without a draw each counts as the "
            f"next, first line {one['line']} ({one['annotator']}, as in line {one['of']}{before})"
        )
        source = specs[int(str(at))].name
        findings.append(Finding("repeats", "warning", says, n=found.height, part=source))
    return findings


def _orientation(spec: SourceSpec, says: str, n: int) -> Finding:
    return Finding("orientation", "ok", says, n=n, of=n, part=spec.name)


def _of_pairs(part: Part, at: int, spec: SourceSpec, columns: Mapping[str, str]) -> Finding:
    content = pl.element().struct.field("content").str.len_chars()
    lengths = part.completions.select(
        "completion_id", pl.col("completion").list.eval(content).list.sum()
    )
    votes = part.votes.filter(pl.col("at") == at)
    for side in ("a", "b"):
        named = lengths.rename({"completion_id": f"completion_{side}", "completion": side})
        votes = votes.join(named, on=f"completion_{side}")
    longer = (pl.col("a").cast(pl.Int64) - pl.col("b")).sign() * (pl.col("preference") - 0.5).sign()
    n, of = _agreeing(votes.select(longer.alias("sign"))["sign"])
    chosen, rejected = columns["chosen"], columns["rejected"]
    says = f"column {chosen!r} is preferred to column {rejected!r} in {votes.height} pairs"
    if of:
        says += f"; chosen is the longer one in {n / of:.0%} of the {of} of unequal length"
    return _orientation(spec, says, votes.height)


def _of_votes(part: Part, at: int, spec: VoteSource) -> Finding:
    votes = part.votes.filter(pl.col("at") == at)["preference"]
    ties = votes.eq(0.5).sum()
    says = (
        f"a preference of 1 is for completion_a, of 0 for completion_b: {votes.len()} votes, "
        f"{ties} ties, {votes.null_count()} unscored"
    )
    return _orientation(spec, says, votes.len())


def _of_ratings(part: Part, at: int, spec: RatingSource, columns: Mapping[str, str]) -> Finding:
    ratings = part.ratings.filter(pl.col("at") == at)["rating"]
    column = columns.get("rating", ", ".join(named.column for named in spec.unfolded()))
    low, high = spec.bounds
    best = high if spec.higher_is_better else low
    says = f"{best:g} on the scale from {low:g} to {high:g} is best in column {column!r}"
    mean = ratings.mean()
    if isinstance(mean, float):
        says += f"; the mean of {ratings.count()} ratings, 1 being best, is {mean:.2f}"
    return _orientation(spec, says, ratings.len())


def _of_rankings(part: Part, at: int, spec: RankingSource, columns: Mapping[str, str]) -> Finding:
    ranks = part.rankings.filter(pl.col("at") == at)["rank"]
    best = (
        f"{ranks.min()} is best, of ranks to {ranks.max()}" if len(ranks) else "the least is best"
    )
    says = f"{best}, in column {columns['rank']!r}: {len(ranks)} ranked completions"
    return _orientation(spec, says, len(ranks))


def _agreements(
    part: Part,
    at: int,
    spec: Scaled,
    specs: Sequence[SourceSpec],
    columns: Mapping[str, str],
) -> list[Finding]:
    """The agreement of one source's ratings with the votes of each source."""
    rated = part.ratings.filter(pl.col("at") == at).group_by("completion_id")
    means = rated.agg(pl.col("rating").mean().round(9))
    votes = part.votes
    for side in ("a", "b"):
        named = means.rename({"completion_id": f"completion_{side}", "rating": side})
        votes = votes.join(named, on=f"completion_{side}")
    sign = (pl.col("a") - pl.col("b")).sign() * (pl.col("preference") - 0.5).sign()
    findings: list[Finding] = []
    for other, voted in enumerate(specs):
        of_other = votes.filter(pl.col("at") == other)
        n, of = _agreeing(of_other.select(sign.alias("sign"))["sign"])
        if not of:
            continue
        says = f"its ratings agree with the labels of {voted.name!r} in {n / of:.0%} of {of} pairs"
        findings.append(Finding("agreement", "ok", says, n=n, of=of, part=spec.name))
        if 2 * n < of and "trusted" not in (spec.orientation, voted.orientation):
            raise SourceError(_contradiction(spec, voted, says, columns))
    return findings


def _agreeing(signs: pl.Series) -> tuple[int, int]:
    """How many signs are positive, of those that say something."""
    told = signs.filter(signs != 0)
    return int((told > 0).sum()), len(told)


def _contradiction(spec: Scaled, voted: SourceSpec, says: str, columns: Mapping[str, str]) -> str:
    names = [columns[n] for n in ("rating", "rating_chosen", "rating_rejected") if n in columns]
    if isinstance(spec, RatingSource):
        names += [named.column for named in spec.unfolded()]
    column = " and ".join(repr(name) for name in names)
    up = "highest" if spec.higher_is_better else "lowest"
    return (
        f"{spec.where}: {says}, so one of them is upside down. The {up} value of column {column} "
        f"was taken as the best. Set higher_is_better = {str(not spec.higher_is_better).lower()} "
        f"here, or correct the columns or values of {voted.where}. If they really disagree, set "
        'orientation = "trusted"'
    )
