"""Ask a judge which of two completions of a prompt is better.

Both orders are asked by default; `prefdata.annotate._showing` says which pairs are shown and why.
"""

import polars as pl

from prefdata import tables
from prefdata.annotate._showing import Orders, shown
from prefdata.judge import Judge, ask
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Prompts, Votes


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
    max_pairs: at most so many pairs of each prompt, by a cyclic design; null: all.
    reask: ask once more, with the complaint, where the first reply has no verdict.
    seed: what random orders and the choice of pairs come from.

    Raises `RecipeError` for a judge that is not pairwise and for fewer than one draw or pair.

    Source: the two orders follow Zheng et al. 2023, "Judging LLM-as-a-judge with MT-bench and
    Chatbot Arena"; the cyclic design David 1963, "The method of paired comparisons".
    """
    judge.must_be("pairwise", "annotate.pairwise", instead=", or use annotate.pointwise")
    rows = shown(
        prompts, completions,
        orders=orders, draws=draws, max_pairs=max_pairs, seed=seed, stage="annotate.pairwise",
    )  # fmt: skip
    return (yield from votes_on(rows, judge=judge, model=model, reask=reask))


def votes_on(
    rows: pl.DataFrame,
    *,
    judge: Judge,
    model: Model,
    reask: bool,
    criteria: str | None = None,
    name: str | None = None,
) -> Asks[Votes]:
    """A vote for each row of `_showing.shown`, by the judge's name or another one.

    `criteria` are put in the place of the judge's own.
    """
    texts = rows.select("prompt", "said_first", "said_second").rows()
    said = (judge.render(*row, criteria=criteria) for row in texts)
    messages = tables.conversations("messages", said)
    rows = rows.drop("prompt", "said_first", "said_second")
    heard = yield from ask([(judge.form(), rows.with_columns(messages))], model, reask=reask)
    preference = pl.when("a_first").then("worth").otherwise(1 - pl.col("worth"))
    votes = heard.with_columns(
        preference.alias("preference"),
        annotator=pl.lit(f"llm:{model.name}/{name or judge.name}"),
        criterion=pl.lit(judge.criteria[0].name),
    )
    return Votes(votes.select(*tables.schema("votes").columns))
