"""What can be known of a pair without its label, as differences of its two completions.

Rows are oriented by the ids, `completion_a` (the smaller) less `completion_b`, so that no column
can know which side was chosen; `chose_a` is the label. Columns come in blocks, each brought to one
scale: traits of the texts, their spelling, embeddings, scores of pairs and votes of annotators.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.estimate._given import Floats, by_completion, given, named, refuse_unknown
from prefdata.estimate._spelling import spelling
from prefdata.stage import Asks, Model, requests
from prefdata.tables import (
    Completions,
    Pairs,
    Prompts,
    Ratings,
    Scores,
    Votes,
    text_of,
    with_sides,
)

Ints = NDArray[np.int64]


Seen = Literal["all", "lengths", "none"]  # of the texts


@dataclass(frozen=True)
class Evidence:
    """`x` is (pairs, columns), `block` names the block of each column by its number.

    `groups` are numbers of what must not stand on both sides of a fold: a prompt, or a group of
    prompts.
    """

    pairs: pl.DataFrame
    x: Floats
    block: Ints
    chose_a: NDArray[np.bool_]
    groups: Ints

    @property
    def sign(self) -> Floats:
        """1 where a was chosen, -1 where b was."""
        return np.where(self.chose_a, 1.0, -1.0)


def gather(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    scores: Scores | None,
    votes: Votes | None,
    *,
    model: Model | None,
    with_prompt: bool,
    margins: Sequence[str],
    annotators: Sequence[str],
    ratings: Ratings | None = None,
    raters: Sequence[str] = (),
    texts: Seen = "all",
) -> Asks[Evidence]:
    """The evidence about pairs. A pair of which some part is unknown has 0 there: no difference.

    `model` embeds the completions (`with_prompt`: below their prompts); `margins` are scores of
    pairs that are higher where the chosen side is better; `annotators` are those whose votes count,
    `raters` those whose ratings do; `texts` is what of the texts is evidence.
    """
    refuse_unknown(named(scores, votes, ratings), margins, annotators, raters)
    rows = oriented(pairs, prompts)
    parts: list[Floats] = []
    if texts == "all":
        said = texts_in(rows, completions)
        parts.append(scaled(by_completion(rows, counted(said)), each_column=True))
        parts.append(scaled(by_completion(rows, spelling(said)), each_column=False))
    elif texts == "lengths":
        parts.append(scaled(lengths(rows, completions), each_column=True))
    if model is not None:
        vectors = yield from _embedded(rows, prompts, completions, model, with_prompt)
        apart = by_completion(rows, vectors)
        parts.append(scaled(apart, each_column=apart.shape[1] < 64))
    blocks = given(rows, scores, votes, ratings, margins, annotators, raters)
    parts += [scaled(part, each_column=True) for part in blocks.values()]
    parts = [part for part in parts if part.size]
    x = np.hstack(parts) if parts else np.zeros((rows.height, 0))
    block = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts]).astype(np.int64)
    groups = rows["group"].rank("dense").to_numpy().astype(np.int64) - 1
    return Evidence(rows, x, block, rows["chose_a"].to_numpy(), groups)


def oriented(pairs: Pairs, prompts: Prompts) -> pl.DataFrame:
    """`pair_id, prompt_id, completion_a, completion_b, chose_a, group`, by `pair_id`."""
    group = prompts.select("prompt_id", group=pl.coalesce("group", "prompt_id"))
    return (
        with_sides(pairs)
        .sort("pair_id")
        .join(group, on="prompt_id", how="left", maintain_order="left")
        .select(
            "pair_id",
            "prompt_id",
            "completion_a",
            "completion_b",
            chose_a="a_chosen",
            group=pl.coalesce("group", "prompt_id", "pair_id"),
        )
    )


def _wanted(rows: pl.DataFrame, completions: Completions) -> pl.DataFrame:
    """The completions that are in a pair, by their ids."""
    ids = pl.concat([rows["completion_a"], rows["completion_b"]]).unique()
    wanted = completions.filter(pl.col("completion_id").is_in(ids.implode()))
    return wanted.sort("completion_id")


def texts_in(rows: pl.DataFrame, completions: Completions) -> pl.DataFrame:
    return _wanted(rows, completions).select("completion_id", text=text_of("completion"))


def lengths(rows: pl.DataFrame, completions: Completions) -> Floats:
    """How many characters and words a has more than b, as differences of logarithms."""
    words = pl.col("text").str.count_matches(r"[\p{L}\p{N}']+")
    counts = texts_in(rows, completions).select(
        "completion_id", n=pl.col("text").str.len_chars().log1p(), words=words.log1p()
    )
    return by_completion(rows, counts)


def counted(texts: pl.DataFrame) -> pl.DataFrame:
    """What can be counted in each text."""
    frame = texts.with_columns(
        words=pl.col("text").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}']+"),
        n=pl.col("text").str.len_chars(),
    )
    text, words, n_words = pl.col("text"), pl.col("words"), pl.col("words").list.len()
    lengths = words.list.eval(pl.element().str.len_chars())

    def count(pattern: str) -> pl.Expr:
        return text.str.count_matches(pattern).log1p()

    return frame.select(
        "completion_id",
        characters=pl.col("n").log1p(),
        words=n_words.log1p(),
        vocabulary=words.list.n_unique().log1p(),
        variety=words.list.n_unique() / (n_words + 1),
        word_length=lengths.list.mean(),
        long_words=lengths.list.eval(pl.element() >= 8).list.sum().log1p(),
        sentences=count(r"[.!?]+"),
        commas=count(","),
        questions=count(r"\?"),
        exclamations=count("!"),
        quotes=count('["“”]'),
        digits=count(r"\d"),
        lines=count("\n"),
        lists=count(r"(?m)^\s*(?:[-*•]|\d+[.)])\s"),
        emphasis=count(r"\*\*|^#|`"),
        shouting=count(r"\b\p{Lu}{3,}\b"),
        first_person=count(r"(?i)\b(?:i|me|my|u|ur)\b"),
        capitals=text.str.count_matches(r"\p{Lu}") / (pl.col("n") + 1),
        small_start=text.str.contains(r"^\s*\p{Ll}").cast(pl.Float64),
        finished=text.str.contains(r"[.!?\"”)`]\s*$").cast(pl.Float64),
    )


def _embedded(
    rows: pl.DataFrame,
    prompts: Prompts,
    completions: Completions,
    model: Model,
    with_prompt: bool,
) -> Asks[pl.DataFrame]:
    own = prompts.select("prompt_id", "prompt")
    shown = _wanted(rows, completions).join(own, on="prompt_id", how="left", maintain_order="left")
    whole = pl.col("prompt").list.concat("completion") if with_prompt else pl.col("completion")
    return (yield from embed(shown.select("completion_id", messages=whole), model))


def embed(shown: pl.DataFrame, model: Model) -> Asks[pl.DataFrame]:
    """The vectors of conversations as columns beside the others of `shown`; failed ones are left
    out, and so is what is longer than the shortest vector."""
    asked = requests(model, "embedding", shown["messages"])
    responses = yield asked
    known = (
        shown.drop("messages")
        .with_columns(asked["request_id"])
        .join(responses.select("request_id", "vector"), on="request_id", maintain_order="left")
        .filter(pl.col("vector").list.len() > 0)
    )
    width = int(known["vector"].list.len().min() or 0)  # pyright: ignore[reportArgumentType]
    columns = (pl.col("vector").list.get(at).alias(f"e{at}") for at in range(width))
    return known.select(pl.exclude("request_id", "vector"), *columns)


def scaled(part: Floats, *, each_column: bool) -> Floats:
    """A root mean square of 1 for each column, or for the block: a, b swapped, it stays the same.

    The columns of an embedding keep their proportions.
    """
    if not part.size:
        return part
    size = np.sqrt((part**2).mean(0, keepdims=True) if each_column else (part**2).mean())
    return part / np.where(size > 1e-12, size, 1.0)


def folds(groups: Ints, n: int, seed: int) -> Ints:
    """The fold of each row: whole groups, dealt out to and fro, the largest first."""
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    turn = np.arange(len(order)) % (2 * n)
    place = np.zeros(len(sizes), np.int64)
    place[order] = np.where(turn < n, turn, 2 * n - 1 - turn)
    return place[groups]
