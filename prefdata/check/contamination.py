"""Texts of a benchmark that stand in the data: a model trained on it has seen the test.

By n-grams: a row is contaminated when it has thirteen words in a row with a text of the benchmark
in common, or when its prompt is all of a shorter text. By meaning: the cosine of the embeddings of
a prompt and a text of the benchmark is at least 0.9. By characters: near-duplicates (see `near`).

Source: Brown et al. (2020), "Language Models are Few-Shot Learners", appendix C (13-grams); Yang,
Chiang, Zheng, Gonzalez, Stoica (2023), "Rethinking Benchmark and Contamination for Language Models
with Rephrased Samples" (that rephrased samples need embeddings).
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.check.data import TEXTS, Whole
from prefdata.check.finding import Check, Tally, skipped
from prefdata.finding import Finding
from prefdata.select import _near as near

WORDS = 13
SIMILAR, COSINE = 0.8, 0.9
PRIME = 0x9E3779B97F4A7C15

Embed = Callable[[list[str]], NDArray[np.float32]]


def contamination(data: Whole, benchmark: pl.Series | None, embed: Embed | None = None) -> Check:
    """Rows in whose prompt or completions texts of a benchmark stand.

    `benchmark` are its texts; `embed` gives unit vectors of texts, if meaning is to be compared.
    """
    if benchmark is None:
        return skipped("contamination", "no benchmark is given (--against FILE)")
    known = _Benchmark(benchmark, embed)
    tally, counts = Tally(), Counter[str]()
    while part := (yield):
        by = known.rows(part.rows)
        counts.update({name: len(rows) for name, rows in by.items()})
        every = pl.concat(list(by.values())).unique()
        tally.add(
            part.rows.filter(pl.col("row").is_in(every.implode())), part.rows, text="prompt_text"
        )
    told = ", ".join(f"{counts[name]:,} by {name}" for name in known.ways)
    how = "" if embed else "; meaning was not compared (--embedder)"
    return Finding(
        "contamination",
        "error" if tally.n else "ok",
        f"rows that hold one of {len(known.texts):,} texts of the benchmark: {told}{how}",
        "drop their prompts before anything is generated for them" if tally.n else "",
        tally.n,
        tally.of,
        tally.examples,
        {name: counts[name] for name in known.ways},
    )


class _Benchmark:
    """The texts of a benchmark, and in which rows they stand, by each way of looking."""

    def __init__(self, texts: pl.Series, embed: Embed | None) -> None:
        self.texts = plain_texts(texts)
        self.ways = ("n-gram", "near", *(("embedding",) if embed else ()))
        self._grams = grams(self.texts)["gram"].unique()
        words = self.texts.str.count_matches(r"\S+")
        self._short = self.texts.filter(words < WORDS)
        self._signed = near.signatures(near.hashed_in_parts(self.texts))
        self._embed = embed
        self._meant = embed(self.texts.to_list()) if embed and len(self.texts) else None

    def rows(self, rows: pl.DataFrame) -> dict[str, pl.Series]:
        """The numbers of the rows that hold some text, by each way."""
        said = pl.concat([rows.select("row", text=f"{side}_plain") for side in TEXTS])
        said = said.drop_nulls("text").filter(pl.col("text") != "")
        made = grams(said["text"]).filter(pl.col("gram").is_in(self._grams.implode()))
        exact = said[made["at"].unique()]["row"]
        prompts = rows.select("row", text="prompt_plain").drop_nulls("text")
        short = prompts.filter(pl.col("text").is_in(self._short.implode()))["row"]
        asked = prompts["text"].unique().sort()
        found = {"n-gram": pl.concat([exact, short]).unique(), "near": self._near(asked)}
        if self._embed is not None:
            found["embedding"] = self._alike(asked)
        for name in self.ways[1:]:
            found[name] = prompts.filter(pl.col("text").is_in(found[name].implode()))["row"]
        return found

    def _near(self, asked: pl.Series) -> pl.Series:
        """The prompts that are nearly a text of the benchmark."""
        asked = asked.filter(asked != "")
        signed = near.signatures(near.hashed_in_parts(asked))
        found = near.alike(self.texts, asked, self._signed, signed, SIMILAR)
        return asked.gather(sorted({at for _, at, _ in found}))

    def _alike(self, asked: pl.Series) -> pl.Series:
        """The prompts that mean about what a text of the benchmark means."""
        if self._embed is None or self._meant is None or asked.is_empty():
            return asked.clear()
        vectors = self._embed(asked.to_list())
        nearest = [
            (vectors[start : start + 1000] @ self._meant.T).max(axis=1)
            for start in range(0, len(vectors), 1000)
        ]
        return asked.filter(pl.Series(np.concatenate(nearest) >= COSINE))


def plain_texts(texts: pl.Series) -> pl.Series:
    """The texts in plain form, once each, without those that say nothing."""
    said = near.plain(texts.drop_nulls())
    return said.filter(said != "").unique().sort()


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
