"""How alike two texts are, without any model."""

from collections.abc import Sequence

import polars as pl

_WORD = r"[\p{L}\p{N}']+"
_NAME = r"\p{Lu}[\p{L}'-]+(?:\s+\p{Lu}[\p{L}'-]+)*|\d[\d.,]*\d|\d"


def words(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.extract_all(_WORD)


def names(text: pl.Expr) -> pl.Expr:
    """Runs of capitalised words, and numbers: what is named in a text, by its looks."""
    return text.str.extract_all(_NAME).list.unique()


def shared_part(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """The intersection of two lists of distinct values over their union; 1 of two empty ones."""
    both = one.list.set_intersection(other).list.len()
    union = one.list.len() + other.list.len() - both
    return pl.when(union > 0).then(both / union).otherwise(1.0)


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """Twice the longest common subsequence of words over their number, in [0, 1]; 1 if both empty.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries" (F of equal weights).
    """
    total = len(one) + len(other)
    return 2 * longest_common_subsequence(one, other) / total if total else 1.0


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Its length, a row of the table at a time, as the zeros of a number of as many bits as words.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    where: dict[str, int] = {}
    for at, word in enumerate(one):
        where[word] = where.get(word, 0) | 1 << at
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        rises = row & where.get(word, 0)
        row = (row + rises | row - rises) & every
    return len(one) - row.bit_count()
