"""Means of rows that come in groups of prompts: their standard errors and 95 % intervals.

Rows of one group are not independent. With s_g the sum and m_g the number of the rows of group g,
of G groups and N rows,

    mean = sum s_g / N,   stderr^2 = G / (G - 1) sum (s_g - mean m_g)^2 / N^2

and the interval is Wilson's for a share of n = mean (1 - mean) / stderr^2 independent rows, with
the quantile of Student's t of G - 1 degrees of freedom. Where no two groups differ it is that of G
rows: a judge who never failed in ten groups may fail in the next one.

Source: Cochran 1977, "Sampling Techniques" (a ratio of sums over clusters); Wilson 1927; Korn and
Graubard 1998 for the number of independent rows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
from scipy import special

from prefdata.errors import nearest
from prefdata.measure._wilson import wilson
from prefdata.tables import Prompts

SPECIAL: Any = special

COLUMNS = {
    "measure": pl.String,
    "subject": pl.String,
    "value": pl.Float64,
    "stderr": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "note": pl.String,
    "n": pl.Int64,
}
ONE_GROUP = "one prompt group: no interval"
CONNECTED = "no votes connect it to"
ALIKE = "prompt groups do not differ: no interval"
# No log-odds is known as exactly as this: groups that are all alike show no error of it.
NO_ERROR = 1e-6


def with_groups(votes: pl.DataFrame, prompts: Prompts | None) -> pl.DataFrame:
    """The rows with `group`: their prompt's, else the prompt, else what they are about."""
    kinds = (("completion_a", "completion_b", "completion_id"), ("chosen_id", "rejected_id"))
    sides = next(
        (there for kind in kinds if (there := [n for n in kind if n in votes])), list[str]()
    )
    own = pl.coalesce(
        pl.concat_str(pl.lit("prompt "), "prompt_id"),
        pl.concat_str(pl.lit("sides "), *sides, separator=" "),
    )
    if prompts is None:
        return votes.with_columns(group=own)
    named = prompts.select("prompt_id", pl.concat_str(pl.lit("group "), "group").alias("group"))
    joined = votes.join(named, on="prompt_id", how="left", maintain_order="left")
    return joined.with_columns(group=pl.coalesce("group", own))


def means(
    frame: pl.DataFrame,
    column: str,
    measure: str,
    subjects: pl.DataFrame | None = None,
    *,
    low: float = 0.0,
    high: float = 1.0,
    note: str | None = None,
) -> pl.DataFrame:
    """Rows of `measures`: the mean of a column between `low` and `high` for each `subject`.

    `frame` has `subject`, `group` and the column. A subject of `subjects` without rows has a null.
    """
    scale = high - low
    by_group = (
        frame.select("subject", "group", x=(pl.col(column) - low) / scale)
        .filter(pl.col("x").is_not_null())
        .sort("subject", "group", "x")
        .group_by("subject", "group", maintain_order=True)
        .agg(s=pl.col("x").sum(), m=pl.len().cast(pl.Float64))
    )
    mean = pl.col("s").sum() / pl.col("m").sum()
    away = (pl.col("s") - mean * pl.col("m")).pow(2).sum() / pl.col("m").sum() ** 2
    groups = pl.len().cast(pl.Float64)
    found = by_group.group_by("subject", maintain_order=True).agg(
        mean=mean,
        variance=pl.when(groups > 1).then(away * groups / (groups - 1)),
        groups=groups,
        n=pl.col("m").sum().cast(pl.Int64),
    )
    if subjects is not None:
        found = subjects.select("subject").join(found, on="subject", how="left")
    found = found.with_columns(quantile=student(found["groups"]))
    u, spread, t = pl.col("mean"), pl.col("mean") * (1 - pl.col("mean")), pl.col("quantile")
    known = (pl.col("variance") > 1e-15) & (spread > 1e-15)
    n_free = pl.when(known).then(spread / pl.col("variance")).otherwise("groups")
    least, most = wilson(u, n_free, t)
    several = pl.col("groups") > 1
    return found.select(
        pl.lit(measure).alias("measure"),
        "subject",
        value=low + scale * u,
        stderr=scale * pl.col("variance").sqrt(),
        # Rounding must not part an end of the scale from the value that lies on it.
        low=pl.when(several).then(low + scale * pl.min_horizontal(least, u)),
        high=pl.when(several).then(low + scale * pl.max_horizontal(most, u)),
        note=pl.when(pl.col("groups") == 1).then(pl.lit(ONE_GROUP)).otherwise(pl.lit(note)),
        n=pl.col("n").fill_null(0),
    )


def unheard(
    measures: Sequence[str],
    votes: pl.DataFrame,
    judges: Sequence[str] | None,
    *,
    gold: str | None = None,
    said: str = "votes",
) -> pl.DataFrame:
    """Rows without a value, with the reason, of judges who cannot be measured.

    Because they, or gold, are not among those who voted; `judges` null: all but gold. A vote may be
    missing for a good reason, such as that a check dropped all, so this ends no build. `said` names
    what `votes` are.
    """
    there = votes["annotator"].unique().sort().to_list()
    asked = [name for name in there if name != gold] if judges is None else judges
    rows = [
        {"measure": measure, "subject": judge, "note": f"no {said} of {who!r}; {near}", "n": 0}
        for judge in asked
        for who in [judge if gold is None or gold in there else gold]
        if who not in there
        for near in [nearest(who, there)]
        for measure in measures
    ]
    return pl.DataFrame(rows, COLUMNS)


def unconnected(measure: str, subjects: Iterable[str], baseline: str) -> pl.DataFrame:
    """Rows without a value, with the reason, of what nothing compares with the baseline."""
    row = {"measure": measure, "note": f"{CONNECTED} {baseline}", "n": 0}
    return pl.DataFrame([{**row, "subject": subject} for subject in subjects], COLUMNS)


def two_names(one: str, other: str) -> pl.Expr:
    """The subject "<one> & <other>" of two named columns, from which both can be told again.

    An "&" of a name is doubled, so that the single one is between the two.
    """
    return pl.concat_str(pl.col(one, other).str.replace_all("&", "&&"), separator=" & ")


def student(groups: pl.Series) -> pl.Series:
    """The 97.5 % quantile of Student's t with one degree of freedom less than groups."""
    freedom = (groups - 1).cast(pl.Float64).to_numpy()
    return pl.Series(SPECIAL.stdtrit(freedom, 0.975), dtype=pl.Float64).fill_nan(None)


def side(preference: pl.Expr) -> pl.Expr:
    """1 for the side a, -1 for b, 0 for a tie, by the mean of preferences.

    Votes that cancel, as 0.3 0.3 0.7 0.7, may miss 1/2 in the last bit and are a tie all the same.
    """
    away = preference.sort().mean() - 0.5
    return pl.when(away.abs() < 1e-9).then(0.0).otherwise(away.sign())
