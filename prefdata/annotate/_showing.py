"""Which completions are shown to an annotator, in which order, how often.

For n completions of a prompt there are n(n-1)/2 pairs, each shown in both orders unless told
otherwise: an annotator that likes the first place then gives opposite votes, which is measured
(`measure.position_bias`) and cancels in every aggregate. `max_pairs` keeps the most useful ones by
a cyclic design: the completions are put on a circle in an order drawn from the seed and their ids,
neighbours are compared first, then those two apart, and so on. Every completion is then compared
about equally often, and n-1 pairs already connect them all.

A list of completions is shown in an order drawn from the seed and their ids, and the other way
round: of each two, either is then the earlier one once.

Source: the two orders follow Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and Chatbot
Arena"; the cyclic design David 1963, "The method of paired comparisons".
"""

from typing import Literal

import polars as pl

from prefdata.errors import RecipeError
from prefdata.tables import SIDES, Completions, Pairs, Prompts, digest, with_sides

Orders = Literal["both", "random", "a_first"]


def shown(
    prompts: Prompts,
    completions: Completions,
    *,
    orders: Orders,
    draws: int,
    max_pairs: int | None,
    seed: int,
    stage: str,
    pairs: Pairs | None = None,
) -> pl.DataFrame:
    """One row for each vote to ask for, those with a common beginning together.

    If `pairs` are given, those are shown and no others.

    Columns: `prompt_id, completion_a, completion_b, draw, a_first`, and the texts in the order in
    which they are shown: `prompt, said_first, said_second`.
    """
    for option, value in (("draws", draws), ("max_pairs", max_pairs)):
        if value is not None and value < 1:
            raise RecipeError(f"{stage}: {option} = {value}; it is at least 1")
    design = _pairs(completions, max_pairs if pairs is None else None, seed)
    if pairs is not None:
        design = design.join(with_sides(pairs), on=SIDES, how="semi")
    rows = _ordered(design, orders, draws, seed)
    texts = completions.select("completion_id", "completion")
    first = texts.rename({"completion_id": "first", "completion": "said_first"})
    second = texts.rename({"completion_id": "second", "completion": "said_second"})
    return (
        rows.join(prompts.select("prompt_id", "prompt"), on="prompt_id")
        .join(first, on="first")
        .join(second, on="second")
        .sort("prompt_id", "first", "second", "draw")
        .drop("first", "second")
    )


def lists(completions: Completions, *, orders: Orders, draws: int, seed: int) -> pl.DataFrame:
    """One row for each list of all completions of a prompt, of at least two.

    Columns: `prompt_id, draw, forward` and `shown`, the ids in the order in which they are shown.
    """
    directions = (True, False) if orders == "both" else (True,)
    rows: list[tuple[str, int, bool, list[str]]] = []
    ids = completions.select("prompt_id", "completion_id").sort("prompt_id", "completion_id")
    for (prompt_id,), group in ids.group_by("prompt_id", maintain_order=True):
        for draw in range(draws):
            listed = group["completion_id"].to_list()
            if orders != "a_first":
                listed.sort(key=lambda each: digest("list", seed, draw, each))
            for forward in directions if len(listed) > 1 else ():
                rows.append((str(prompt_id), draw, forward, listed if forward else listed[::-1]))
    types = {"prompt_id": pl.String, "draw": pl.Int64, "forward": pl.Boolean}
    return pl.DataFrame(rows, {**types, "shown": pl.List(pl.String)}, orient="row")


def _pairs(completions: Completions, max_pairs: int | None, seed: int) -> pl.DataFrame:
    """The pairs of each prompt, smaller id first: all, or the first of the design."""
    ids = completions.select("prompt_id", "completion_id")
    if max_pairs is not None:
        place = [digest("pairwise", seed, each) for each in ids["completion_id"]]
        circle = pl.Series("place", place, pl.String)
        ids = ids.with_columns(circle).with_columns(
            pl.col("place").rank("ordinal").over("prompt_id").cast(pl.Int64),
            n=pl.len().over("prompt_id"),
        )
    pairs = ids.join(ids, on="prompt_id", suffix="_b").filter(
        pl.col("completion_id") < pl.col("completion_id_b")
    )
    if max_pairs is not None:
        step = (pl.col("place_b") - pl.col("place")) % pl.col("n")
        back = pl.col("n") - step
        start = pl.when(step <= back).then("place").otherwise("place_b")
        design = pl.struct(apart=pl.min_horizontal(step, back), start=start)
        pairs = pairs.filter(design.rank("ordinal").over("prompt_id") <= max_pairs)
    return pairs.select("prompt_id", completion_a="completion_id", completion_b="completion_id_b")


def _ordered(pairs: pl.DataFrame, orders: Orders, draws: int, seed: int) -> pl.DataFrame:
    """Each pair once for every draw and order, with the ids as `first` and `second` shown."""
    rows = pairs.join(pl.DataFrame({"draw": range(draws)}, {"draw": pl.Int64}), how="cross")
    if orders == "both":
        rows = rows.join(pl.DataFrame({"a_first": [True, False]}), how="cross")
    elif orders == "random":
        ids = rows.select("completion_a", "completion_b", "draw").rows()
        coins = [int(digest("order", seed, *each), 16) % 2 == 0 for each in ids]
        rows = rows.with_columns(pl.Series("a_first", coins, pl.Boolean))
    else:
        rows = rows.with_columns(a_first=pl.lit(True))
    a, b = pl.col("completion_a"), pl.col("completion_b")
    return rows.with_columns(
        first=pl.when("a_first").then(a).otherwise(b),
        second=pl.when("a_first").then(b).otherwise(a),
    )
