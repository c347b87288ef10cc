"""Which way is up: what an import took for better, whether its ratings and votes agree, and what
else of a source is told because it may not be meant: that it is empty, or repeats itself."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from prefdata.errors import SourceError
from prefdata.finding import Finding
from prefdata.sources.kinds import PairSource, RankingSource, RatingSource, Scaled, VoteSource
from prefdata.sources.labels import FROM
from prefdata.sources.reshape import not_so
from prefdata.sources.rows import Part
from prefdata.sources.spec import SourceSpec
from prefdata.tables import schema


@dataclass
class Tally:
    """What `findings` rests on, counted; those of parts that share no prompt are summed.

    `counts` are by what is counted, the number of its source and what else tells them apart;
    `ranks` the least and greatest rank of a source, `firsts` its first repeat of a table.
    """

    counts: Counter[tuple[str | int, ...]] = field(default_factory=Counter[tuple[str | int, ...]])
    ranks: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    firsts: dict[tuple[str, int], dict[str, Any]] = field(
        default_factory=dict[tuple[str, int], dict[str, Any]]
    )

    def add(self, other: "Tally") -> None:
        self.counts.update(other.counts)
        for at, (low, high) in other.ranks.items():
            least, most = self.ranks.get(at, (low, high))
            self.ranks[at] = min(low, least), max(high, most)
        for key, first in other.firsts.items():
            known = self.firsts.get(key, first)
            self.firsts[key] = min(known, first, key=lambda each: each["line"])


def tally(part: Part, specs: Sequence[SourceSpec]) -> Tally:
    """Count what the audit tells of a part in which every prompt is whole."""
    made = Tally()
    for at, spec in enumerate(specs):
        if isinstance(spec, PairSource):
            _count_pairs(made, part, at)
        elif isinstance(spec, VoteSource):
            votes = part.votes.filter(pl.col("at") == at)["preference"]
            made.counts["votes", at] += votes.len()
            made.counts["ties", at] += int(votes.eq(0.5).sum())
            made.counts["unscored", at] += votes.null_count()
        elif isinstance(spec, RatingSource):
            ratings = part.ratings.filter(pl.col("at") == at)["rating"]
            made.counts["ratings", at] += ratings.len()
            made.counts["rated", at] += ratings.count()
            made.counts["rating", at] += float(ratings.sum())  # pyright: ignore[reportArgumentType]
        elif isinstance(spec, RankingSource):
            ranks = part.rankings.filter(pl.col("at") == at)["rank"]
            made.counts["ranks", at] += ranks.len()
            if ranks.len():
                made.ranks[at] = int(ranks.min()), int(ranks.max())  # pyright: ignore
        if isinstance(spec, Scaled) and spec.scale is not None:
            _count_agreements(made, part, at, specs)
    _count_repeats(made, "votes", part.votes)
    # Those of a side that stands in several pairs were given once.
    own = [at for at, spec in enumerate(specs) if isinstance(spec, RatingSource)]
    _count_repeats(made, "ratings", part.ratings.filter(pl.col("at").is_in(own)))
    return made


def findings(
    told: Tally, specs: Sequence[SourceSpec], columns: Sequence[Mapping[str, str]]
) -> list[Finding]:
    """What each source of pairs, votes or ratings holds to be better, and how often it repeats.

    The sign of the difference of two completions' mean ratings is compared with every source of
    votes on them; ties on either side say nothing. Under one half is a `SourceError`, unless the
    source is `orientation = "trusted"`. `columns` are each source's, ours to the file's.
    """
    found: list[Finding] = []
    for at, spec in enumerate(specs):
        if isinstance(spec, PairSource):
            found.append(_of_pairs(told, at, spec, columns[at]))
        elif isinstance(spec, VoteSource):
            found.append(_of_votes(told, at, spec))
        elif isinstance(spec, RatingSource):
            found.append(_of_ratings(told, at, spec, columns[at]))
        elif isinstance(spec, RankingSource):
            found.append(_of_rankings(told, at, spec, columns[at]))
    for at, spec in enumerate(specs):
        if isinstance(spec, Scaled) and spec.scale is not None:
            found += _agreements(told, at, spec, specs, columns[at])
    return [*found, *_repeats("votes", told, specs), *_repeats("ratings", told, specs)]


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


def _count_repeats(made: Tally, name: str, rows: pl.DataFrame) -> None:
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
    for (number,), found in again.group_by("at", maintain_order=True):
        at = int(str(number))
        made.counts[f"{name} again", at] += found.height
        made.counts[f"{name} the same", at] += int(found["same"].sum())
        made.firsts[name, at] = found.row(0, named=True)


def _repeats(name: str, told: Tally, specs: Sequence[SourceSpec]) -> list[Finding]:
    made: list[Finding] = []
    for (table, at), one in sorted(told.firsts.items(), key=lambda each: each[0]):
        if table != name:
            continue
        n, same = told.counts[f"{name} again", at], told.counts[f"{name} the same", at]
        before = f" of {specs[one['of_at']].name}" if one["of_at"] != at else ""
        says = (
            f"{n} {name} are of an annotator who has judged the same already, "
            f"{same} saying the same again; without a draw each counts as the "
            f"next, first line {one['line']} ({one['annotator']}, as in line {one['of']}{before})"
        )
        made.append(Finding("repeats", "warning", says, n=n, part=specs[at].name))
    return made


def _orientation(spec: SourceSpec, says: str, n: int) -> Finding:
    return Finding("orientation", "ok", says, n=n, of=n, part=spec.name)


def _count_pairs(made: Tally, part: Part, at: int) -> None:
    content = pl.element().struct.field("content").str.len_chars()
    lengths = part.completions.select(
        "completion_id", pl.col("completion").list.eval(content).list.sum()
    )
    votes = part.votes.filter(pl.col("at") == at)
    for side in ("a", "b"):
        named = lengths.rename({"completion_id": f"completion_{side}", "completion": side})
        votes = votes.join(named, on=f"completion_{side}")
    longer = (pl.col("a").cast(pl.Int64) - pl.col("b")).sign() * (pl.col("preference") - 0.5).sign()
    made.counts["pairs", at] += votes.height
    _count_signs(made, votes.select(longer.alias("sign"))["sign"], "longer", at)


def _count_signs(made: Tally, signs: pl.Series, *what: str | int) -> None:
    made.counts[(*what, "told")] += int((signs != 0).sum())
    made.counts[(*what, "so")] += int((signs > 0).sum())


def _agreeing(told: Tally, *what: str | int) -> tuple[int, int]:
    """How many of how many signs are positive."""
    return told.counts[(*what, "so")], told.counts[(*what, "told")]


def _of_pairs(told: Tally, at: int, spec: PairSource, columns: Mapping[str, str]) -> Finding:
    n_votes = told.counts["pairs", at]
    n, of = _agreeing(told, "longer", at)
    chosen, rejected = columns["chosen"], columns["rejected"]
    says = f"column {chosen!r} is preferred to column {rejected!r} in {n_votes} pairs"
    if of:
        says += f"; chosen is the longer one in {n / of:.0%} of the {of} of unequal length"
    return _orientation(spec, says, n_votes)


def _of_votes(told: Tally, at: int, spec: VoteSource) -> Finding:
    n, ties, unscored = (told.counts[what, at] for what in ("votes", "ties", "unscored"))
    says = (
        f"a preference of 1 is for completion_a, of 0 for completion_b: {n} votes, "
        f"{ties} ties, {unscored} unscored"
    )
    return _orientation(spec, says, n)


def _of_ratings(told: Tally, at: int, spec: RatingSource, columns: Mapping[str, str]) -> Finding:
    n, rated = told.counts["ratings", at], told.counts["rated", at]
    column = columns.get("rating", ", ".join(named.column for named in spec.unfolded()))
    low, high = spec.bounds
    best = high if spec.higher_is_better else low
    says = f"{best:g} on the scale from {low:g} to {high:g} is best in column {column!r}"
    if rated:
        mean = told.counts["rating", at] / rated
        says += f"; the mean of {rated} ratings, 1 being best, is {mean:.2f}"
    return _orientation(spec, says, n)


def _of_rankings(told: Tally, at: int, spec: RankingSource, columns: Mapping[str, str]) -> Finding:
    n = told.counts["ranks", at]
    least, most = told.ranks.get(at, (0, 0))
    best = f"{least} is best, of ranks to {most}" if n else "the least is best"
    says = f"{best}, in column {columns['rank']!r}: {n} ranked completions"
    return _orientation(spec, says, n)


def _count_agreements(made: Tally, part: Part, at: int, specs: Sequence[SourceSpec]) -> None:
    """The agreement of one source's ratings with the votes of each source."""
    rated = part.ratings.filter(pl.col("at") == at).group_by("completion_id")
    means = rated.agg(pl.col("rating").mean().round(9))
    votes = part.votes
    for side in ("a", "b"):
        named = means.rename({"completion_id": f"completion_{side}", "rating": side})
        votes = votes.join(named, on=f"completion_{side}")
    sign = (pl.col("a") - pl.col("b")).sign() * (pl.col("preference") - 0.5).sign()
    for other in range(len(specs)):
        of_other = votes.filter(pl.col("at") == other)
        _count_signs(made, of_other.select(sign.alias("sign"))["sign"], "agrees", at, other)


def _agreements(
    told: Tally,
    at: int,
    spec: Scaled,
    specs: Sequence[SourceSpec],
    columns: Mapping[str, str],
) -> list[Finding]:
    made: list[Finding] = []
    for other, voted in enumerate(specs):
        n, of = _agreeing(told, "agrees", at, other)
        if not of:
            continue
        says = f"its ratings agree with the labels of {voted.name!r} in {n / of:.0%} of {of} pairs"
        made.append(Finding("agreement", "ok", says, n=n, of=of, part=spec.name))
        if 2 * n < of and "trusted" not in (spec.orientation, voted.orientation):
            raise SourceError(_contradiction(spec, voted, says, columns))
    return made


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
