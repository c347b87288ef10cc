"""The flip rate of each pair, for stages that make labels or weights of it."""

from typing import NamedTuple

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.estimate._about_labels import read
from prefdata.tables import Measures, Pairs, Scores


class Rates(NamedTuple):
    """`of`: what they come from; `by_pair`: `pair_id, rate`, null where it is not known; `low` and
    `high`: the interval of the one rate of all, where that was measured."""

    of: str
    by_pair: pl.DataFrame
    low: float | None = None
    high: float | None = None


def rates(
    pairs: Pairs,
    scores: Scores | None,
    measures: Measures | None,
    *,
    rate: float | None,
    of: str | None,
    score: str | None,
    where: str,
) -> Rates:
    """One number for all, the measure `flip_rate` of a subject, or a score of each pair.

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
        found = known.select("pair_id", rate="p_flipped")
        return Rates(
            f"score {score}", pairs.select("pair_id").join(found, on="pair_id", how="left")
        )
    one = (rate, None, None) if rate is not None else _measured(measures, str(of), where)
    value, low, high = one
    if value is not None and not 0 <= value < 0.5:
        raise RecipeError(f"{where}: a flip rate is in [0, 1/2), found {value}")
    name = f"rate {rate:g}" if rate is not None else f"flip_rate {of}"
    return Rates(name, pairs.select("pair_id", rate=pl.lit(value, pl.Float64)), low, high)


def noted(measures: Measures | None, rates: Rates, *, where: str) -> Measures:
    """`measures` with `label_smoothing` of the stage, the mean of the rates that it used."""
    each = rates.by_pair["rate"]
    known = each.drop_nulls()
    least, most = known.min(), known.max()
    notes = [f"by {rates.of}"]
    if least != most:
        notes.append(f"{least:.3g} to {most:.3g} by pair")
    if each.null_count():
        notes.append(f"{each.null_count()} pairs without a rate")
    row = {
        "measure": "label_smoothing",
        "subject": where,
        "value": known.mean(),
        "low": rates.low,
        "high": rates.high,
        "n": known.len(),
        "note": "; ".join(notes),
    }
    made = pl.DataFrame([row], schema=tables.schema("measures").dtypes)
    if measures is None:
        return Measures(made)
    kept = measures.join(made, on=["measure", "subject"], how="anti")
    return Measures(pl.concat([kept.select(made.columns), made]))


Measured = tuple[float | None, float | None, float | None]


def _measured(measures: Measures | None, subject: str, where: str) -> Measured:
    """A measured rate and its interval."""
    if measures is None:
        raise RecipeError(f"{where}: of = {subject!r}, but no stage before measured flip_rate")
    rows = measures.filter(pl.col("measure") == "flip_rate")
    if rows.is_empty():
        return None, None, None
    row = rows.filter(pl.col("subject") == subject)
    if row.is_empty():
        there = rows["subject"].to_list()
        raise RecipeError(f"{where}: no flip_rate of {subject!r}; {nearest(subject, there)}")
    return row.select("value", "low", "high").row(0)
