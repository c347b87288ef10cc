"""What a budget buys: the rows of the highest gain for their cost, and a part of them at random.

Of the n rows that it buys, ceil(audit n) are drawn from all rows with equal chances, whatever is
thought of them: what people say about those is true of all rows, and so the gain by routing can be
estimated without bias (`measure.routing`). The two kinds stand in turn, so that whoever stops early
has audited the same share. A price may differ by row; then the rows at random are as many as the
share buys on average, a number that does not depend on which are drawn.

Each row has a lot, a number in [0, 1) from the seed and its ids alone; the lowest ones are drawn.
So which rows are random is the same in every version, whatever was asked and answered meanwhile.

Source: Cochran 1977, "Sampling Techniques", for simple random samples; that rows are bought by gain
for their cost is Dantzig 1957, "Discrete-Variable Extremum Problems".
"""

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from typing_extensions import TypedDict

from prefdata import tables
from prefdata.aggregate._annotators import is_by
from prefdata.errors import RecipeError, nearest
from prefdata.estimate._named import with_score
from prefdata.tables import SIDES, Assignments, Pairs, Scores, Votes, pair_ids, with_sides

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

# The reason of a row that was drawn by lot.
RANDOM = "random"


class Budget(TypedDict, total=False):
    """How much may be asked: one of `rows`, `share` (of all rows, in [0, 1]) and `money`.

    `price`: the money that a row costs, a number or the name of a score about pairs; needed with
    `money`. `audit`: the least share of what is bought that is drawn at random, 0.1 if not said.
    """

    rows: int
    share: float
    money: float
    price: float | str
    audit: float


def open_rows(votes: Votes, pairs: Pairs | None, annotator: str) -> pl.DataFrame:
    """`completion_a, completion_b, pair_id` of what the annotator has not voted on yet, sorted.

    The rows are the pairs, where there is such a table, else whatever was compared. `annotator` is
    a kind, as "human", or one by name.
    """
    rows = votes if pairs is None else with_sides(pairs)
    asked = votes.filter(is_by(annotator if ":" in annotator else f"{annotator}:*"))
    left = rows.select(SIDES).unique().join(asked, on=SIDES, how="anti").sort(SIDES)
    return left.with_columns(pair_ids(left["completion_a"], left["completion_b"]))


def spend(
    rows: pl.DataFrame,
    scores: Scores | None,
    *,
    budget: Budget,
    annotator: str,
    reason: str,
    seed: int,
    where: str,
) -> Assignments:
    """The rows that the budget buys, for their `gain` (null: not known), ties drawn from the seed.

    Raises `RecipeError` for a budget that says nothing, or too much, or has no price.
    """
    check(budget, where)
    cost = _costs(rows, scores, budget, where)
    lot, luck = lots(rows, seed)
    gain = rows["gain"].fill_null(0.0).to_numpy()
    ranked = np.lexsort((luck, -gain / (1.0 if cost is None else cost)))
    money = budget.get("money", math.inf)
    if cost is None or "money" not in budget:
        n = _number(budget, rows.height)
        n_random = _audited(budget, n)
    else:
        n = rows.height
        n_random = _audited(budget, money / float(cost.mean()) if n else 0.0)
    at_random = _within(np.argsort(lot)[: min(n_random, n)], cost, money)
    left = money - (0.0 if cost is None else float(cost[at_random].sum()))
    chosen = ranked[~np.isin(ranked, at_random)][: n - len(at_random)]
    chosen = _within(chosen, cost, left)
    order = _in_turn(at_random, chosen)
    bought = rows[order]
    price = None if cost is None else pl.Series(cost[order])
    return Assignments(
        tables.check(
            "assignments",
            bought.select(
                *SIDES,
                annotator=pl.lit(annotator),
                priority=pl.int_range(1, pl.len() + 1),
                reason=pl.Series(np.where(np.isin(order, at_random), RANDOM, reason)).cast(
                    pl.String
                ),
                gain="gain",
                cost=pl.lit(None, pl.Float64) if price is None else price,
            ),
            where=where,
        )
    )


