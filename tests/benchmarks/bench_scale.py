"""Millions of pairs through import, check, near-duplicates, label errors, filter and exports.

    python tests/benchmarks/bench_scale.py --pairs 100000 1000000 10000000 [--folder FOLDER]

Each step is a process of its own: `prefdata check` of the pairs as Parquet, `prefdata build` of a
recipe without any model of the pairs as JSONL, some of whose lines are broken, and polars alone,
which scans, filters and sinks the same Parquet. Seconds are of the clock and of the processor; on a
machine with other work the latter are to be compared. Those of a build's parts are its manifest's.
Memory is the peak of what the processes of a step hold that is of no file. What was planted must be
found (`checked`, `built`, `separation`). Not a test: it says how long a row takes at each size, and
whether that and the memory stay within bounds.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from prefdata.tables import completion_ids, pair_ids, prompt_ids
from tests.benchmarks.scale_pairs import needed, write

GIB = 1 << 30
MEMORY, SLOWER = 6 * GIB, 1.3
WORK = 3500  # bytes a pair of a build: shards, tables and exports; two of them at once, at most
RECIPE = """
name = "scale"
seed = 1
splits.test = 0.05

[sources.pairs]
path = "data/pairs.jsonl"
columns = { rating_chosen = "score_chosen", rating_rejected = "score_rejected" }
scale = [-20, 30]
higher_is_better = true

[[stages]]
use = "select.near_duplicate"

[[stages]]
use = "estimate.label_error"
texts = "lengths"
raters = ["human:pairs"]

[[stages]]
use = "select.label_error"
share = 0.05

[[exports]]
use = "export.pairwise"

[[exports]]
use = "export.binary"

[[exports]]
use = "export.pairwise"
name = "standard"
format = "standard"
"""
YARDSTICK = """
import sys, polars as pl
rows = pl.scan_parquet(sys.argv[1])
rows.filter(pl.col("chosen").str.len_chars() > 50).sink_parquet(sys.argv[2])
"""
SAMPLE = 200_000  # rows whose pairs are looked up by their ids


@dataclass(frozen=True)
class Ran:
    """How long a process took by the clock and by the processor, what it and its children held at
    most, and what it printed."""

    seconds: float
    busy: float
    peak: int
    out: str


@dataclass
class Measured:
    """One size: seconds and peak of each step, and what is not as it was planted."""

    pairs: int
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    busy: dict[str, float] = field(default_factory=dict[str, float])
    peak: dict[str, int] = field(default_factory=dict[str, int])
    wrong: list[str] = field(default_factory=list[str])
    auc: float = 0.0


def held(root: int) -> int:
    """The bytes that a process and its descendants hold that are of no file."""
    children: dict[int, list[int]] = {}
    anonymous: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:  # it has ended
            continue
        said = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        at = int(status.parent.name)
        children.setdefault(int(said["PPid"]), []).append(at)
        kinds = (said.get(kind, "0 kB") for kind in ("RssAnon", "RssShmem"))
        anonymous[at] = sum(int(kind.split()[0]) for kind in kinds) * 1024
    whole, todo = 0, [root]
    while todo:
        at = todo.pop()
        whole += anonymous.get(at, 0)
        todo += children.get(at, [])
    return whole


def ran(*words: str | Path, cwd: Path, fails: bool = False) -> Ran:
    """Run a command to its end; `RuntimeError` where it fails."""
    start, before, peak = time.perf_counter(), _busy(), 0
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(list(map(str, words)), cwd=cwd, stdout=out, stderr=err)
        while process.poll() is None:
            peak = max(peak, held(process.pid))
            time.sleep(0.1)
        took = time.perf_counter() - start
        for each in (out, err):
            each.seek(0)
        said, why = out.read().decode(), err.read().decode()
    if process.returncode and not fails:
        raise RuntimeError(f"{words} ended with {process.returncode}: {why[-2000:]}{said[-2000:]}")
    return Ran(took, _busy() - before, peak, said)


def _busy() -> float:
    """Processor seconds of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(pairs: int, folder: Path, *, seed: int = 1, options: Sequence[str] = ()) -> Measured:
    """All steps at one size, the build with these options; `folder` is made, and has what was
    written."""
    refuse_disk(pairs, folder)
    data = folder / "data"
    found = Measured(pairs)
    start = time.perf_counter()
    write(data, pairs, seed)
    found.seconds["(made)"] = time.perf_counter() - start
    (folder / "recipe.toml").write_text(RECIPE)
    planted = json.loads((data / "planted.json").read_text())
    python = sys.executable

    def step(name: str, *words: str | Path) -> str:
        done = ran(python, *words, cwd=folder)
        found.seconds[name], found.busy[name] = done.seconds, done.busy
        found.peak[name] = done.peak
        return done.out

    step("polars alone", "-c", YARDSTICK, data / "pairs.parquet", folder / "yardstick.parquet")
    (folder / "yardstick.parquet").unlink()
    cli = ("-m", "prefdata.cli")
    said = step("check", *cli, "check", "data/pairs.parquet", "--json", "--fail-on", "never")
    found.wrong += checked(json.loads(said.splitlines()[-1]), planted)
    step("build", *cli, "build", "recipe.toml", "--data", "built", "--plain", *options)
    [path] = (folder / "built" / "versions" / "scale").glob("[0-9a-f]*")
    manifest = json.loads((path / "manifest.json").read_text())
    for kept, key in ((found.seconds, "seconds"), (found.busy, "busy")):
        parts = manifest["counts"].get(key, {})
        rest = {"version and start": kept["build"] - sum(parts.values())}
        kept |= {f"  {name}": took for name, took in (parts | rest).items()}
    found.wrong += built(manifest, path, planted)
    found.auc = separation(data, path)
    if found.auc < 0.9:
        found.wrong.append(f"swapped labels are told from others with an AUC of {found.auc:.3f}")
    return found


