"""Ask a judge to rate the completions of a prompt side by side, in one call, and compare the rates.

Of two completions the one with the higher rating is preferred, equal ratings are a tie:

    preference = 1 if r_a > r_b,   1/2 if r_a = r_b,   0 if r_a < r_b

Side by side a judge uses the scale for the difference that it sees, which agrees with people
better than a rating of each by itself, and better than the bare question which is better.

Source: Arif et al. 2024, "The Fellowship of the LLMs: Multi-Agent Workflows for Synthetic
Preference Optimization Dataset Generation" ("combined scoring"); all completions of a prompt in one
call, a call for each aspect, in a shuffled order, follow Cui et al. 2023, "UltraFeedback".
"""

import polars as pl

from prefdata import tables
from prefdata.annotate._showing import Orders
from prefdata.annotate._side_by_side import Together, compared, numbered, placed, side_by_side
from prefdata.judge import Form, Judge, ask
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Prompts, Ratings, Votes


def combined(
    prompts: Prompts,
    completions: Completions,
    *,
    judge: Judge,
    model: Model,
    together: Together = "pairs",
    orders: Orders = "both",
    draws: int = 1,
    max_pairs: int | None = None,
    reask: bool = True,
    seed: int = 0,
) -> Asks[tuple[Votes, Ratings]]:
    """Votes and ratings by `llm:<model>/<judge>`, from one call for each showing and criterion.

    A vote for each two completions that were shown together, in each order, criterion and draw;
    a rating for each completion whenever it was shown, with `draw` counting the showings. A rating
    is 0 for the scale's worst and 1 for its best value; `raw` is the value as given. Where a
    criterion does not apply to one of two, the rating and the vote are unscored as "not
    applicable". A reply without a well-formed verdict leaves its votes and ratings unscored with
    the reason, and is kept as their rationale; a failed request leaves them so with "error: ...".

    judge: a combined judge: the criteria, their scales, and what is asked.
    model: who is asked.
    together: "pairs" shows two at a time; "all" shows all completions of a prompt, at most 26.
    orders: "both": two in both orders, a list in a drawn order and turned round; "random": one
        order, drawn from the seed and the ids; "a_first": by id, which leaves the position bias in.
    draws: showings of the same; of use where the model samples.
    max_pairs: with "pairs", at most so many of each prompt, by a cyclic design; null: all.
    reask: ask once more, with the complaint, where the first reply has no verdict.
    seed: what orders and the choice of pairs come from.

    Raises `RecipeError` for a judge that is not combined and for fewer than one draw or pair; with
    "all" for `max_pairs` and for a prompt with more than 26 completions.
    """
    judge.must_be("combined", "annotate.combined")
    showings = side_by_side(
        prompts, completions, together=together, orders=orders, draws=draws,
        max_pairs=max_pairs, seed=seed, stage="annotate.combined",
    )  # fmt: skip
    prompt = dict(prompts.select("prompt_id", "prompt").rows())
    texts = dict(completions.select("completion_id", "completion").rows())
    asked: list[tuple[Form, pl.DataFrame]] = []
    for criterion in judge.criteria:
        only = judge.only(criterion.name)
        for (size,), rows in showings.group_by(pl.col("shown").list.len(), maintain_order=True):
            whose = rows.select("prompt_id", "shown").rows()
            messages = [only.render(prompt[p], *(texts[id] for id in ids)) for p, ids in whose]
            said = tables.conversations("messages", messages)
            frame = rows.with_columns(said, criterion=pl.lit(criterion.name))
            asked.append((only.form(int(str(size))), frame))
    if not asked:
        return Votes(tables.empty("votes")), Ratings(tables.empty("ratings"))
    heard = yield from ask(asked, model, reask=reask)
    rated = placed(heard)
    votes, ratings = compared(rated), numbered(rated)
    annotator = pl.lit(f"llm:{model.name}/{judge.name}").alias("annotator")
    return (
        Votes(votes.with_columns(annotator).select(*tables.schema("votes").columns)),
        Ratings(ratings.with_columns(annotator).select(*tables.schema("ratings").columns)),
    )
