"""Ask a judge which of two completions a constitution prefers, or which it would without one.

The principles stand in the order of their rank, the most important first. The judge follows them
alone: where none applies it is to choose at random and not by its own opinion. How well the votes
agree with the labels says how much of them the constitution explains; without the rules, the same
judge's own opinion is the baseline (`measure.constitution`).

Source: Findeis et al. 2024, "Inverse Constitutional AI: Compressing Preferences into Principles".
"""

from prefdata import tables
from prefdata.annotate._by_principle import numbered
from prefdata.annotate._showing import Orders, shown
from prefdata.annotate.pairwise import votes_on
from prefdata.judge import Judge
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Pairs, Principles, Prompts, Votes

_BEFORE = "Choose by these rules alone, the most important first:"
_AFTER = (
    "Where no rule applies to these two replies, choose one at random, and not by your own opinion."
)


def constitution(
    prompts: Prompts,
    completions: Completions,
    principles: Principles,
    pairs: Pairs | None = None,
    *,
    judge: Judge,
    model: Model,
    rules: bool = True,
    orders: Orders = "both",
    draws: int = 1,
    max_pairs: int | None = None,
    reask: bool = True,
    seed: int = 0,
) -> Asks[Votes]:
    """One vote of `llm:<model>/<judge>` for each pair, order and draw; see `annotate.pairwise`.

    Where there are pairs already, those are voted on, else all pairs of each prompt. Without
    principles there are no votes, unless `rules` is false.

    judge: a pairwise judge, such as "constitution"; the rules stand where its own criterion would.
    model: who is asked.
    rules: false: the judge's own criterion stands there, and votes are of
        `llm:<model>/<judge>-without`.
    orders: "both"; "random", one order a vote; or "a_first", which leaves the position bias in.
    draws: votes of the same model for each pair and order; of use where it samples.
    max_pairs: where there are no pairs yet, at most so many of each prompt; null: all.
    reask: ask once more, with the complaint, where the first reply has no verdict.
    seed: what random orders and the choice of pairs come from.
    """
    judge.must_be("pairwise", "annotate.constitution", instead=', such as "constitution"')
    if rules and principles.is_empty():
        return Votes(tables.empty("votes"))
    listed = numbered(principles.sort("rank")["principle"])
    rows = shown(
        prompts, completions, orders=orders, draws=draws, max_pairs=max_pairs, seed=seed,
        stage="annotate.constitution", pairs=pairs,
    )  # fmt: skip
    return (
        yield from votes_on(
            rows,
            judge=judge,
            model=model,
            reask=reask,
            criteria=f"{_BEFORE}\n{listed}\n{_AFTER}" if rules else None,
            name=judge.name if rules else f"{judge.name}-without",
        )
    )
