"""What can be seen of a row before a person is asked: its texts, and the models' votes on it.

All nine textual features of the source are here; its other tags, about what a prompt is of, are
those of `route.tags`.

Source: Miranda et al. 2024, "Hybrid Preferences: Learning to Route Instances for Human vs. AI
Feedback".
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.estimate._evidence import embed
from prefdata.estimate._named import scores_of
from prefdata.route._alike import names, rouge_l, shared_part, words
from prefdata.route._groups import prompt_of
from prefdata.route._posterior import preference
from prefdata.route._signals import by_models, signals
from prefdata.stage import Asks, Model, requests
from prefdata.tables import (
    SIDES,
    Completions,
    Pairs,
    Prompts,
    Scores,
    Votes,
    pair_ids,
    text_of,
    with_sides,
)

Floats = NDArray[np.floating[Any]]

TEXTS = ("prompt_length", "shorter", "longer", "length_difference", "rouge_l", "names_in_common")
MATCHED = ("bertscore", "bertscore_length")
VOTES = ("uncertainty", "disagreement", "swap_inconsistency", "expected_information")


def features(
    prompts: Prompts,
    completions: Completions,
    votes: Votes,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    model: Model | None = None,
    matcher: Model | None = None,
    score: str | None = None,
    annotator: str = "human",
) -> Asks[Scores]:
    """Score every row, those too that people have voted on, by what `features` of routers may be.

    Of the texts, in words: `prompt_length`, `shorter`, `longer` and `length_difference` of the two
    completions; `rouge_l`, the share of words in a common order, and `names_in_common`, that of
    capitalised words and numbers, in [0, 1]; with a model, `embedding_cosine`, in [-1, 1]; with a
    matcher, `bertscore`, how alike the completions are token by token, in [-1, 1], and
    `bertscore_length`, the same times exp(1 - longer / shorter), 0 of an empty one. Of the votes of
    models: `uncertainty`, the probability that the likelier side is not the better one,
    in [0, 1/2]; `disagreement` and `swap_inconsistency`, in [0, 1]; `expected_information`, in
    [0, ln 2]. What cannot be told, as of a single annotator, is not scored.

    Options:
    - `model`: one that embeds completions; default no cosine.
    - `matcher`: one that matches the tokens of two texts (of the client `local`, a
      sentence-transformer; it may be the model); default no BERTScore.
    - `score`: the score of pairs that is P(a preferred), `name@model` where several models gave it;
      default `preference`, as aggregates write it, else the mean verdict of the models that voted.
    - `annotator`: who will be asked; votes of its kind do not count.

    Raises `RecipeError` for a score that is not there or no probability.
    """
    where = "route.features"
    rows = (votes if pairs is None else with_sides(pairs)).select(SIDES).unique().sort(SIDES)
    rows = rows.with_columns(pair_ids(rows["completion_a"], rows["completion_b"]))
    told = signals(rows, by_models(votes, annotator))
    p = preference(told, scores, score, where)
    voted = pl.col("vote_share").is_not_null()
    told = told.with_columns(
        uncertainty=pl.when(voted).then(pl.Series(np.minimum(p, 1 - p), dtype=pl.Float64))
    )
    texts = _texts(rows, prompts, completions, votes)
    made = [_scored(told, VOTES, None), _scored(texts, TEXTS, None)]
    if model is not None:
        wanted = completions.filter(
            pl.col("completion_id").is_in(pl.concat([rows[side] for side in SIDES]).implode())
        )
        shown = wanted.sort("completion_id").select("completion_id", messages="completion")
        vectors = yield from embed(shown, model)
        made.append(_scored(_cosines(rows, vectors), ("embedding_cosine",), model.name))
    if matcher is not None:
        alike = yield from _matched(texts, completions, matcher)
        made.append(_scored(alike, MATCHED, matcher.name))
    return Scores(tables.union("scores", scores, *made, where=where))


def _texts(
    rows: pl.DataFrame, prompts: Prompts, completions: Completions, votes: Votes
) -> pl.DataFrame:
    said = completions.select("completion_id", text=text_of("completion"))
    known = prompts.select("prompt_id", prompt_length=words(text_of("prompt")).list.len())
    both = prompt_of(rows, votes).join(known, on="prompt_id", how="left", maintain_order="left")
    for side in SIDES:
        named = said.select(
            pl.col("completion_id").alias(side), pl.col("text").alias(f"{side} text")
        )
        both = both.join(named, on=side, maintain_order="left")
    a, b = (pl.col(f"{side} text") for side in SIDES)
    both = both.with_columns(
        words_a=words(a), words_b=words(b), names_in_common=shared_part(names(a), names(b))
    )
    n_a, n_b = (pl.col(name).list.len().cast(pl.Float64) for name in ("words_a", "words_b"))
    alike = [rouge_l(*two) for two in both.select("words_a", "words_b").iter_rows()]
    return both.with_columns(
        pl.Series("rouge_l", alike, pl.Float64),
        shorter=pl.min_horizontal(n_a, n_b),
        longer=pl.max_horizontal(n_a, n_b),
        length_difference=(n_a - n_b).abs(),
    )


def _cosines(rows: pl.DataFrame, vectors: pl.DataFrame) -> pl.DataFrame:
    known = vectors.select("completion_id").with_row_index("at")
    both = rows
    for side in SIDES:
        placed = known.rename({"completion_id": side, "at": f"{side} at"})
        both = both.join(placed, on=side, maintain_order="left")
    table = vectors.drop("completion_id").to_numpy().astype(np.float64)
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    a, b = (table[both[f"{side} at"].to_numpy()] for side in SIDES)
    return both.with_columns(pl.Series("embedding_cosine", (a * b).sum(1), pl.Float64))


def _matched(texts: pl.DataFrame, completions: Completions, matcher: Model) -> Asks[pl.DataFrame]:
    """The rows of which both completions are known, with `MATCHED`."""
    both = texts
    for side in SIDES:
        said = completions.select(
            pl.col("completion_id").alias(side), pl.col("completion").alias(f"{side} said")
        )
        both = both.join(said, on=side, maintain_order="left")
    a, b = (both[f"{side} said"] for side in SIDES)
    asked = requests(matcher, "bertscore", a, completion=b)
    heard = yield asked
    known = both.with_columns(asked["request_id"]).join(
        heard.select("request_id", bertscore="number"), on="request_id", maintain_order="left"
    )
    adjusted = (1 - pl.col("longer") / pl.col("shorter")).exp().fill_nan(1.0)
    return known.with_columns(bertscore_length=pl.col("bertscore") * adjusted)


def _scored(rows: pl.DataFrame, names: tuple[str, ...], model: str | None) -> pl.DataFrame:
    """A score of each row and name, where there is a value."""
    values = {name: pl.col(name).cast(pl.Float64) for name in names}
    return scores_of("pair", rows, values, model=model)