def refuse_disk(pairs: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted, free = needed(pairs) + pairs * WORK, shutil.disk_usage(folder).free
    print(f"{pairs:,} pairs: at most {wanted / GIB:.1f} GiB in {folder}, {free / GIB:.1f} are free")
    if wanted > free:
        raise SystemExit("there is not enough disk; give another --folder or fewer --pairs")


def checked(report: dict[str, Any], planted: dict[str, int]) -> list[str]:
    """What `prefdata check` counted otherwise than it was planted."""
    wanted = {
        "malformed": planted["blank_prompt"] + planted["no_chosen"],
        "identical": planted["same_sides"],
        "duplicates": planted["repeat"],
        "orientation": planted["against_scores"],
        "ties": planted["tied"],
        "contradictions": 0,
    }
    n = {each["check"]: each["n"] for each in report["findings"]}
    wrong = [f"{name}: {n[name]:,}, not {k:,}" for name, k in wanted.items() if n[name] != k]
    rows = sum(report["splits"].values())
    return wrong + ([f"{rows:,} rows checked"] if rows != planted["rows"] else [])


def built(manifest: dict[str, Any], path: Path, planted: dict[str, int]) -> list[str]:
    """What a version lost, or did not find."""
    faults = ("broken", "blank_prompt", "no_chosen", "same_sides")
    bad = sum(planted[name] for name in faults)
    n = {name: each["rows"] for name, each in manifest["tables"].items()}
    dropped = pl.read_parquet(path / "dropped.parquet", columns=["table", "stage"])
    by = dict(dropped.filter(pl.col("table") == "pairs").group_by("stage").len().iter_rows())
    rows = planted["rows"] + planted["broken"]
    alike = by.get("select.near_duplicate", 0)
    kept = n["pairs"] + sum(by.values())
    tests = {
        f"{manifest['quarantined']:,} rows quarantined, not {bad:,}": manifest["quarantined"]
        == bad,
        f"{n['votes']:,} votes of {rows:,} rows": n["votes"] + bad == rows,
        f"{kept:,} pairs kept or dropped": kept + planted["repeat"] == n["votes"],
        # a copy of a very short pair may be less alike than is wanted
        f"{alike:,} of {planted['near']:,} near-duplicates": 0.99 * planted["near"]
        <= alike
        <= planted["near"],
    }
    return [what for what, is_so in tests.items() if not is_so]


def separation(data: Path, path: Path) -> float:
    """The probability that a swapped pair has a higher `label_error` than another."""
    truth = pl.scan_parquet(data / "truth.parquet").head(SAMPLE).collect()
    rows = pl.scan_parquet(data / "pairs.parquet").head(SAMPLE).collect().hstack(truth)
    rows = rows.drop_nulls("chosen")
    turns = [
        [[{"role": role, "content": text}] for text in rows[name]]
        for name, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    ]
    asked = prompt_ids(turns[0]).to_list()
    one, other = (completion_ids(asked, side) for side in turns[1:])
    rows = rows.with_columns(pair_ids(one, other, "human:pairs")).unique("pair_id")
    scores = pl.scan_parquet(path / "scores.parquet").filter(pl.col("score") == "label_error")
    known = rows.lazy().join(scores, left_on="pair_id", right_on="subject_id").collect()
    rank, swapped = known["value"].rank().to_numpy(), known["swapped"].to_numpy()
    n, others = int(swapped.sum()), int((~swapped).sum())
    return float((rank[swapped].sum() - n * (n + 1) / 2) / (n * others))


def show(each: Measured, first: Measured) -> None:
    """A table of one size, and whether it is within bounds of the first."""
    print(f"\n{each.pairs:,} pairs; AUC of swapped labels {each.auc:.3f}")
    columns = ("s", "CPU s", "CPU µs a row", "x first", "GiB", "x polars")
    print(f"{'step':30}" + "".join(f"{column:>14}" for column in columns))
    for name, took in each.seconds.items():
        row = [f"{took:.1f}", "", "", "", "", ""]
        if name in each.busy:
            busy = each.busy[name] / each.pairs
            was = max(first.busy[name] / first.pairs, 1e-12)
            ruled = each.busy[name] / each.busy["polars alone"]
            row[1:] = [f"{each.busy[name]:.1f}", f"{busy * 1e6:.1f}", f"{busy / was:.2f}"]
            peak = each.peak.get(name)  # of a step, not of a part of one
            row += ["" if peak is None else f"{peak / GIB:.2f}", f"{ruled:.1f}"]
            if peak is not None and busy > SLOWER * was:
                each.wrong.append(f"{name}: a row takes {busy / was:.2f} times as long")
            if peak is not None and peak > MEMORY:
                each.wrong.append(f"{name} held more than {MEMORY / GIB:.0f} GiB")
        print(f"{name:30}" + "".join(f"{cell:>14}" for cell in row))
    print("as planted" if not each.wrong else "; ".join(["NOT as it should be", *each.wrong]))


def main() -> None:
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--pairs", type=int, nargs="+", default=[100_000])
    read.add_argument("--folder", type=Path, default=None)
    read.add_argument("--on-disk", action="store_true", help="small ones too, to be alike")
    read.add_argument("--keep", action="store_true", help="leave what was written")
    asked = read.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    home = asked.folder or Path(tempfile.mkdtemp(prefix="prefdata-scale-"))
    found: list[Measured] = []
    try:
        for pairs in sorted(asked.pairs):
            folder = home / str(pairs)
            shutil.rmtree(folder / "built", ignore_errors=True)
            found.append(measure(pairs, folder, options=["--on-disk"] if asked.on_disk else ()))
            if not asked.keep:
                shutil.rmtree(folder)
            show(found[-1], found[0])
    finally:
        if asked.folder is None and not asked.keep:
            shutil.rmtree(home, ignore_errors=True)
    print(f"load {os.getloadavg()[0]:.1f}")
    if any(each.wrong for each in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
