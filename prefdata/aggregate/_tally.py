"""Votes counted for each two completions, and what aggregates of them have in common."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata.aggregate._criteria import weigh
from prefdata.aggregate._graph import Floats
from prefdata.errors import TableError
from prefdata.tables import SIDES, Completions, Scores, Strengths, Votes, pair_ids


def coded(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The columns of names, with a code for each, which are sorted and grouped many times faster.

    Codes are numbers in the order of the names, common to the columns.
    """
    names = pl.concat([frame[column].unique() for column in columns]).unique().sort()
    return frame.with_columns(pl.col(columns).cast(pl.Enum(names)))


def tally(
    votes: Votes,
    criteria: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    by: Sequence[str] = (),
) -> pl.DataFrame:
    """One row for each two compared completions: `wins` of a over b and `losses`, by weight.

    `by` names columns that each have rows of their own.

    A vote adds its preference to wins and the rest to losses, so a tie is half of each. Unscored
    votes are left out.
    """
    preference = pl.col("preference")
    scored = weigh(votes, criteria, weights).filter(preference.is_not_null())
    # Sorted before summing, so that the last bit does not depend on the order of the rows.
    return (
        coded(scored, *SIDES)
        .sort(*SIDES, *by, "preference", "weight")
        .group_by(*SIDES, *by, maintain_order=True)
        .agg(
            wins=(preference * pl.col("weight")).sum(),
            losses=((1 - preference) * pl.col("weight")).sum(),
        )
        .with_columns(pl.col(SIDES).cast(pl.String))
    )


def with_prompts(
    strengths: pl.DataFrame, votes: Votes, completions: Completions | None, estimator: str
) -> Strengths:
    """Strengths under their estimator's name and with the prompt of each completion.

    The prompt comes from the votes, and from `completions` where a completion has only votes
    against completions of other prompts.
    """
    own = votes.filter(pl.col("prompt_id").is_not_null())
    sources = [
        own.select(pl.col(side).alias("completion_id"), "prompt_id")
        for side in ("completion_a", "completion_b")
    ]
    if completions is not None:
        sources.append(completions.select("completion_id", "prompt_id"))
    known = pl.concat(sources).unique("completion_id", keep="first", maintain_order=True)
    made = strengths.join(known, on="completion_id", how="left", maintain_order="left")
    lost = made.filter(pl.col("prompt_id").is_null())["completion_id"].to_list()
    if lost:
        raise TableError(
            f"aggregate.{estimator}: the prompt of {len(lost)} completions is unknown, first "
            f"{lost[:3]}: their votes join different prompts; give the completions table too"
        )
    return Strengths(
        made.select(
            "completion_id",
            pl.lit(estimator).alias("estimator"),
            "prompt_id",
            "strength",
            pl.col("stderr").fill_nan(None),
        )
    )


def preferences(pairs: pl.DataFrame, estimator: str) -> Scores:
    """Scores `preference` of pairs: P(completion_a preferred) as `value`, with `stderr`.

    The subject is the aggregate pair; `model` names the estimator, so that several can stand
    beside each other.
    """
    return Scores(
        pairs.select(
            pair_ids(pairs["completion_a"], pairs["completion_b"]).alias("subject_id"),
            pl.lit("pair").alias("subject"),
            pl.lit("preference").alias("score"),
            pl.lit(estimator).alias("model"),
            "value",
            pl.col("stderr").fill_nan(None),
            pl.lit(None, pl.String).alias("request_id"),
        )
    )


def about(
    subject: str, ids: Sequence[str] | pl.Series, score: str, value: Floats, estimator: str
) -> pl.DataFrame:
    """Rows of the table of scores about annotators, completions or pairs, without errors."""
    frame = pl.DataFrame(
        {"subject_id": list(ids), "value": value},
        {"subject_id": pl.String, "value": pl.Float64},
    )
    return frame.select(
        "subject_id",
        pl.lit(subject).alias("subject"),
        pl.lit(score).alias("score"),
        pl.lit(estimator).alias("model"),
        "value",
        pl.lit(None, pl.Float64).alias("stderr"),
        pl.lit(None, pl.String).alias("request_id"),
    )


def shares(pairs: pl.DataFrame) -> pl.DataFrame:
    """The mean P(preferred) of each completion over those that it was compared with.

    One `stderr` that is not known leaves that of the mean unknown.
    """
    value, name = pl.col("value"), "completion_id"
    a = pairs.select(pl.col("completion_a").alias(name), value, "stderr")
    b = pairs.select(pl.col("completion_b").alias(name), (1 - value).alias("value"), "stderr")
    return (
        pl.concat([a, b])
        .sort("completion_id", "value", "stderr")
        .group_by("completion_id", maintain_order=True)
        .agg(
            strength=value.mean(),
            stderr=pl.when(pl.col("stderr").is_not_null().all()).then(
                pl.col("stderr").pow(2).sum().sqrt() / pl.len()
            ),
        )
    )
