"""Texts of a benchmark that stand in the data: a model trained on it has seen the test.

By n-grams: a row is contaminated when it has thirteen words in a row with a text of the benchmark
in common, or when its prompt is all of a shorter text. By meaning: the cosine of the embeddings of
a prompt and a text of the benchmark is at least 0.9. By characters: near-duplicates (see `near`).

Source: Brown et al. (2020), "Language Models are Few-Shot Learners", appendix C (13-grams); Yang,
Chiang, Zheng, Gonzalez, Stoica (2023), "Rethinking Benchmark and Contamination for Language Models
with Rephrased Samples" (that rephrased samples need embeddings).
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.check import near
from prefdata.check.data import Data, plain
from prefdata.check.finding import EXAMPLES, Finding, shown, skipped

WORDS = 13
SIMILAR, COSINE = 0.8, 0.9
AT_ONCE = 20_000
PRIME = 0x9E3779B97F4A7C15

Embed = Callable[[list[str]], NDArray[np.float32]]


def contamination(data: Data, benchmark: pl.Series | None, embed: Embed | None = None) -> Finding:
    """Rows in whose prompt or completions texts of a benchmark stand.

    `benchmark` are its texts; `embed` gives unit vectors of texts, if meaning is to be compared.
    """
    if benchmark is None:
        return skipped("contamination", "no benchmark is given (--against FILE)")
    texts = plain_texts(benchmark)
    parts = [
        data.rows.select("place", text=pl.col(f"{s}_plain"))
        for s in ("prompt", "chosen", "rejected")
    ]
    said = pl.concat(parts).drop_nulls("text").filter(pl.col("text") != "")
    prompts = data.rows.select("place", text="prompt_plain").drop_nulls("text")
    exact = said.filter(_shares(said["text"], texts))["place"]
    short = [text for text in texts if len(text.split()) < WORDS]
    exact = pl.concat([exact, prompts.filter(pl.col("text").is_in(short))["place"]]).unique()
    asked = prompts["text"].unique().sort().to_list()
    close = {asked[at] for _, at, _ in near.across(texts, asked, SIMILAR)}
    meant = _alike(texts, asked, embed) if embed is not None else set[str]()
    by = {"n-gram": set(exact)}
    for name, found in (("near", close), ("embedding", meant)):
        by[name] = set(prompts.filter(pl.col("text").is_in(list(found)))["place"])
    every = set[str]().union(*by.values())
    rows = data.rows.filter(pl.col("place").is_in(list(every)))
    counts = ", ".join(f"{len(found):,} by {name}" for name, found in by.items())
    how = "" if embed else "; meaning was not compared (--embedder)"
    return Finding(
        "contamination",
        "error" if every else "ok",
        f"rows that hold one of {len(texts):,} texts of the benchmark: {counts}{how}",
        "drop their prompts before anything is generated for them" if every else "",
        len(every),
        data.rows.height,
        tuple(
            {"place": place, "text": shown(text or "")}
            for place, text in rows.select("place", "prompt_text").head(EXAMPLES).iter_rows()
        ),
        {name: len(found) for name, found in by.items()},
    )


def plain_texts(texts: pl.Series) -> list[str]:
    """The texts in plain form, once each, without those that say nothing."""
    frame = pl.DataFrame({"text": texts.drop_nulls()}).select(plain("text"))
    return frame.filter(pl.col("text") != "")["text"].unique().sort().to_list()


def _shares(texts: pl.Series, benchmark: list[str]) -> pl.Series:
    """Whether a text has thirteen words in a row with any text of the benchmark in common."""
    known = grams(pl.Series(benchmark, dtype=pl.String))["gram"].unique().implode()
    found = [pl.Series("at", [], pl.Int64)]
    for start in range(0, len(texts), AT_ONCE):
        made = grams(texts.slice(start, AT_ONCE)).filter(pl.col("gram").is_in(known))
        found.append(made["at"].unique().cast(pl.Int64) + start)
    every = pl.Series("at", range(len(texts)), pl.Int64)
    return every.is_in(pl.concat(found).implode())


def grams(texts: pl.Series, n: int = WORDS) -> pl.DataFrame:
    """`at, gram`: a 64-bit hash of every `n` words in a row of each text."""
    words = (
        pl.DataFrame({"text": texts})
        .with_row_index("at")
        .select("at", word=pl.col("text").str.extract_all(r"[\p{L}\p{N}]+"))
        .explode("word")
        .drop_nulls("word")
        .with_columns(pl.col("word").hash(seed=0))
    )
    gram = pl.lit(0, pl.UInt64)
    for k in range(n):
        gram = gram * pl.lit(PRIME, pl.UInt64) + pl.col("word").shift(-k)
    is_whole = pl.col("at") == pl.col("at").shift(1 - n)
    return words.select("at", gram=gram, whole=is_whole).filter("whole").drop("whole")


def _alike(benchmark: list[str], prompts: list[str], embed: Embed) -> set[str]:
    """The prompts that mean about what a text of the benchmark means."""
    if not benchmark or not prompts:
        return set()
    known, asked = embed(benchmark), embed(prompts)
    nearest = [
        (asked[start : start + 1000] @ known.T).max(axis=1) for start in range(0, len(asked), 1000)
    ]
    is_alike: list[bool] = (np.concatenate(nearest) >= COSINE).tolist()
    return {prompt for prompt, alike in zip(prompts, is_alike, strict=True) if alike}
