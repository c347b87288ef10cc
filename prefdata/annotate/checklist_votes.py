"""Ask a judge which of two completions does more of what a user is known to have wanted.

The statements come from what users said after other answers to the same prompt, as
`annotate.feedback_mining` sums it up. Without them a judge goes by its own taste, which is often
not the user's.

Source: Shi et al. 2024, "WildFeedback: Aligning LLMs With In-situ User Interactions And Feedback"
(checklist-guided evaluation).
"""

import polars as pl

from prefdata import tables
from prefdata.annotate._showing import Orders, shown
from prefdata.judge import Judge, ask
from prefdata.judge.transcript import harmless
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Prompts, Ratings, Votes


def checklist_votes(
    prompts: Prompts,
    completions: Completions,
    ratings: Ratings,
    *,
    judge: Judge,
    model: Model,
    criterion: str = "user_satisfaction",
    orders: Orders = "both",
    draws: int = 1,
    max_pairs: int | None = None,
    reask: bool = True,
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of `llm:<model>/<judge>` for each pair, order and draw of prompts with statements.

    The statements of a prompt are the rationales of its scored ratings on `criterion`, each line
    once. A prompt without any has no votes. A reply without a well-formed verdict gives an unscored
    vote with the reason, and the reply as its rationale; a failed request one with "error: ...".

    judge: a pairwise judge, such as "checklist"; the statements stand where its criterion would.
    model: who is asked.
    criterion: whose rationales are statements.
    orders: "both"; "random", one order a vote, drawn from the seed and the ids; or "a_first", the
        smaller id first, which leaves the position bias in.
    draws: votes of the same model for each pair and order; of use where it samples.
    max_pairs: at most so many pairs of each prompt, by a cyclic design; null: all.
    reask: ask once more, with the complaint, where the first reply has no verdict.
    seed: what random orders and the choice of pairs come from.

    Raises `RecipeError` for a judge that is not pairwise and for fewer than one draw or pair.
    """
    judge.must_be("pairwise", "annotate.checklist_votes", instead=', such as "checklist"')
    stated = ratings.filter(
        (pl.col("criterion") == criterion) & pl.col("unscored").is_null()
    ).drop_nulls("rationale")
    lines = stated.group_by("prompt_id").agg(
        pl.col("rationale").str.split("\n").list.explode().unique().sort().alias("wanted")
    )
    wanted = {id: said for id, each in lines.rows() if (said := [s for s in each if s.strip()])}
    mine = Prompts(prompts.filter(pl.col("prompt_id").is_in(list(wanted))))
    rows = shown(
        mine, completions, orders=orders, draws=draws, max_pairs=max_pairs, seed=seed,
        stage="annotate.checklist_votes",
    )  # fmt: skip
    if rows.is_empty():
        return Votes(tables.empty("votes"))
    checklists = {id: "\n".join(harmless(each) for each in said) for id, said in wanted.items()}
    texts = rows.select("prompt_id", "prompt", "said_first", "said_second").rows()
    messages = [judge.render(*said, criteria=checklists[id]) for id, *said in texts]
    frame = rows.drop("prompt", "said_first", "said_second").with_columns(
        tables.conversations("messages", messages)
    )
    heard = yield from ask([(judge.form(), frame)], model, reask=reask)
    preference = pl.when("a_first").then("worth").otherwise(1 - pl.col("worth"))
    votes = heard.with_columns(
        preference.alias("preference"),
        annotator=pl.lit(f"llm:{model.name}/{judge.name}"),
        criterion=pl.lit(judge.criteria[0].name),
    )
    return Votes(votes.select(*tables.schema("votes").columns))
