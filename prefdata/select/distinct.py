"""Pairs whose two texts really differ, also in what a trainer's longest sequence leaves of them."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from prefdata.errors import RecipeError, TableError
from prefdata.estimate._sides import SIDES, ask_about, beside, completions_in, parts
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Dropped, Pairs, Prompts, text_of


def distinct(
    pairs: Pairs,
    completions: Completions,
    prompts: Prompts | None = None,
    *,
    min_characters: int = 1,
    case_counts: bool = True,
    tokenizer: Model | None = None,
    max_length: int | None = None,
) -> Asks[tuple[Pairs, Dropped]]:
    """Keep the pairs whose sides differ in more than spelling and are not empty, unchanged.

    The text of a completion is that of its messages. Two texts are the same when they are equal
    after Unicode's compatibility composition (NFKC), without invisible format characters, and with
    every run of white space as one blank. A text is near-empty when it has fewer than
    `min_characters` letters, digits and symbols (emoji among them): blanks and punctuation do not
    count.

    With a tokenizer and a length, also what is left must differ once prompt and completion, in the
    model's chat template, are cut off after `max_length` tokens. Dropped are pairs of which a side
    has no token left, whose sides became identical, and where one became the beginning of the
    other: what the longer one said beyond it is cut off, and the pair teaches only not to stop.
    A pair that cannot be read into tokens is dropped too. Each reason is in `dropped`.

    Options:
    - `min_characters`: the fewest that each side must have; 1 refuses what says nothing at all.
    - `case_counts`: whether texts that differ only in upper and lower case differ.
    - `tokenizer`: the model to be trained, of which only the tokenizer is asked.
    - `max_length`: the most tokens of prompt and completion that its trainer takes, at least 1.

    Raises `TableError` for a pair whose completion is not in `completions`, and `RecipeError` for
    `min_characters` below 0, and for one of `tokenizer` and `max_length` without the other.

    Source: Unicode Standard Annex 15 for NFKC; TRL's DPOTrainer for `max_length`.
    """
    if min_characters < 0:
        raise RecipeError(f"select.distinct: min_characters is {min_characters}; give at least 0")
    if (tokenizer is None) != (max_length is None) or (max_length is not None and max_length < 1):
        raise RecipeError(
            f"select.distinct: max_length is {max_length}, tokenizer "
            f"{tokenizer.role if tokenizer else None}; give both, the length at least 1, or none"
        )
    known = _texts(pairs, completions, case_counts)
    said = _told(pairs, known, _in_words(min_characters))
    if tokenizer is not None and max_length is not None:
        if prompts is None:
            raise TableError("select.distinct: there are no prompts to put before completions")
        left = Pairs(pairs.filter(said["reason"].is_null()))
        more = yield from _cut(left, completions, prompts, tokenizer, max_length)
        said = said.join(more, on="pair_id", how="left", maintain_order="left")
        said = said.select("pair_id", reason=pl.coalesce("reason", "reason_right"))
    dropped = said.drop_nulls("reason").select(
        pl.lit("pairs").alias("table"),
        pl.col("pair_id").alias("key"),
        pl.lit("select.distinct").alias("stage"),
        "reason",
    )
    return Pairs(pairs.filter(said["reason"].is_null())), Dropped(dropped)


def _told(pairs: Pairs, known: pl.DataFrame, reason: pl.Expr) -> pl.DataFrame:
    """`pair_id, reason` in the order of the pairs, from what is known of either side."""
    rows = beside(pairs, known.with_columns(is_known=pl.lit(True)), how="left")
    for side in SIDES:
        lost = rows.filter(pl.col(f"is_known_{side}").is_null())[f"{side}_id"].to_list()
        if lost:
            raise TableError(
                f"select.distinct: {len(lost)} pairs have a {side}_id that is not in completions, "
                f"first {lost[:3]}"
            )
    return rows.select("pair_id", reason=reason)


def _in_words(min_characters: int) -> pl.Expr:
    fewest = pl.min_horizontal("n_chosen", "n_rejected") < min_characters
    same = pl.col("text_chosen") == pl.col("text_rejected")
    return (
        pl.when(fewest)
        .then(pl.lit("a side says nothing" if min_characters == 1 else "a side is near-empty"))
        .when(same)
        .then(pl.lit("both sides say the same"))
    )


def _texts(pairs: Pairs, completions: Completions, case_counts: bool) -> pl.DataFrame:
    """The normal form of each paired completion's text, and how many characters say something."""
    text = text_of("completion").str.normalize("NFKC")
    text = text.str.replace_all(r"\p{Cf}+", "")
    text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    if not case_counts:
        text = text.str.to_lowercase()
    return (
        completions_in(pairs, completions)
        .select("completion_id", text=text)
        .with_columns(n=pl.col("text").str.count_matches(r"[\p{L}\p{N}\p{S}]"))
    )


def _cut(
    pairs: Pairs, completions: Completions, prompts: Prompts, tokenizer: Model, max_length: int
) -> Asks[pl.DataFrame]:
    """`pair_id, reason` of pairs cut off after `max_length` tokens."""
    told = [pl.DataFrame(schema={"pair_id": pl.String, "reason": pl.String})]
    wanted: list[tuple[str, Mapping[str, Any]]] = [("tokens", {"ids": True})]
    for part in parts(pairs):
        shown = completions_in(part, completions)
        [read] = yield from ask_about(prompts, shown, tokenizer, wanted)
        n = pl.col("number").cast(pl.Int64)
        room = (max_length - (pl.col("tokens_in") - n)).clip(0)
        own = pl.col("token_ids").list.tail(n)
        known = read.select(
            "completion_id",
            "error",
            whole=own.list.len(),
            left=own.list.head(room),
        )
        told.append(_told(part, known, _in_tokens(max_length)))
    return pl.concat(told)


def _in_tokens(max_length: int) -> pl.Expr:
    one, other = (pl.col(f"left_{side}") for side in SIDES)
    shorter = pl.min_horizontal(one.list.len(), other.list.len())
    is_cut = pl.any_horizontal(
        pl.col(f"whole_{side}") > pl.col(f"left_{side}").list.len() for side in SIDES
    )
    begins_alike = one.list.head(shorter) == other.list.head(shorter)
    within = f"within {max_length} tokens"
    return (
        pl.when(one.is_null() | other.is_null())
        .then(
            pl.format(
                "the tokenizer gave no tokens: {}",
                pl.coalesce("error_chosen", "error_rejected", pl.lit("no reason was given")),
            )
        )
        .when(shorter == 0)
        .then(pl.lit(f"a side is empty {within}"))
        .when(one == other)
        .then(pl.lit(f"both sides are the same {within}"))
        .when(begins_alike & is_cut)
        .then(pl.lit(f"one side is the beginning of the other {within}, the rest is cut off"))
    )
