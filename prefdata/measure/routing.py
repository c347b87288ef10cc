"""What asking people about chosen rows gained, and what asking about rows by lot would have.

Of the rows that people have voted on, a known share was drawn by lot (the audit of a budget of
`route`); on those the label that a row has without people is wrong as often as on all rows. With e
that share, e_r the share of wrong labels among the others that were asked about, and s their share
of all rows, correcting them raised the accuracy of the dataset by s e_r, and

    gain = s (e_r - e)

is what it gained over as many rows by lot.

Source: Cochran 1977, "Sampling Techniques" (simple random samples, differences of two means).
"""

import math

import polars as pl

from prefdata.errors import RecipeError
from prefdata.measure._means import means, with_groups
from prefdata.measure._wilson import Z95
from prefdata.route._budget import lots
from prefdata.route._groups import prompt_of
from prefdata.route._people import compared
from prefdata.tables import SIDES, Measures, Pairs, Prompts, Votes, with_sides

SCOPE = "all"


def routing(
    votes: Votes,
    prompts: Prompts | None = None,
    pairs: Pairs | None = None,
    *,
    audit: float = 0.1,
    label: str | None = None,
    annotator: str = "human",
    seed: int = 0,
) -> Measures:
    """Measure the gain by routing, from people's votes on rows that `route` stages assigned.

    - `label_error`, subject "random": the share of rows whose label is not what people say, in
      [0, 1], on the rows drawn by lot: without bias that of all rows. Subject "routed": on the
      other rows that people voted on, which is no estimate of anything else.
    - `routing_gain`, subject "routed": by how much more the accuracy of the dataset rose than by as
      many rows by lot, in [-1, 1].

    n: rows. Intervals are over groups of prompts. Null where people voted on no row of the kind.

    Options:
    - `audit`: the share of what was asked that was drawn by lot, as in the budget; above 0.
    - `label`: the annotator whose verdict is the label; default the models' mean verdict.
    - `annotator`: who was asked: a kind, or one by name; its kind are the people.
    - `seed`: that of the stage which assigned the rows.

    Raises `RecipeError` for an audit out of range and a label of an annotator without votes.
    """
    if not 0 < audit <= 1:
        raise RecipeError(f"measure.routing: audit = {audit}; a share above 0")
    known = compared(votes, annotator, label, "measure.routing")
    if pairs is not None:
        known = known.join(with_sides(pairs).select(SIDES).unique(), on=SIDES, how="semi")
    known = prompt_of(known.sort(SIDES), votes)
    lot, _ = lots(known, seed)
    n_random = math.ceil(audit * (known.height - known["person"].null_count()) - 1e-9)
    rank = pl.Series(lot, dtype=pl.Float64).rank("ordinal")
    kind = pl.when(rank <= n_random).then(pl.lit("random")).otherwise(pl.lit("routed"))
    wrong = (pl.col("label") != pl.col("person")).cast(pl.Float64)
    rows = known.with_columns(subject=kind, wrong=wrong).drop_nulls("person")
    subjects = pl.DataFrame({"subject": ["random", "routed"]})
    errors = means(with_groups(rows, prompts), "wrong", "label_error", subjects)
    return Measures(pl.concat([errors, _gain(errors, known.height)]))


def _gain(errors: pl.DataFrame, n_rows: int) -> pl.DataFrame:
    by_kind = {row["subject"]: row for row in errors.to_dicts()}
    random, routed = by_kind["random"], by_kind["routed"]
    share: float = routed["n"] / max(n_rows, 1)
    values: list[float | None] = [each["value"] for each in (routed, random)]
    there = [each for each in values if each is not None]
    value = share * (there[0] - there[1]) if len(there) == 2 else None
    spreads: list[float | None] = [each["stderr"] for each in (random, routed)]
    stderr = None
    if value is not None and (known := [each for each in spreads if each is not None]) == spreads:
        stderr = share * math.hypot(*known)
    note = None if value is not None else "people voted on no row of one of the two kinds"
    made = pl.DataFrame(
        {
            "measure": ["routing_gain"],
            "subject": ["routed"],
            "value": [value],
            "stderr": [stderr],
            "low": [None if stderr is None or value is None else value - Z95 * stderr],
            "high": [None if stderr is None or value is None else value + Z95 * stderr],
            "note": [note],
            "n": [routed["n"]],
        }
    )
    return made.cast(dict(zip(errors.columns, errors.dtypes, strict=True)))
