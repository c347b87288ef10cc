"""Ask a judge for one vote by each principle or property on two completions of a prompt.

Several principles are asked about in one call, each by its number, and each gets a vote of its
own: for A, for B, a tie where it holds for both alike, or an abstention where it says nothing about
them. These and a reply that cannot be read are four different things. The principles stand in an
order drawn anew for each draw, the same for all pairs, so that an engine reads them once.

Source: Findeis et al. 2024, "Inverse Constitutional AI: Compressing Preferences into Principles"
(votes by principle, in one call, in a shuffled order); Dunlap et al. 2024, "VibeCheck: Discover and
Quantify Qualitative Differences in Large Language Models" (each axis in both orders, with
abstention).
"""

import polars as pl

from prefdata import tables
from prefdata.annotate._by_principle import ask_by_principle, check, with_lists
from prefdata.annotate._showing import Orders, shown
from prefdata.judge import Judge
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Pairs, Principles, Prompts, Votes, digest


def criteria_votes(
    prompts: Prompts,
    completions: Completions,
    principles: Principles,
    pairs: Pairs | None = None,
    *,
    judge: Judge,
    model: Model,
    per_call: int = 20,
    orders: Orders = "both",
    draws: int = 1,
    max_pairs: int | None = None,
    reask: bool = True,
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of `principle:<principle_id>/<model>` for each pair, order and draw.

    Where there are pairs already, those are voted on, else all pairs of each prompt. An abstention
    is unscored as "not applicable". A reply without a well-formed verdict leaves the votes of its
    principles unscored with the reason, and is kept as their rationale; a failed request leaves
    them unscored with "error: ...". The criterion is the judge's.

    judge: a pairwise judge; the principles stand where its own criterion would. It offers "tie"
        and "N/A" where a principle may hold for both or say nothing.
    model: who is asked.
    per_call: at most so many principles in one call.
    orders: "both"; "random", one order a vote, drawn from the seed and the ids; or "a_first", the
        smaller id first, which leaves the position bias in.
    draws: votes for each pair, order and principle, each with another order of the principles.
    max_pairs: where there are no pairs yet, at most so many of each prompt, by a cyclic design;
        null: all.
    reask: ask once more, with the complaint, where the first reply has no verdict.
    seed: what orders and the choice of pairs come from.

    Raises `RecipeError` for a judge that is not pairwise and for fewer than one principle a call,
    draw or pair.
    """
    check(judge, per_call, "annotate.criteria_votes")
    rows = shown(
        prompts, completions, orders=orders, draws=draws, max_pairs=max_pairs, seed=seed,
        stage="annotate.criteria_votes", pairs=pairs,
    )  # fmt: skip
    known = dict(principles.select("principle_id", "principle").rows())
    listed: list[pl.DataFrame] = []
    for (draw,), mine in rows.group_by("draw", maintain_order=True):
        ordered = sorted(known, key=lambda each: digest("principles", seed, draw, each))
        listed += with_lists(mine, ordered, per_call)
    if not listed:
        return Votes(tables.empty("votes"))
    heard = yield from ask_by_principle(pl.concat(listed), known, judge, model, reask=reask)
    return Votes(heard.select(*tables.schema("votes").columns))
