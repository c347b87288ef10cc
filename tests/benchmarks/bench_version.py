"""A version of 100,000 pairs: how large its report is, how fast it opens, what commands take.

    python tests/benchmarks/bench_version.py [--pairs 100000] [--keep FOLDER]

Two versions with texts as long as those of real datasets, votes of two judges in both orders,
strengths, scores and three views; the second has other prompts in a twentieth, turned labels in a
tenth and one judge who voted otherwise. Commands are timed as a person runs them, with the start of
Python. The report is opened in Chromium without a window, at the size of a laptop and, with the
processor slowed down four times, of a phone; the times are the browser's own. Not a test.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from prefdata import tables as t
from prefdata import version
from prefdata.export.binary import binary
from prefdata.export.listwise import listwise
from prefdata.export.pairwise import pairwise
from prefdata.version import stored
from prefdata.version.card import card
from prefdata.version.page import page
from tests.benchmarks.browser import SIZES, browser, opened

Frames = dict[str, pl.DataFrame]

JUDGES = ("llm:large/helpfulness", "llm:small/helpfulness")
REASONS = (
    "the first one answers what was asked and says where it is not sure",
    "the second one is more complete, and its steps can be followed",
    "both are right, but one of them goes on long after the question is answered",
)
STAGES = ("generate.sample", "annotate.pairwise", "aggregate.bradley_terry", "pair.adjacent")


def texts(random: np.random.Generator, n: int, median: float) -> pl.Series:
    """Texts of words as frequent as in a language, with sentences, log-normally long."""
    syllables = np.array("ba de ki lo mu ne pa ri so tu va we xi yo za che sha".split())
    drawn = random.choice(syllables, (20_000, 3))
    sizes = random.integers(1, 4, 20_000)
    words = ["".join(row[:size]) for row, size in zip(drawn, sizes, strict=True)]
    ends = np.where(np.arange(20_000) % 9 == 0, ".", "")
    words = [word + end for word, end in zip(words, ends, strict=True)]
    long = np.clip(np.exp(random.normal(np.log(median), 0.6, n)), 12, 12 * median).astype(int)
    rank = np.minimum(random.zipf(1.2, long.sum()) - 1, 19_999)
    said = pl.DataFrame({"at": np.repeat(np.arange(n), long), "word": pl.Series(words)[rank]})
    return said.group_by("at", maintain_order=True).agg(pl.col("word").str.join(" ") + ".")["word"]


def messages(name: str, role: str, said: pl.Series) -> pl.Series:
    return pl.DataFrame({"text": said}).select(t.said(role, "text").alias(name)).to_series()


def world(n_pairs: int) -> Frames:
    """Two pairs a prompt, of three completions with planted strengths."""
    random = np.random.default_rng(0)
    n = n_pairs // 2
    asked = messages("prompt", "user", texts(random, n, 25))
    prompts = pl.DataFrame({"prompt_id": t.prompt_ids(asked.to_list()), "prompt": asked})
    prompts = prompts.with_columns(source=pl.lit("made-up"))
    owner = pl.Series("prompt_id", np.repeat(prompts["prompt_id"].to_numpy(), 3))
    answers = messages("completion", "assistant", texts(random, 3 * n, 90))
    ids = t.completion_ids(owner.to_list(), answers.to_list())
    completions = pl.DataFrame([ids, owner, answers])
    strength = np.sort(random.normal(0, 1, (n, 3)), axis=1)[:, ::-1].ravel()
    strengths = completions.select(
        "completion_id",
        "prompt_id",
        estimator=pl.lit("bradley_terry"),
        strength=pl.Series(strength),
    )
    best = pl.int_range(pl.len()) // 3 * 3
    other = strengths.with_columns(best=pl.col("completion_id").gather(best)).with_columns(
        margin=pl.col("strength").gather(best) - pl.col("strength")
    )
    pairs = other.filter(pl.col("best") != pl.col("completion_id")).select(
        "prompt_id", "margin", chosen_id="best", rejected_id="completion_id",
        soft_label=1 / (1 + (-pl.col("margin")).exp()), n_votes=4,
    )  # fmt: skip
    pairs = pairs.with_columns(t.pair_ids(pairs["chosen_id"], pairs["rejected_id"]))
    generators = pl.Series([f"writer-{at}" for at in range(4)])
    samples = completions.select(
        "completion_id", "prompt_id", draw=0, finish_reason=pl.lit("stop"),
        generator=generators.gather(random.integers(0, 4, 3 * n)),
    )  # fmt: skip
    scores = pl.concat(
        pairs.select(
            subject_id="pair_id", subject=pl.lit("pair"), score=pl.lit(name),
            model=pl.lit("small-lm"), value=pl.Series(random.normal(-9, 4, pairs.height)),
        )
        for name in ("ln_ches", "ches")
    )  # fmt: skip
    return {
        "prompts": prompts, "completions": completions, "samples": samples,
        "votes": votes(random, pairs), "strengths": strengths, "pairs": pairs, "scores": scores,
        "dropped": dropped(completions["completion_id"]),
    }  # fmt: skip


def dropped(ids: pl.Series) -> pl.DataFrame:
    """The pair of the two worse completions, of every third prompt."""
    keys = t.pair_ids(ids.gather_every(9, 1), ids.gather_every(9, 2))
    return pl.DataFrame({"key": keys}).with_columns(
        table=pl.lit("pairs"), stage=pl.lit("select.margin"), reason=pl.lit("filtered")
    )


def votes(random: np.random.Generator, pairs: pl.DataFrame) -> pl.DataFrame:
    """Two judges, both orders, wrong in a fifth and a third."""
    sided = t.with_sides(pairs)
    made: list[pl.DataFrame] = []
    for judge, wrong in zip(JUDGES, (0.2, 0.33), strict=True):
        for first in (True, False):
            turned = pl.Series(random.random(pairs.height) < wrong)
            why = pl.Series(REASONS).gather(random.integers(0, len(REASONS), pairs.height))
            rows = sided.select(
                "prompt_id", *t.SIDES, annotator=pl.lit(judge), criterion=pl.lit("helpfulness"),
                draw=0, a_first=pl.lit(first), rationale=why,
                preference=(pl.col("a_chosen") != turned).cast(pl.Float64),
                request_id=pl.col("pair_id").str.reverse(),
            )  # fmt: skip
            made.append(rows)
    return pl.concat(made)


def changed(frames: Frames) -> Frames:
    """What another build may give: prompts gone, labels turned, a judge who says otherwise."""
    gone = frames["prompts"]["prompt_id"].gather_every(20).implode()
    kept = {
        name: rows.filter(~pl.col("prompt_id").is_in(gone)) if "prompt_id" in rows.columns else rows
        for name, rows in frames.items()
    }
    turned = pl.int_range(pl.len()) % 10 == 0
    sides = [pl.when(turned).then(b).otherwise(a).alias(a)
             for a, b in (("chosen_id", "rejected_id"), ("rejected_id", "chosen_id"))]  # fmt: skip
    is_other = (pl.col("annotator") == JUDGES[1]) & (pl.int_range(pl.len()) % 3 == 0)
    said = pl.when(is_other).then(1 - pl.col("preference")).otherwise("preference")
    return {
        **kept,
        "pairs": kept["pairs"].with_columns(sides),
        "votes": kept["votes"].with_columns(said.alias("preference")),
    }


def timed(what: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return what(), time.perf_counter() - start


def line(name: str, seconds: float, more: str = "") -> None:
    print(f"{name:<34}{seconds:8.2f} s  {more}", flush=True)


def write(data: Path, name: str, frames: Frames, margin: float) -> Path:
    exports: Frames = {}
    for view, make in (("pairwise", pairwise), ("binary", binary), ("listwise", listwise)):
        needs = {"listwise": ("prompts", "completions", "strengths")}
        read = [frames[each] for each in needs.get(view, ("prompts", "completions", "pairs"))]
        exports[view], took = timed(lambda: make(*read))  # noqa: B023
        line(f"export.{view}", took, f"{exports[view].height:,} rows")
    flows = [{"use": use, "stage": use, "table": "pairs", "in": frames["pairs"].height,
              "out": frames["pairs"].height, "dropped": 0} for use in STAGES]  # fmt: skip
    stages = [{"use": "select.margin", "min_margin": margin}]
    written, took = timed(
        lambda: version.write(
            data, name, tables=frames, exports=exports, recipe_text="name = 'many'",
            resolved={"stages": stages}, counts={"stages": flows}, splits={"test": 0.05},
        )
    )  # fmt: skip
    size = sum(each.stat().st_size for each in written.path.rglob("*") if each.is_file())
    line("version.write", took, f"{size / 1e6:,.0f} MB in all")
    return written.path


def command(data: Path, *words: str, folder: Path | None = None) -> tuple[float, str]:
    """What a command takes, from its start to its end, and what it said."""
    asked = [sys.executable, "-m", "prefdata.cli", *words, "--data", str(data)]
    start = time.perf_counter()
    ran = subprocess.run(asked, capture_output=True, text=True, cwd=folder)
    took = time.perf_counter() - start
    if ran.returncode not in (0, 1) or "rror" in ran.stderr:
        raise SystemExit(f"{' '.join(words)}: {ran.stderr[-2000:]}")
    return took, ran.stdout


def measure(data: Path, n_pairs: int) -> None:
    frames, took = timed(lambda: {k: t.check(k, v, where="b") for k, v in world(n_pairs).items()})
    line("(planting the world)", took)
    first = write(data, "many", frames, 0.1)
    second = write(data, "many", changed(frames), 0.2)
    manifest = stored.at_path(first).manifest
    _, took = timed(lambda: page(manifest, frames))
    size = (first / "report.html").stat().st_size
    line("report.html made", took, f"{size / 1e6:.2f} MB")
    line("README.md made", timed(lambda: card(manifest, frames, "name = 'many'"))[1])
    one, other = f"many@{first.name}", f"many@{second.name}"
    row = frames["pairs"]["pair_id"][n_pairs // 2]
    lost = frames["dropped"]["key"][0]
    asked = frames["prompts"]["prompt_id"][7]
    for words in (
        ["list"], ["show", one], ["diff", one, other], ["diff", one, other, "--json"],
        ["explain", one, row], ["explain", row], ["explain", one, asked],
        ["explain", one, lost], ["check", one], ["tag", one, "v1"], ["gc"],
    ):  # fmt: skip
        took, said = command(data, *words)
        more = ""
        if words[0] == "diff" and "--json" in words:
            told = json.loads(said.splitlines()[-1])
            more = ", ".join(f"{len(told[k]):,} {k}" for k in ("added", "removed", "flipped"))
        line(f"prefdata {' '.join(words)[:24]}", took, more)
    report = first / "report.html"
    with browser() as port:
        for name in SIZES:
            found = opened(port, report.as_uri(), name)
            said = ", ".join(f"{k} {v:,.0f} ms" for k, v in found.items())
            print(f"report.html, {name:<20} {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="where the versions stay")
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {asked.pairs:,} pairs")
    if asked.keep:
        measure(asked.keep, asked.pairs)
    else:
        with tempfile.TemporaryDirectory() as place:
            measure(Path(place), asked.pairs)
    most = (resource.getrusage(who).ru_maxrss / 2**20
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # fmt: skip
    print("at most {:.2f} GiB here and {:.2f} GiB in a command".format(*most))
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
