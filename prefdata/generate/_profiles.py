"""Of people who are described beforehand, one who prefers each of two completions."""

from collections.abc import Sequence

import polars as pl

from prefdata.generate._in_context import TOLD, Place, in_context, judged
from prefdata.judge import Judge
from prefdata.stage import Asks, Model
from prefdata.tables import SIDES, Completions, Prompts, digest

_FAULT = "no two profiles prefer different ones, in both orders"


def picked(
    rows: pl.DataFrame,
    profiles: Sequence[str],
    seeds: Prompts,
    completions: Completions,
    place: Place,
    judge: Judge,
    model: Model,
    reask: bool,
    seed: int,
) -> Asks[pl.DataFrame]:
    """The contexts (`TOLD`) of two completions: a profile for either, or a row that says why not.

    Which of several is taken is drawn from the seed, so that all profiles are met.
    """
    people = pl.DataFrame({"text": [" ".join(each.split()) for each in profiles]}).unique("text")
    two = rows.select("prompt_id", *SIDES).unique(SIDES)
    unknown = {"kind": pl.lit("profile"), "prefers_a": pl.lit(True)}
    none = {name: pl.lit(None, pl.String) for name in ("fault", "request_id")}
    asked = two.join(people, how="cross").with_columns(**unknown, **none).select(TOLD.keys())
    made = in_context(asked.sort(*SIDES, "text"), seeds, completions, place)
    verdicts = yield from judged(made, judge, model, reask)
    said = verdicts.select(new_a="completion_a", new_b="completion_b", said="preference")
    told = made.join(said, on=["new_a", "new_b"]).group_by(*SIDES, "text", "preference")
    for_a = pl.col("said") > 0.5
    clear = told.agg(
        sure=pl.col("said").is_not_null().all() & (for_a.all() | (pl.col("said") < 0.5).all()),
        # Whether the new a is the one that was a before.
        prefers_a=for_a.all() == (pl.col("preference").first() == 1),
    ).filter("sure")
    draw = [digest("profile", seed, *each) for each in clear.select(*SIDES, "text").rows()]
    one_each = (
        clear.with_columns(pl.Series("draw", draw, pl.String))
        .sort("draw")
        .unique([*SIDES, "prefers_a"], keep="first")
        .filter(pl.len().over(SIDES) == 2)
    )
    found = two.join(one_each.select(*SIDES, "prefers_a", "text"), on=SIDES, how="left")
    lost = pl.when(pl.col("text").is_null()).then(pl.lit(_FAULT))
    whole = found.with_columns(
        kind=pl.lit("profile"), fault=lost, request_id=pl.lit(None, pl.String)
    )
    return whole.select(TOLD.keys()).sort(*SIDES, "prefers_a")
