"""What principles say of comparisons, against the same search on other labels, and many tests.

Source: Ojala and Garriga 2010, "Permutation tests for studying classifier performance"; Benjamini
and Hochberg 1995, "Controlling the False Discovery Rate".
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.explain._tally import UNASKED, Cells, Combine, cells_of, combined
from prefdata.tables import SIDES, Principles

Floats = NDArray[np.float64]
SUBJECT = "constitution"


def principle_cells(
    rows: pl.DataFrame, votes: pl.DataFrame, names: list[str], combine: Combine
) -> Cells:
    """What each principle says of each comparison, draws and orders combined."""
    places = dict(zip(names, range(len(names)), strict=True))
    at = votes.join(rows.select(*SIDES).with_row_index("row"), on=SIDES).with_columns(
        column=pl.col("annotator").replace_strict(places, return_dtype=pl.Int64)
    )
    shape = (rows.height, len(names))
    once = at.sort("draw", "a_first").group_by("draw", "a_first", maintain_order=True)
    by_draw = [cells_of(mine, shape) for _, mine in once]
    return combined(by_draw, combine) if by_draw else np.full(shape, UNASKED, np.int8)


def against_null(
    rows: pl.DataFrame,
    votes: pl.DataFrame,
    principles: Principles,
    least: float,
    combine: Combine,
    draws: int,
    seed: int,
) -> pl.DataFrame:
    """Agreement with the labels looked at, its null, and p; see `measure.constitution`."""
    rows = rows.filter(~pl.col("held_out"))
    names = sorted(votes["annotator"].unique())
    cells = principle_cells(rows, votes.filter(~pl.col("held_out")), names, combine)
    seen = (cells != UNASKED).any(1)
    rows, cells = rows.filter(pl.Series(seen, dtype=pl.Boolean)), cells[seen]
    toward = np.where(np.abs(cells) == 1, cells, 0).astype(np.float64)
    asked = (cells != UNASKED).sum(0)
    group = rows["group"].rank("dense").to_numpy().astype(np.int64) - 1
    measures = ("constitution_agreement", "constitution_null", "constitution_p")
    most, n = principles.height, rows.height
    if not most or not n:
        note = "no principle was kept" if n else "no votes of principles"
        values: list[float | None] = [None] * 3
    else:
        random = np.random.default_rng(seed)
        # toward is in terms of the labels: turning a label turns its row.
        real = _agreement(toward, np.ones(n), asked, least, most)
        turned = random.choice(np.array([1.0, -1.0]), (draws, int(group.max()) + 1))
        null = [_agreement(toward, each[group], asked, least, most) for each in turned]
        p = (1 + sum(each >= real for each in null)) / (1 + draws)
        values = [real, float(np.quantile(null, 0.95)), p]
        note = f"the {most} best of {len(names)} candidates, {draws} permutations"
        if 0.5 ** len(np.unique(group)) > 0.05:
            note += f"; {len(np.unique(group))} groups turn in too few ways for a small p"
    return pl.DataFrame(
        [
            {"measure": measure, "subject": SUBJECT, "value": value, "note": note, "n": n}
            for measure, value in zip(measures, values, strict=True)
        ],
        {
            "measure": pl.String,
            "subject": pl.String,
            "value": pl.Float64,
            "note": pl.String,
            "n": pl.Int64,
        },
    )


def _agreement(toward: Floats, turn: Floats, asked: NDArray[Any], least: float, most: int) -> float:
    """How often the constitution that the search finds on turned labels predicts these."""
    ahead = turn @ toward
    agree = (np.abs(toward).sum(0) + ahead) / 2
    passed = np.flatnonzero((ahead > 0) & (agree >= least * asked))
    best = passed[np.argsort(-ahead[passed], kind="stable")[:most]]
    said = np.sign(toward[:, best].sum(1)) * turn
    return float((said + 1).mean() / 2)
