"""Ask a jury about each pair only until the rest of it would hardly say otherwise.

All members judge a pilot of the pairs, which shows what a vote of each is worth and which of them
only repeat each other. Then the members that say most beside those already asked, for their price,
are asked about the rest, a few at a time; after each round `aggregate.reliability` is fitted to all
votes so far, and pairs about which the whole jury can be foreseen are left alone, until as many of
them as `tolerance` allows may be decided otherwise than by the whole jury.
`prefdata.annotate._escalation` holds the rule.

Source: Chen, Zaharia, Zou 2023, "FrugalGPT", for the cascade; Jung, Brahman, Choi 2024, "Trust or
Escalate", for stopping by confidence; Lewis, Gale 1994, for asking where doubt is largest.
"""

from collections.abc import Mapping

import polars as pl

from prefdata import tables
from prefdata.annotate._escalation import next_calls
from prefdata.annotate._showing import Orders, shown
from prefdata.annotate.pairwise import votes_on
from prefdata.errors import RecipeError
from prefdata.judge import Jury
from prefdata.stage import Asks, together
from prefdata.tables import SIDES, Completions, Measures, Prompts, Votes

# What a judge is worth is learnt from all pairs.
SCOPE = "all"


def cascade(
    prompts: Prompts,
    completions: Completions,
    *,
    jury: Jury,
    costs: Mapping[str, float] | None = None,
    tolerance: float = 0.01,
    pilot: float = 0.25,
    step: int = 5,
    budget: float = 0.6,
    orders: Orders = "both",
    draws: int = 1,
    max_pairs: int | None = None,
    reask: bool = True,
    seed: int = 0,
) -> Asks[tuple[Votes, Measures]]:
    """Votes of a jury's members, as those of `annotate.jury`, on fewer pairs.

    Measures: `cascade_calls`, the calls made of each annotator and of "all" (a call is one pair,
    in one order and draw; a second asking after a bad reply is not counted), `n` being those of the
    full jury; `cascade_saved_share` of "all", in [0, 1]; `cascade_differing_share` of "all", the
    share of pairs on which the full jury is expected to prefer otherwise, in [0, 1], above
    `tolerance` where the budget ended first; `cascade_rounds` of "all".

    jury: who votes: a bundled jury or a path to a file; members compare pairs by their verdict.
    costs: the price of one call of each model, by its role in the recipe; default all the same.
    tolerance: the share of pairs whose preference may be another than by all votes of the jury, in
        expectation, in [0, 1]; so much accuracy is lost at most. 0: ask as far as the budget goes.
    pilot: the share of pairs that all members judge, in (0, 1]; at least 10 pairs.
    step: members asked about a pair in one round.
    budget: the most calls, as a share of the full jury's, in (0, 1].
    orders: "both"; "random", one order a vote; or "a_first", which leaves position bias in.
    draws: votes of each member for each pair and order; of use where its model samples.
    max_pairs: at most so many pairs of each prompt; null: all.
    reask: ask once more, with the complaint, where a first reply has no verdict.
    seed: what random orders and the choice of pairs and of the pilot come from.

    Raises `RecipeError` for an option out of range, and `ConvergenceError` of the aggregate.

    Source: Chen et al. (2023), FrugalGPT; Jung et al. (2024), Trust or Escalate.
    """
    prices = _checked(jury, costs, tolerance, pilot, step, budget)
    rows = shown(
        prompts, completions,
        orders=orders, draws=draws, max_pairs=max_pairs, seed=seed, stage="annotate.cascade",
    )  # fmt: skip
    pairs = rows.select(SIDES).unique()
    votes = Votes(tables.empty("votes"))
    rounds = 0
    while True:
        wanted, differing = next_calls(
            votes, pairs, prices,
            tolerance=tolerance, pilot=pilot, step=step, budget=budget, seed=seed,
        )  # fmt: skip
        if wanted.is_empty():
            return votes, _measures(votes, rows.height, rounds, differing, prices)
        rounds += 1
        asking = [
            votes_on(
                rows.join(
                    wanted.filter(pl.col("annotator") == member.annotator),
                    on=SIDES, how="semi", maintain_order="left",
                ),
                judge=member.judge, model=member.model, reask=reask,
            )
            for member in jury.members
            if member.annotator in wanted["annotator"]
        ]  # fmt: skip
        made = yield from together(asking)
        votes = Votes(tables.union("votes", votes, *made, where="annotate.cascade"))


def _checked(
    jury: Jury,
    costs: Mapping[str, float] | None,
    tolerance: float,
    pilot: float,
    step: int,
    budget: float,
) -> dict[str, float]:
    """The price of a call of each annotator."""
    where = "annotate.cascade"
    if jury.kind != "pairwise" or any(member.by != "verdict" for member in jury.members):
        raise RecipeError(
            f"{where}: jury = {jury.name!r} has members that rate, or vote by logits; the cascade "
            "needs pairwise judges that give a verdict"
        )
    if not 0 <= tolerance <= 1:
        raise RecipeError(f"{where}: tolerance = {tolerance}; expected a share in [0, 1]")
    for option, value in (("pilot", pilot), ("budget", budget)):
        if not 0 < value <= 1:
            raise RecipeError(f"{where}: {option} = {value}; expected a share in (0, 1]")
    if step < 1:
        raise RecipeError(f"{where}: step = {step}; it is at least 1")
    roles = {member.model.role for member in jury.members}
    given = dict(costs) if costs is not None else dict.fromkeys(roles, 1.0)
    if set(given) != roles or any(not 0 < price < float("inf") for price in given.values()):
        raise RecipeError(
            f"{where}: costs = {given}; expected a number above 0 for each of {sorted(roles)}"
        )
    return {member.annotator: given[member.model.role] for member in jury.members}


def _measures(
    votes: Votes, per_member: int, rounds: int, differing: float, prices: Mapping[str, float]
) -> Measures:
    made = dict(votes.group_by("annotator").agg(pl.len()).iter_rows())
    full = per_member * len(prices)
    saved = 1 - votes.height / full if full else None
    rows: list[tuple[str, str, float | None, int]] = [
        ("cascade_calls", "all", float(votes.height), full),
        ("cascade_differing_share", "all", differing if full else None, full),
        ("cascade_rounds", "all", float(rounds), votes.height),
        ("cascade_saved_share", "all", saved, full),
    ]
    rows += [("cascade_calls", name, float(made.get(name, 0)), per_member) for name in prices]
    frame = pl.DataFrame(rows, schema=["measure", "subject", "value", "n"], orient="row")
    return Measures(tables.check("measures", frame, where="annotate.cascade"))