def lots(rows: pl.DataFrame, seed: int) -> tuple[Floats, Floats]:
    """A number in [0, 1) for each row, and another one that parts ties."""
    said = [tables.digest("lot", seed, *two) for two in rows.select(SIDES).iter_rows()]
    halves = [[int(each[:10], 16), int(each[10:], 16)] for each in said]
    made = np.array(halves, dtype=np.float64).reshape(-1, 2) / 16.0**10
    return made[:, 0], made[:, 1]


def expected_rows(rows: pl.DataFrame, scores: Scores | None, budget: Budget, where: str) -> int:
    """About how many of the rows the budget buys."""
    cost = _costs(rows, scores, budget, where)
    if cost is None or "money" not in budget or not rows.height:
        return _number(budget, rows.height)
    return min(int(budget["money"] / float(cost.mean())), rows.height)


def check(budget: Budget, where: str) -> None:
    """Raise `RecipeError` for a budget that cannot be meant."""
    known = Budget.__annotations__
    for name in budget:
        if name not in known:
            raise RecipeError(f"{where}: budget has no {name!r}; {nearest(name, known)}")
    limits = [name for name in ("rows", "share", "money") if name in budget]
    if len(limits) != 1:
        raise RecipeError(
            f"{where}: budget says {' and '.join(limits) or 'no limit'}; give one of rows, share "
            "and money, as in budget = {rows = 200}"
        )
    rows, money = budget.get("rows", 0), budget.get("money", 0.0)
    if rows < 0 or int(rows) != rows or not 0 <= money < math.inf:
        raise RecipeError(
            f"{where}: budget {dict(budget)}; rows are a whole number, money a finite one, both at "
            "least 0"
        )
    if not 0 <= budget.get("share", 0.0) <= 1 or not 0 <= budget.get("audit", 0.0) <= 1:
        raise RecipeError(f"{where}: budget {dict(budget)}; share and audit are in [0, 1]")
    if "money" in budget and "price" not in budget:
        raise RecipeError(
            f"{where}: budget says money but not what a row costs; add its price, a number or the "
            "name of a score about pairs"
        )


def _costs(rows: pl.DataFrame, scores: Scores | None, budget: Budget, where: str) -> Floats | None:
    price = budget.get("price")
    if price is None:
        return None
    if isinstance(price, str):
        cost = with_score(rows, scores, price, where=where)["value"]
    else:
        cost = pl.Series([price], dtype=pl.Float64).new_from_index(0, rows.height)
    bad = rows.filter(~(cost.is_finite() & (cost > 0)).fill_null(False).rename("good"))
    if bad.height:
        raise RecipeError(
            f"{where}: {bad.height} rows have no finite price above 0, first {bad.row(0)[:2]}; "
            f"price = {price!r}"
        )
    return cost.to_numpy()


def _number(budget: Budget, n: int) -> int:
    share = budget.get("share")
    return min(budget.get("rows", n) if share is None else int(share * n + 1e-9), n)


def _audited(budget: Budget, n: float) -> int:
    return math.ceil(budget.get("audit", 0.1) * n - 1e-9)


def _within(order: Ints, cost: Floats | None, money: float) -> Ints:
    """The first of them that the money buys."""
    if cost is None or math.isinf(money):
        return order
    return order[np.cumsum(cost[order]) <= money + 1e-9]


def _in_turn(some: Ints, others: Ints) -> Ints:
    """Both, each evenly spread over the whole, the first of `some` first."""
    at = np.arange(len(some)) / max(len(some), 1)
    at_others = (np.arange(len(others)) + 0.5) / max(len(others), 1)
    place = np.argsort(np.concatenate([at, at_others]), kind="stable")
    return np.concatenate([some, others])[place].astype(np.int64)
