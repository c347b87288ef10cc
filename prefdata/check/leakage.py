"""Prompts of one split that stand in another: what is measured there was trained on."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from prefdata.check.data import Whole
from prefdata.check.finding import Check, examples, skipped
from prefdata.finding import EXAMPLES, Finding
from prefdata.select import _near as near

LEAST = 0.8
AT_ONCE = 100_000  # prompts that are compared word by word
COMPACT = 1 << 21  # prompts that are held before those that stand there twice are left out


def leakage(data: Whole) -> Check:
    """Rows outside `train` whose prompt, or whose group of prompts, is in another split too.

    An equal prompt or a parted group is an error; one that is at least 80 % the same (see `near`)
    is a warning. Rows of every split but the first of two are counted. Prompts are told apart by
    hashes of 64 bits, and compared by their texts only where their signatures are alike.
    """
    if len(data.splits) < 2:
        return skipped("leakage", ONE)
    seen = [_hashed(pl.DataFrame(schema=SEEN), data.splits)]
    prompts = _Prompts()
    while part := (yield):
        rows = part.rows.filter(pl.col("prompt_plain").fill_null("") != "")
        seen.append(_hashed(rows, data.splits))
        prompts.add(rows)
    rows = pl.concat(seen)
    splits = sorted(map(str, rows["split"].unique()), key=lambda name: (name != "train", name))
    if len(splits) < 2:
        return skipped("leakage", ONE)
    same: set[int] = set()
    alike: set[int] = set()
    for first, second in combinations(splits, 2):
        earlier, held = (rows.filter(pl.col("split") == name) for name in (first, second))
        known, parted = earlier["prompt"].unique(), earlier["group"].drop_nulls().unique()
        is_same = pl.col("prompt").is_in(known.implode()) | pl.col("group").is_in(parted.implode())
        same |= set(held.filter(is_same)["row"])
        close = prompts.near(data, known, held["prompt"].unique())
        alike |= set(held.filter(pl.col("prompt").is_in(close.implode()))["row"])
    alike -= same
    both = [*sorted(same), *sorted(alike)]
    first = pl.DataFrame({"row": both[:EXAMPLES]}, schema={"row": pl.UInt32})
    shown = first.join(data.at(first["row"]), on="row", maintain_order="left")
    return Finding(
        "leakage",
        "error" if same else "warning" if alike else "ok",
        f"rows of {', '.join(splits[1:])} whose prompt is in an earlier split: {len(same):,} the "
        f"same or of a parted group, {len(alike):,} at least {LEAST:.0%} the same",
        "split by prompt group (splits.test = 0.1 does), near prompts in one group" if both else "",
        len(both),
        rows.filter(pl.col("split") != splits[0]).height,
        tuple(examples(shown, "prompt_text")),
        {"same": len(same), "near": len(alike)},
    )


ONE = "there is one split only"
SEEN = {"row": pl.UInt32, "split": pl.String, "prompt_plain": pl.String, "group": pl.String}


def _hashed(rows: pl.DataFrame, splits: Sequence[str]) -> pl.DataFrame:
    group = pl.col("group")
    return rows.select(
        "row",
        pl.col("split").cast(pl.Enum(splits)),
        prompt=pl.col("prompt_plain").hash(seed=0),
        group=pl.when(group.is_not_null()).then(group.hash(seed=0)),
    )


class _Prompts:
    """Signatures of different prompts, each with the first row that has it."""

    def __init__(self) -> None:
        self.known = pl.DataFrame(schema={"prompt": pl.UInt64, "row": pl.UInt32})
        self.signed = np.zeros((0, near.N_PERM), np.uint8)
        self._held: list[tuple[pl.DataFrame, Any]] = []

    def add(self, rows: pl.DataFrame) -> None:
        own = rows.unique("prompt_plain", keep="first", maintain_order=True)
        own = own.with_columns(prompt=pl.col("prompt_plain").hash(seed=0))
        own = own.join(self.known, on="prompt", how="anti", maintain_order="left")
        signed = near.signatures(near.hashed_in_parts(own["prompt_plain"]))
        self._held.append((own.select("prompt", "row"), signed))
        if sum(frame.height for frame, _ in self._held) >= COMPACT:
            self.settle()

    def settle(self) -> None:
        """Each prompt once, in the order of their hashes."""
        frames = [self.known, *(frame for frame, _ in self._held)]
        whole = pl.concat(frames).with_row_index("at")
        kept = whole.unique("prompt", keep="first", maintain_order=True).sort("prompt")
        signed = np.concatenate([self.signed, *(each for _, each in self._held)])
        self.known, self.signed = kept.drop("at"), signed[kept["at"].to_numpy()]
        self._held = []

    def near(self, data: Whole, earlier: pl.Series, held: pl.Series) -> pl.Series:
        """The held prompts (hashes) that are nearly one of the earlier ones."""
        self.settle()
        sides = [
            self.known.with_row_index("at").filter(pl.col("prompt").is_in(each.implode()))
            for each in (earlier, held.filter(~held.is_in(earlier.implode())))
        ]
        signed = [self.signed[side["at"].to_numpy()] for side in sides]
        found = [held.clear()]
        for a, b in near.between(signed[0], signed[1], LEAST):
            for start in range(0, len(a), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                one, other = (side[at[part]] for side, at in zip(sides, (a, b), strict=True))
                texts = data.at(pl.concat([one["row"], other["row"]]))
                text = dict(texts.select("row", "prompt_plain").iter_rows())
                both = (
                    pl.DataFrame({"text": [text[row] for row in side["row"]]})
                    for side in (one, other)
                )
                found.append(other["prompt"].filter(pl.Series(near.similar(*both) >= LEAST)))
        return pl.concat(found).unique()
