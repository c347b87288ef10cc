"""How often annotators agree with gold votes, and whether one of two is better.

Gold is an annotator whose votes are taken as right: people, a check, a planted truth. For each
annotator, over the comparisons that it and gold decided on,

    gold_accuracy = mean of  P(it prefers the side that gold prefers)

so a tie counts one half and a coin has 0.5. Two annotators are compared on the comparisons that
both voted on: by the mean difference of the same numbers, and by McNemar's exact test on those
where just one of them is right,

    p = min(1, 2 P(X <= min(b, c))),   X binomial of b + c tosses of a fair coin

with b where only the first is right, and c where only the second is.

Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions";
Zeng et al. 2023, "Evaluating Large Language Models at Evaluating Instruction Following" (LLMBar),
for judges against gold.
"""

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl
from scipy import special

from prefdata.measure._means import means, side, two_names, unheard, with_groups
from prefdata.tables import Measures, Prompts, Votes

SCOPE = "all"
SPECIAL: Any = special

_UNIT = ["completion_a", "completion_b", "criterion"]


def gold(
    votes: Votes,
    prompts: Prompts | None = None,
    *,
    annotator: str,
    judges: Sequence[str] | None = None,
    unscored: Literal["left_out", "wrong"] = "left_out",
) -> Measures:
    """Measure annotators against the votes of one that is right.

    - `gold_accuracy`, subject the annotator: the mean over comparisons of its preference for
      gold's side, in [0, 1]. A comparison is on two completions and one criterion; it counts once,
      by the mean of the annotator's votes on it (orders and draws). Gold ties are left out.
    - `gold_verdict_accuracy`: the share of all comparisons that gold voted on, ties too, with
      gold's verdict (a, b or tie, of the mean preference); in [0, 1].
    - `gold_both_orders`: of the comparisons voted on in both orders, the share on gold's side in
      every vote; in [0, 1]. Gold ties are left out.
    - `gold_accuracy_difference`, subject "<one> & <other>" (an "&" of a name is doubled): the mean
      difference of their preferences for gold's side on common comparisons, in [-1, 1]; above 0 the
      first is better.
    - `gold_mcnemar`, same subjects: the p-value of McNemar's exact test that both are right
      equally often; in [0, 1]. Right is a mean preference for gold's side above 1/2. `n`:
      the comparisons that just one has right; the note says how many each. It takes comparisons
      as independent; where prompts repeat, trust the interval of the difference.

    `stderr`, `low` and `high` are those of means over groups of prompts. An annotator without a
    comparison in common with gold has no row. Where gold, or one of `judges`, has no vote at all,
    `gold_accuracy` is null and the note says whose votes are missing.

    Options:
    - `annotator`: whose votes are gold.
    - `judges`: the annotators to measure; default all others.
    - `unscored`: what an unscored vote is: left out, or wrong (as benchmarks count it), which
      makes a judge that often fails no better than it is of use.
    """
    there = votes["annotator"].unique().sort().to_list()
    named = [name for name in there if name != annotator] if judges is None else list(judges)
    right = (
        votes.filter(pl.col("annotator") == annotator)
        .drop_nulls("preference")
        .group_by(_UNIT)
        .agg(side=side(pl.col("preference")))
    )
    others = votes.filter(pl.col("annotator").is_in(named), pl.col("annotator") != annotator)
    units = _against(with_groups(others, prompts).join(right, on=_UNIT), unscored)
    decided = units.filter(pl.col("side") != 0)
    made = [
        unheard(["gold_accuracy"], votes, judges, gold=annotator),
        means(decided, "hit", "gold_accuracy"),
        means(units, "same", "gold_verdict_accuracy"),
        means(decided.filter("both"), "every", "gold_both_orders"),
        *_paired(decided),
    ]
    return Measures(pl.concat(made).sort("measure", "subject"))


def _against(votes: pl.DataFrame, unscored: str) -> pl.DataFrame:
    """Each annotator's comparisons: `hit` on gold's side, `same` verdict, `every` vote a hit."""
    toward = pl.when(pl.col("side") >= 0).then("preference").otherwise(1 - pl.col("preference"))
    verdict = (pl.col("preference") - 0.5).sign()
    if unscored == "wrong":
        toward, verdict = toward.fill_null(0.0), verdict.fill_null(2.0)
    orders = pl.col("a_first").filter(pl.col("hit").is_not_null()).drop_nulls().n_unique()
    hit, lost = pl.col("hit").sort().mean(), (pl.col("verdict") == 2).any()
    return (
        votes.with_columns(hit=toward, verdict=verdict)
        .filter(pl.col("hit").is_not_null())
        .rename({"annotator": "subject"})
        .group_by("subject", *_UNIT)
        .agg(
            pl.col("group").first(),
            pl.col("side").first(),
            hit=hit,
            mean=side(pl.col("preference")),
            every=(pl.col("hit") > 0.5).all().cast(pl.Float64),
            both=orders > 1,
            lost=lost,
        )
        .with_columns(
            same=pl.when("lost").then(0.0).otherwise((pl.col("mean") == pl.col("side")).cast(float))
        )
    )


def _paired(units: pl.DataFrame) -> list[pl.DataFrame]:
    """The difference of every two annotators on common comparisons, and McNemar's test of it."""
    one = units.select(*_UNIT, "subject", "group", "hit")
    both = one.join(one, on=_UNIT, suffix="_other").filter(
        pl.col("subject") < pl.col("subject_other")
    )
    both = both.with_columns(
        subject=two_names("subject", "subject_other"),
        apart=pl.col("hit") - pl.col("hit_other"),
        first=(pl.col("hit") > 0.5) & (pl.col("hit_other") <= 0.5),
        second=(pl.col("hit") <= 0.5) & (pl.col("hit_other") > 0.5),
    )
    counted = both.group_by("subject").agg(
        b=pl.col("first").sum().cast(pl.Int64), c=pl.col("second").sum().cast(pl.Int64)
    )
    p = mcnemar(counted["b"], counted["c"])
    said = pl.format("right where the other is not: {} and {}", "b", "c")
    tests = counted.select(
        pl.lit("gold_mcnemar").alias("measure"),
        "subject",
        value=p,
        stderr=pl.lit(None, pl.Float64),
        low=pl.lit(None, pl.Float64),
        high=pl.lit(None, pl.Float64),
        note=said,
        n=pl.col("b") + pl.col("c"),
    )
    return [means(both, "apart", "gold_accuracy_difference", low=-1), tests]


def mcnemar(b: pl.Series, c: pl.Series) -> pl.Series:
    """Two-sided exact p-values of b against c discordant comparisons."""
    one, other = b.cast(pl.Float64).to_numpy(), c.cast(pl.Float64).to_numpy()
    total = one + other
    lesser = (total - abs(one - other)) / 2
    tail = SPECIAL.bdtr(lesser, total.astype(int), 0.5)
    return pl.Series((2 * tail).clip(max=1.0), dtype=pl.Float64)
