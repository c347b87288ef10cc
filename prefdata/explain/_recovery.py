"""Whether a judge tells from a reason which completion of a pair was preferred.

The judge sees the two in both orders, and the reason with its tags masked, not the label.
"""

import polars as pl

from prefdata import tables
from prefdata.explain._wording import masked
from prefdata.judge import Judge, ask
from prefdata.judge.transcript import one_line
from prefdata.stage import Asks, Model


def recovered(
    rows: pl.DataFrame, told: pl.DataFrame, judge: Judge, model: Model, reask: bool
) -> Asks[pl.DataFrame]:
    """The rows of `told` with `recovery`: the mean of the verdicts in both orders, 1 for the chosen
    one; null where one is missing. Without a column `rationale` it is the judge's own opinion."""
    keys = [name for name in ("pair_id", "kind", "rationale") if name in told.columns]
    shown = told.select(keys).join(rows, on="pair_id")
    shown = shown.join(pl.DataFrame({"chosen_first": [True, False]}), how="cross")
    if shown.is_empty():
        return told.select(keys).with_columns(recovery=pl.lit(None, pl.Float64))
    messages: list[list[dict[str, str]]] = []
    for row in shown.rows(named=True):
        sides = (row["chosen_turns"], row["rejected_turns"])
        sides = sides if row["chosen_first"] else sides[::-1]
        text = row.get("rationale")
        criteria = None if text is None else f"what this reason says: {one_line(masked(text))}"
        messages.append(judge.render(row["prompt"], *sides, criteria=criteria))
    # The judge may give a reason of its own: it does not take the place of what it was shown.
    number = shown.select("chosen_first", draw=pl.lit(0, pl.Int64)).with_row_index("row")
    frame = number.with_columns(tables.conversations("messages", messages))
    verdicts = yield from ask([(judge.form(), frame)], model, reask=reask)
    heard = (
        shown.select(keys)
        .with_row_index("row")
        .join(verdicts.select("row", "worth", "chosen_first"), on="row")
    )
    for_chosen = pl.when("chosen_first").then("worth").otherwise(1 - pl.col("worth"))
    both = pl.col("worth").null_count() == 0
    return heard.group_by(keys).agg(recovery=pl.when(both).then(for_chosen.sort().mean()))


def unrecovered(recovery: pl.Expr) -> pl.Expr:
    """Why a reason is not faithful; null: it is."""
    share = (100 * recovery).round(0).cast(pl.Int64)
    return (
        pl.when(recovery.is_null())
        .then(pl.lit("the judge gave no verdict in both orders"))
        .when(recovery <= 0.5)
        .then(pl.format("the label is not recovered: {} % for the chosen one", share))
    )
