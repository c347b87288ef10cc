"""The pairs of a version with the texts of their sides, joined a range of prompts at a time.

Rows stand in the order of their prompts, and those of one prompt in that of their pairs. A range is
a bin; one bin is joined at a time and, where there are several, set down in a temporary folder of
the system (`TMPDIR`) as long as the rows are wanted. So neither memory nor what is found depends on
how many rows there are. Pairs across prompts (joint preferences) are the last bin, held at once.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from prefdata.check.reading import scan_parquet
from prefdata.disk.spill import Spill
from prefdata.tables import with_sides
from prefdata.version import Version
from prefdata.version.splits import prompt_splits
from prefdata.whole import writable

# Bytes of a version's tables that are joined at once, as they are without compression.
BIN = 128 << 20
# Rows that are taken up together on their way into the bins.
AT_ONCE = 50_000
# What of a version is read.
NEEDED: Mapping[str, tuple[str, ...] | None] = {
    "prompts": ("prompt_id", "prompt", "group"),
    "completions": ("prompt_id", "completion_id", "completion"),
    "pairs": None,
    "samples": ("prompt_id", "completion_id", "finish_reason"),
    "votes": ("prompt_id", "completion_a", "completion_b", "preference"),
}
SIDES = ("chosen", "rejected")

Frames = Mapping[str, pl.DataFrame]


def paired(version: Version, bin_bytes: int = BIN) -> tuple[pl.LazyFrame, list[str], Any]:
    """The pairs of a version with what is checked of them, the names of their splits, and what has
    to be kept as long as they are read."""
    n = max(1, math.ceil(sum(map(version.unpacked, NEEDED)) / bin_bytes))
    splits = _of_groups(version)
    if n == 1:
        rows = _joined(
            {name: version.table(name, *(columns or ())) for name, columns in NEEDED.items()},
            version,
            splits,
        )
        return rows.with_row_index("row").lazy(), _names([rows]), None
    kept = TemporaryDirectory(prefix="prefdata-check-")
    folder, names, height = Path(kept.name), set[str](), 0
    for at, frames in enumerate(_binned(version, Spill(folder / "bins"), n)):
        rows = _joined(frames, version, splits).with_row_index("row", offset=height)
        height += rows.height
        names |= set(_names([rows]))
        with writable(folder):
            rows.write_parquet(folder / f"{at:05d}.parquet", compression="lz4")
    files = sorted(folder.glob("*.parquet"))
    return pl.concat([scan_parquet(file) for file in files]), sorted(names), kept


def _names(frames: list[pl.DataFrame]) -> list[str]:
    return sorted({str(name) for frame in frames for name in frame["split"].unique()})


def _binned(version: Version, spill: Spill, n: int) -> Iterator[Frames]:
    """The tables of each range of prompts, and at last those of the pairs across prompts."""
    place = pl.col("prompt_id").str.slice(0, 8).str.to_integer(base=16, dtype=pl.Int64)
    bins = (place * n // 16**8).fill_null(n).alias("bin")
    for name, columns in NEEDED.items():
        for part in version.parts(name, AT_ONCE, columns):
            spill.add(name, part, part.select(bins)["bin"])
    for at in range(n):
        yield {name: spill.take(name, at) for name in NEEDED}
    frames = {name: spill.take(name, n) for name in NEEDED}
    if frames["pairs"].is_empty():
        return
    sides = pl.concat([frames["pairs"][f"{side}_id"] for side in SIDES]).unique().implode()
    is_side = pl.col("completion_id").is_in(sides)
    for name in ("completions", "samples"):
        some = [part.filter(is_side) for part in version.parts(name, AT_ONCE, NEEDED[name])]
        frames[name] = pl.concat([frames[name], *some])
    yield frames


def _joined(frames: Frames, version: Version, of_groups: pl.DataFrame) -> pl.DataFrame:
    """The pairs of some prompts, each with all that is checked of it."""
    prompts, completions = frames["prompts"], frames["completions"]
    own = prompts.filter(pl.col("group").is_null())
    drawn = {"prompts": own, "pairs": frames["pairs"]}
    splits = prompt_splits(drawn, version.manifest["splits"], version.manifest["seed"])
    about = prompts.join(
        pl.concat([splits, of_groups.select("prompt_id", "split")]), on="prompt_id", how="left"
    )
    rows = frames["pairs"].drop("split").join(about, on="prompt_id", how="left")
    rows = rows.with_columns(pl.col("split").fill_null("train"))
    rows = rows.join(_vote_shares(frames), on="pair_id", how="left")
    cut = frames["samples"].filter(pl.col("finish_reason") == "length")["completion_id"].implode()
    is_cut = [pl.col(f"{side}_id").is_in(cut) for side in SIDES]
    rows = rows.with_columns(cut=pl.any_horizontal(is_cut), place=pl.format("pair {}", "pair_id"))
    for side in SIDES:
        text = completions.select("completion_id", "completion")
        text = text.rename({"completion_id": f"{side}_id", "completion": side})
        rows = rows.join(text, on=f"{side}_id", how="left")
    return rows.sort("prompt_id", "pair_id", nulls_last=True)


def _of_groups(version: Version) -> pl.DataFrame:
    """The split of each prompt that is in a group, which may be of many bins."""
    parts = version.parts("prompts", AT_ONCE, ("prompt_id", "group"))
    prompts = pl.concat([part.drop_nulls("group") for part in parts])
    said = version.parts("pairs", AT_ONCE, ("prompt_id", "split"))
    pairs = pl.concat([part.join(prompts, on="prompt_id", how="semi") for part in said])
    frames = {"prompts": prompts, "pairs": pairs}
    return prompt_splits(frames, version.manifest["splits"], version.manifest["seed"])


def _vote_shares(frames: Frames) -> pl.DataFrame:
    """Of each pair that was voted on, how far the votes on its two sides are for the chosen one."""
    sides = ["completion_a", "completion_b"]
    pairs = with_sides(frames["pairs"]).select("pair_id", "a_chosen", *sides)
    votes = frames["votes"].select(*sides, "preference").drop_nulls("preference")
    said = pairs.join(votes, on=sides)
    toward = pl.when("a_chosen").then("preference").otherwise(1 - pl.col("preference"))
    return said.group_by("pair_id").agg(vote_share=toward.mean())
