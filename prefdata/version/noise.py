"""What a version knows of the noise in its labels: the rates of flips, and what was done by them.

It is read from the tables `measures` and `scores`, so it is no part of a version's id.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

RATES, DONE = "flip_rate", "label_smoothing"


def noise(frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """The estimated noise and its treatment, for the manifest; empty where nothing is known.

    - `flip_rate`: by subject, with its interval; a null value is one that cannot be told.
    - `label_smoothing`: by stage, the mean rate by which labels were softened or weighed.
    - `flipped`: the pairs whose label was turned round.
    """
    found: dict[str, Any] = {}
    if "measures" in frames:
        for name in (RATES, DONE):
            rows = frames["measures"].filter(pl.col("measure") == name).sort("subject")
            if rows.height:
                found[name] = rows.select("subject", "value", "low", "high", "n", "note").to_dicts()
    if "scores" in frames and "pairs" in frames:
        turned = frames["scores"].filter(
            (pl.col("score") == "flipped")
            & (pl.col("value") == 1)
            & pl.col("subject_id").is_in(frames["pairs"]["pair_id"].implode())
        )
        if turned.height:
            found["flipped"] = turned.height
    return found
