"""The flip rate of each pair, for stages that make labels or weights of it."""

import polars as pl

from prefdata.errors import RecipeError, nearest
from prefdata.estimate._about_labels import read
from prefdata.tables import Measures, Pairs, Scores


def rates(
    pairs: Pairs,
    scores: Scores | None,
    measures: Measures | None,
    *,
    rate: float | None,
    of: str | None,
    score: str | None,
    where: str,
) -> pl.DataFrame:
    """`pair_id, rate`: one number for all, the measure `flip_rate` of a subject, or a score's.

    A pair without the score has no rate, and no pair has one where the measure is null: it was
    not identifiable. Raises `RecipeError` unless exactly one is given, for a
    rate outside [0, 1/2), and for a measure or score that is not there.
    """
    if sum(each is not None for each in (rate, of, score)) != 1:
        raise RecipeError(
            f"{where}: give one of rate (a number), of (a subject of the measure flip_rate) or "
            "score (of each pair)"
        )
    if score is not None:
        if scores is None:
            raise RecipeError(f"{where}: score = {score!r}, but no stage before made scores")
        own = scores.filter(pl.col("subject_id").is_in(pairs["pair_id"].implode()))
        known = read(own, score, where=where)
        if known["p_flipped"].null_count():
            raise RecipeError(
                f"{where}: the score {score!r} is a difference, not the probability of a flip; "
                "use label_error or mc_dropout"
            )
        return pairs.select("pair_id").join(
            known.select("pair_id", rate="p_flipped"), on="pair_id", how="left"
        )
    found = rate if rate is not None else _measured(measures, str(of), where)
    if found is not None and not 0 <= found < 0.5:
        raise RecipeError(f"{where}: a flip rate is in [0, 1/2), found {found}")
    return pairs.select("pair_id", rate=pl.lit(found, pl.Float64))


def _measured(measures: Measures | None, subject: str, where: str) -> float | None:
    if measures is None:
        raise RecipeError(f"{where}: of = {subject!r}, but no stage before measured flip_rate")
    rows = measures.filter(pl.col("measure") == "flip_rate")
    if rows.is_empty():
        return None
    row = rows.filter(pl.col("subject") == subject)
    if row.is_empty():
        there = rows["subject"].to_list()
        raise RecipeError(f"{where}: no flip_rate of {subject!r}; {nearest(subject, there)}")
    return row["value"][0]
