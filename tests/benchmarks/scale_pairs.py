"""Preference pairs in any number, with what is wrong with them known: 10 million in minutes.

    python tests/benchmarks/scale_pairs.py FOLDER --pairs 100000 [--seed 1]

FOLDER has `pairs.jsonl` (with broken lines), `pairs.parquet` (the same rows without these),
`truth.parquet` (of each of its rows whether its label is `swapped`, and whether it is a copy:
`repeat`, `near`) and `planted.json`: how many there are of each. Texts are sentences from a pool,
whose words follow Zipf's law, and words that spell the row's number: no two are equal unless that
is planted. Whatever the number of pairs, the first full batches are the same.
"""

import argparse
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

Ints = NDArray[np.int64]

BATCH = 100_000
SENTENCES, WORDS = 60_000, 20_000
PAIRS_A_PROMPT = 2.5
SWAPPED, TIED = 0.1, 0.01
REPEATED, NEAR = 0.01, 0.02
# Of a million rows, each of which an import quarantines.
FAULTS = {"broken": 500, "blank_prompt": 400, "no_chosen": 300, "same_sides": 300}
BYTES = {"pairs.jsonl": 900, "pairs.parquet": 450, "truth.parquet": 8}  # a row, at most


class Planted(NamedTuple):
    """A batch of rows, the truth about each, and the lines that are none."""

    rows: pl.DataFrame
    truth: pl.DataFrame
    broken: list[bytes]


def needed(pairs: int) -> int:
    """The bytes that a folder of so many pairs takes at most."""
    return pairs * sum(BYTES.values())


