"""Prompts of one split that stand in another: what is measured there was trained on."""

from itertools import combinations

import polars as pl

from prefdata.check import near
from prefdata.check.data import Data
from prefdata.check.finding import EXAMPLES, Finding, shown, skipped

LEAST = 0.8


def leakage(data: Data) -> Finding:
    """Rows outside `train` whose prompt, or whose group of prompts, is in another split too.

    An equal prompt or a parted group is an error; one that is at least 80 % the same (see `near`)
    is a warning. Rows of every split but the first of two are counted.
    """
    rows = data.rows.with_columns(prompt=pl.col("prompt_plain").fill_null(""))
    rows = rows.filter(pl.col("prompt") != "")
    splits = sorted(rows["split"].unique(), key=lambda name: (name != "train", name))
    if len(splits) < 2:
        return skipped("leakage", "there is one split only")
    same: dict[str, str] = {}
    alike: dict[str, str] = {}
    for first, second in combinations(splits, 2):
        seen, held = (rows.filter(pl.col("split") == name) for name in (first, second))
        parted = seen.drop_nulls("group").select("group").unique()
        for found in (
            held.join(seen.select("prompt").unique(), on="prompt", how="semi"),
            held.drop_nulls("group").join(parted, on="group", how="semi"),
        ):
            same |= dict(found.select("place", "prompt_text").iter_rows())
        one_side, other = (each["prompt"].unique().sort().to_list() for each in (seen, held))
        near_ones = {other[at] for _, at, _ in near.across(one_side, other, LEAST)}
        told = held.filter(pl.col("prompt").is_in(list(near_ones)))
        alike |= dict(told.select("place", "prompt_text").iter_rows())
    alike = {place: text for place, text in alike.items() if place not in same}
    of = rows.filter(pl.col("split") != splits[0]).height
    both = {**same, **alike}
    return Finding(
        "leakage",
        "error" if same else "warning" if alike else "ok",
        f"rows of {', '.join(splits[1:])} whose prompt is in an earlier split: {len(same):,} the "
        f"same or of a parted group, {len(alike):,} at least {LEAST:.0%} the same",
        "split by prompt group (splits.test = 0.1 does), near prompts in one group" if both else "",
        len(both),
        of,
        tuple({"place": p, "text": shown(t or "")} for p, t in list(both.items())[:EXAMPLES]),
        {"same": len(same), "near": len(alike)},
    )
