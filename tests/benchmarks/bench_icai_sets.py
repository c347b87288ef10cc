"""The synthetic sets of the ICAI paper with a real model: how often its constitution is right.

    PREFDATA_TEST_DATA=... python tests/benchmarks/bench_icai_sets.py [--pairs 30] [--data FOLDER]
        [--set models.judge.client=openai --set models.judge.model=...]

By default the packaged model of 135M parameters, which is far too small for it: its figures are
shown as they are, with 95 % intervals, beside those that the paper has for GPT-3.5-Turbo on the
pairs that it was made from (mean and spread over six seeds). "unaligned" are the aligned pairs with
all labels turned. Answers are kept in `--data`: a run that was stopped goes on where it was. Not a
test.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))
import prefdata
from tests.explain.planted import pairs_of_set

# Set, its name in the file, whether labels are turned, with a constitution, without.
SETS = (
    ("orthogonal", "orthogonal_adcbg", False, "0.867 +- 0.084", "0.378"),
    ("aligned", "aligned_vqvtb", False, "0.922", "1.000"),
    ("unaligned", "aligned_vqvtb", True, "0.844", "0.000"),
)


def sets() -> pl.DataFrame:
    named = os.environ.get("PREFDATA_TEST_DATA")
    beside = Path(__file__).resolve().parents[3].glob("*/data")
    for folder in [Path(named)] if named else sorted(beside):
        if (folder / "icai_synthetic.parquet").is_file():
            return pl.read_parquet(folder / "icai_synthetic.parquet")
    print("not at hand: icai_synthetic.parquet (PREFDATA_TEST_DATA names its folder)")
    raise SystemExit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--only", choices=[each[0] for each in SETS])
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir(), "icai-sets"))
    parser.add_argument("--set", action="append", default=[], dest="changes")
    given = parser.parse_args()
    whole = sets()
    for name, of, turned, paper, alone in SETS:
        if given.only not in (None, name):
            continue
        rows = pairs_of_set(whole.filter(pl.col("set") == of), turned=turned)
        rows = random.Random(0).sample(rows, min(given.pairs, len(rows)))
        path = given.data / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)))
        changes = [f"name=icai-{name}", f"sources.pairs.path={path.resolve()}", *given.changes]
        built = prefdata.build("icai", data=given.data, changes=changes)
        read = {each: prefdata.load(built.name, each, data=given.data)
                for each in ("measures", *({"principles"} & built.tables.keys()))}  # fmt: skip
        print(f"{name}: {len(rows)} pairs, load {os.getloadavg()[0]:.1f}; the paper: {paper} with "
              f"a constitution, {alone} without")  # fmt: skip
        for text in read.get("principles", pl.DataFrame({"principle": []}))["principle"]:
            print(f"    {text}")
        shown = pl.col("measure").str.contains("^(reconstruction|constitution|principles)_")
        for row in read["measures"].filter(shown).sort("measure", "subject").to_dicts():
            ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
            value = "null" if row["value"] is None else f"{row['value']:.3f}{ends}"
            print(f"    {row['measure']:28}{row['subject']:34}{value:26} n {row['n']}  "
                  f"{row['note'] or ''}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