class Language:
    """Words, and sentences of them."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng([seed, 0])
        heads = "b br c d dr f g h k l m n p pl r s st t tr v w z".split()
        tails = "a ai e ea i o oo u an en in on ar er or al el ist ing".split()
        syllables = np.array([head + tail for head in heads for tail in tails])
        lengths = draw.integers(1, 4, 2 * WORDS).tolist()
        words = list(dict.fromkeys("".join(draw.choice(syllables, k)) for k in lengths))[:WORDS]
        shares = 1 / np.arange(1, len(words) + 1)
        lengths = draw.integers(5, 18, SENTENCES)
        said = draw.choice(np.array(words), int(lengths.sum()), p=shares / shares.sum())
        parts = np.split(said, np.cumsum(lengths)[:-1])
        self.sentences = pl.Series([f"{' '.join(part).capitalize()}." for part in parts])
        self.digits = pl.Series(words[-1000:])

    def numbered(self, numbers: Ints) -> pl.Series:
        """Four words that spell a number below 10^12, and no other."""
        spread = numbers * 7919 % 10**12  # neighbours have words that differ
        digits = [self.digits.gather(spread // 1000**at % 1000) for at in range(4)]
        return pl.select(pl.concat_str(digits, separator=" ")).to_series()

    def texts(self, draw: np.random.Generator, numbers: Ints, mean: float, most: int) -> pl.Series:
        """A text for each number, of about `mean` sentences; a few are long."""
        n = np.clip(draw.geometric(1 / mean, len(numbers)), 1, most)
        at = np.repeat(np.arange(len(numbers)), n)
        said = self.sentences.gather(draw.integers(0, len(self.sentences), len(at)))
        parts = pl.DataFrame({"at": at, "said": said}).group_by("at", maintain_order=True)
        whole = parts.agg(pl.col("said").str.join(" "))["said"]
        return pl.select(
            pl.concat_str([whole, pl.lit(" About "), self.numbered(numbers), pl.lit(".")])
        ).to_series()


def batches(pairs: int, seed: int = 1) -> Iterator[Planted]:
    """So many rows in all, the broken ones among them."""
    language = Language(seed)
    last: pl.DataFrame | None = None
    for at, start in enumerate(range(0, pairs, BATCH)):
        draw = np.random.default_rng([seed, 1, at])
        rows = _rows(language, draw, np.arange(start, min(start + BATCH, pairs)))
        made, last = _planted(draw, rows, last)
        yield made


def _rows(language: Language, draw: np.random.Generator, numbers: Ints) -> pl.DataFrame:
    """Pairs without a fault, some of them labelled the wrong way round.

    The scores are somebody's else measurement, with an error: some of the labels that are right
    look wrong by them, and the other way round.
    """
    n = len(numbers)
    n_prompts = max(1, int(n / PAIRS_A_PROMPT))
    asked = (draw.power(2, n) * n_prompts).astype(np.int64)
    questions = language.texts(draw, numbers[:n_prompts], 1.3, 6).str.strip_suffix(".") + "?"
    is_tied, is_swapped = draw.random(n) < TIED, draw.random(n) < SWAPPED
    margin = draw.gamma(1.5, 0.8, n) * np.where(is_swapped, -1, 1) + draw.normal(0, 0.4, n)
    margin = np.where(is_tied, 0, margin)
    middle = 5 + draw.normal(size=n)
    better = language.texts(draw, 2 * numbers, 2.4, 30)
    worse = language.texts(draw, 2 * numbers + 1, 2.2, 30)
    swapped = pl.Series(is_swapped)
    return pl.DataFrame(
        {
            "prompt": questions.gather(asked),
            "chosen": worse.zip_with(swapped, better),
            "rejected": better.zip_with(swapped, worse),
            "score_chosen": (middle + margin / 2).round(3),
            "score_rejected": (middle - margin / 2).round(3),
            "swapped": swapped,
        }
    )


def _planted(
    draw: np.random.Generator, rows: pl.DataFrame, last: pl.DataFrame | None
) -> tuple[Planted, pl.DataFrame]:
    """The rows, some replaced by copies and faults, and rows for the next batch to copy.

    Half of the copies are of rows of this batch and half of the one before; no row has two.
    """
    n = rows.height
    counts = [round(n * REPEATED), round(n * NEAR)]
    counts += [round(n * each / 1e6) for each in FAULTS.values()]
    parts = np.split(draw.permutation(n), np.cumsum(counts))
    copies, clean = np.concatenate(parts[:2]), np.sort(parts[-1])
    n_own = len(copies) if last is None else len(copies) // 2
    pool = draw.permutation(clean)[: n_own + len(copies)]
    own = rows[np.sort(pool[:n_own])]
    # shuffled, so that repeats and near ones have both kinds
    sources = (own if last is None else pl.concat([own, last[: len(copies) - n_own]])).sample(
        fraction=1, shuffle=True, seed=int(draw.integers(1 << 31))
    )
    kept = rows[np.sort(pool[n_own:])]
    fault = np.full(n, "clean", "U12")
    for name, part in zip(("repeat", "near", *FAULTS), parts[:-1], strict=True):
        fault[part] = name
    place = np.arange(n)
    place[copies] = n + np.arange(len(copies))
    made = pl.concat([rows, sources])[place].with_columns(fault=pl.Series(fault))
    is_ = {name: pl.col("fault") == name for name in ("near", *FAULTS)}
    made = made.with_columns(
        prompt=pl.when(is_["blank_prompt"]).then(pl.lit("  ")).otherwise("prompt"),
        chosen=pl.when(is_["no_chosen"]).then(None)
        .when(is_["near"]).then(pl.col("chosen").str.strip_suffix(".") + " too.")
        .otherwise("chosen"),
        rejected=pl.when(is_["same_sides"]).then("chosen").otherwise("rejected"),
    )  # fmt: skip
    broken = [json.dumps(row)[:-20].encode() for row in made.filter(is_["broken"]).to_dicts()]
    made = made.filter(~is_["broken"])
    truth = made.select("swapped", repeat=pl.col("fault") == "repeat", near=is_["near"])
    return Planted(made.drop("swapped", "fault"), truth, broken), kept


def write(
    folder: Path, pairs: int, seed: int = 1, *, formats: tuple[str, ...] = tuple(BYTES)
) -> None:
    """Write a folder, or find that it is there; `planted.json` comes last."""
    stated = folder / "planted.json"
    if stated.is_file() and json.loads(stated.read_text())["pairs"] == pairs:
        return
    folder.mkdir(parents=True, exist_ok=True)
    stated.unlink(missing_ok=True)
    planted: dict[str, Any] = {}
    tables: dict[str, pq.ParquetWriter] = {}
    with (folder / "pairs.jsonl").open("wb") as lines:
        for made in batches(pairs, seed):
            if "pairs.jsonl" in formats:
                made.rows.write_ndjson(text := BytesIO())
                lines.write(text.getbuffer())
                lines.write(b"".join(each + b"\n" for each in made.broken))
            for name, rows in (("pairs.parquet", made.rows), ("truth.parquet", made.truth)):
                if name in formats:
                    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
                    if name not in tables:
                        tables[name] = pq.ParquetWriter(
                            folder / name, table.schema, compression="zstd"
                        )
                    tables[name].write_table(table)
            for name, n in counted(made).items():
                planted[name] = planted.get(name, 0) + n
    for each in tables.values():
        each.close()
    stated.write_text(json.dumps({"pairs": pairs, "seed": seed, **planted}))


def counted(made: Planted) -> dict[str, int]:
    """How many of each fault, and what checks must find, are in a batch."""
    rows, blank = made.rows, pl.col("prompt").str.strip_chars() == ""
    difference = pl.col("score_chosen") - pl.col("score_rejected")
    said = {
        "rows": pl.len(),
        "blank_prompt": blank.sum(),
        "no_chosen": pl.col("chosen").is_null().sum(),
        "same_sides": (pl.col("chosen") == pl.col("rejected")).sum(),
        "against_scores": ((difference < 0) & pl.col("chosen").is_not_null()).sum(),
        "tied": ((difference == 0) & pl.col("chosen").is_not_null()).sum(),
    }
    truth = dict.fromkeys(made.truth.columns, 0) | made.truth.sum().row(0, named=True)
    return {"broken": len(made.broken), **rows.select(**said).row(0, named=True), **truth}


def main() -> None:
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("folder", type=Path)
    read.add_argument("--pairs", type=int, default=100_000)
    read.add_argument("--seed", type=int, default=1)
    asked = read.parse_args()
    write(asked.folder, asked.pairs, asked.seed)
    print((asked.folder / "planted.json").read_text())


if __name__ == "__main__":
    main()
