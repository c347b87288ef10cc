"""Ask several judges, each with its own model, which of two completions of a prompt is better.

Every member sees the same pairs in the same orders and votes under its own name. Nothing is
averaged here: what a vote of each member is worth is for an aggregate to find out, which needs all
of them. `judges/juries/*.toml` say who sits; `prefdata.judge.jury` says how such a file is written.

Source: Verga et al. 2024, "Replacing Judges with Juries: Evaluating LLM Generations with a Panel of
Diverse Models".
"""

import polars as pl

from prefdata.annotate._showing import Orders
from prefdata.annotate.logits import logits
from prefdata.annotate.pairwise import pairwise
from prefdata.errors import RecipeError
from prefdata.judge import Jury
from prefdata.stage import Asks, together
from prefdata.tables import Completions, Prompts, Votes


def jury(
    prompts: Prompts,
    completions: Completions,
    *,
    jury: Jury,
    orders: Orders = "both",
    draws: int = 1,
    max_pairs: int | None = None,
    reask: bool = True,
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of each member, `llm:<model>/<judge>`, for each pair, order and draw.

    The votes are those that `annotate.pairwise` gives for each member by itself, or, for one that
    is asked by "logits", those of `annotate.logits` (`...:logits`, one draw); the requests of
    all members are under way at once. What one of them does not answer are unscored votes of that
    member, with "error: ..."; the others' votes are as they are.

    jury: who votes: a bundled jury, or a path to a jury file. Its members ask pairwise judges, and
        its models are roles of the recipe's `[models]`.
    orders: "both"; "random", one order a vote, drawn from the seed and the ids, the same for all
        members; or "a_first", the smaller id first, which leaves position bias in.
    draws: votes of each member for each pair and order; of use where its model samples.
    max_pairs: at most so many pairs of each prompt, the same for all members; null: all.
    reask: ask once more, with the complaint, where a first reply has no verdict.
    seed: what random orders and the choice of pairs come from.

    Raises `RecipeError` for a jury whose judges are not pairwise and for fewer than one draw or
    pair.
    """
    if jury.kind != "pairwise":
        raise RecipeError(
            f"annotate.jury: jury = {jury.name!r} is a jury of {jury.kind} judges; its votes need "
            "pairwise ones"
        )
    voting = [
        pairwise(
            prompts, completions, judge=member.judge, model=member.model,
            orders=orders, draws=draws, max_pairs=max_pairs, reask=reask, seed=seed,
        )
        if member.by == "verdict"
        else logits(
            prompts, completions, judge=member.judge, model=member.model,
            orders=orders, max_pairs=max_pairs, seed=seed,
        )
        for member in jury.members
    ]  # fmt: skip
    votes = yield from together(voting)
    return Votes(pl.concat(votes))
