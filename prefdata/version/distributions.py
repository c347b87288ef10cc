"""How the scores of a version's rows are distributed, those of rows that are gone beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 24
# Of so many values on, those beyond the outer quantiles stand in the first and last bar.
MANY, OUTER = 200, 0.005
# What a reader of preference data looks for first, before others by name.
FIRST = ("ln_ches", "ches")


@dataclass(frozen=True)
class Distribution:
    """One score's values of the rows that are in the version and of those that are not."""

    score: str
    subject: str
    model: str | None
    kept: Floats
    dropped: Floats


def distributions(frames: Mapping[str, pl.DataFrame]) -> list[Distribution]:
    """The scores about rows: those about pairs first, of these CHES, then by name and model."""
    if "scores" not in frames:
        return []
    there = {
        subject: frames[table][key].implode()
        for subject, table, key in (
            ("pair", "pairs", "pair_id"),
            ("completion", "completions", "completion_id"),
            ("prompt", "prompts", "prompt_id"),
        )
        if table in frames
    }
    made: list[Distribution] = []
    for subject in ("pair", "completion", "prompt"):
        about = (
            frames["scores"].filter(pl.col("subject") == subject).sort("score", "model", "value")
        )
        if subject in there:
            about = about.with_columns(is_kept=pl.col("subject_id").is_in(there[subject]))
        else:
            about = about.with_columns(is_kept=pl.lit(False))
        for (score, model), rows in about.group_by("score", "model", maintain_order=True):
            kept, dropped = (
                rows.filter(pl.col("is_kept") == which)["value"].to_numpy()
                for which in (True, False)
            )
            who = None if model is None else str(model)
            made.append(Distribution(str(score), subject, who, kept, dropped))
    return sorted(made, key=lambda each: each.score not in FIRST)


def bins(values: Floats) -> Floats:
    """The edges of the bars; the outer ones take what is beyond."""
    low, high = float(values.min()), float(values.max())
    if len(values) >= MANY:
        inner = [float(np.quantile(values, share)) for share in (OUTER, 1 - OUTER)]
        low, high = inner if inner[0] < inner[1] else (low, high)
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    return np.linspace(low, high, BINS + 1)


def counts(values: Floats, edges: Floats) -> NDArray[np.int64]:
    """How many values are in each bar."""
    inside: Floats = values.clip(edges[0], edges[-1])
    at = np.searchsorted(edges, inside, side="right") - 1
    found: Any = np.bincount(at.clip(max=len(edges) - 2), minlength=len(edges) - 1)
    return found
