"""Ask a judge which of two completions of a prompt is better.

For n completions of a prompt there are n(n-1)/2 pairs, each shown in both orders unless told
otherwise: a judge that likes the first place then gives opposite votes, which is measured
(`measure.position_bias`) and cancels in every aggregate. `max_pairs` keeps the most useful ones by
a cyclic design: the completions are put on a circle in an order drawn from the seed and their ids,
neighbours are compared first, then those two apart, and so on. Every completion is then compared
about equally often, and n-1 pairs already connect them all.
"""

from typing import Literal

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.judge import Judge, ask
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Prompts, Votes, digest

Orders = Literal["both", "random", "a_first"]


def pairwise(
    prompts: Prompts,
    completions: Completions,
    *,
    judge: Judge,
    model: Model,
    orders: Orders = "both",
    draws: int = 1,
    max_pairs: int | None = None,
    reask: bool = True,
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of `llm:<model>/<judge>` for each pair, order and draw.

    `preference` is P(completion_a preferred) in whichever order the two were shown. A reply
    without a well-formed verdict gives an unscored vote with the reason, and the reply as its
    rationale; a failed request gives one with "error: ...".

    judge: a pairwise judge: what is asked, and which verdicts count.
    model: who is asked.
    orders: "both"; "random", one order a vote, drawn from the seed and the ids; or "a_first", the
        smaller id first, which leaves the position bias in.
    draws: votes of the same model for each pair and order; of use where it samples.
    max_pairs: at most so many pairs of each prompt, chosen as above; null: all.
    reask: ask once more, with the complaint, where the first reply has no verdict.
    seed: what random orders and the choice of pairs come from.

    Source: the two orders follow Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and
    Chatbot Arena"; the cyclic design David 1963, "The method of paired comparisons".
    """
    _check(judge, draws, max_pairs)
    shown = _shown(_pairs(completions, max_pairs, seed), orders, draws, seed)
    texts = completions.select("completion_id", "completion")
    first = texts.rename({"completion_id": "first", "completion": "said_first"})
    second = texts.rename({"completion_id": "second", "completion": "said_second"})
    rows = (
        shown.join(prompts.select("prompt_id", "prompt"), on="prompt_id")
        .join(first, on="first")
        .join(second, on="second")
        .sort("prompt_id", "first", "second", "draw")  # those with a common beginning together
    )
    texts = rows.select("prompt", "said_first", "said_second").rows()
    messages = pl.Series("messages", [judge.render(*row) for row in texts], tables.MESSAGES)
    rows = rows.drop("prompt", "said_first", "said_second", "first", "second")
    heard = yield from ask([(judge, rows.with_columns(messages))], model, reask=reask)
    preference = pl.when("a_first").then("worth").otherwise(1 - pl.col("worth"))
    votes = heard.with_columns(
        preference.alias("preference"), annotator=pl.lit(f"llm:{model.name}/{judge.name}")
    )
    return Votes(votes.select(*tables.schema("votes").columns))


def _check(judge: Judge, draws: int, max_pairs: int | None) -> None:
    if judge.kind != "pairwise":
        raise RecipeError(
            f"annotate.pairwise: judge = {judge.name!r} is a {judge.kind} judge; "
            "name a pairwise one, or use annotate.pointwise"
        )
    for option, value in (("draws", draws), ("max_pairs", max_pairs)):
        if value is not None and value < 1:
            raise RecipeError(f"annotate.pairwise: {option} = {value}; it is at least 1")


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


def _shown(pairs: pl.DataFrame, orders: Orders, draws: int, seed: int) -> pl.DataFrame:
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
