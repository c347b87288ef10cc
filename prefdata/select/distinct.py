"""Pairs whose two texts really differ."""

import polars as pl

from prefdata.errors import RecipeError, TableError
from prefdata.tables import Completions, Pairs


def distinct(
    pairs: Pairs, completions: Completions, *, min_characters: int = 1, case_counts: bool = True
) -> Pairs:
    """Keep the pairs whose sides differ in more than spelling and are not empty, unchanged.

    The text of a completion is that of its messages. Two texts are the same when they are equal
    after Unicode's compatibility composition (NFKC), without invisible format characters, and with
    every run of white space as one blank. A text is near-empty when it has fewer than
    `min_characters` letters, digits and symbols (emoji among them): blanks and punctuation do not
    count.

    Options:
    - `min_characters`: the fewest that each side must have; 1 refuses what says nothing at all.
    - `case_counts`: whether texts that differ only in upper and lower case differ.

    Raises `TableError` for a pair whose completion is not in `completions`, and `RecipeError` for
    `min_characters` below 0.

    Source: Unicode Standard Annex 15 for NFKC.
    """
    if min_characters < 0:
        raise RecipeError(f"select.distinct: min_characters is {min_characters}; give at least 0")
    texts = _texts(pairs, completions, case_counts)
    sides = pairs.with_row_index("row")
    for side in ("chosen", "rejected"):
        named = texts.rename({"completion_id": f"{side}_id", "text": side, "n": f"n_{side}"})
        sides = sides.join(named, on=f"{side}_id", how="left", maintain_order="left")
        lost = sides.filter(pl.col(side).is_null())[f"{side}_id"].to_list()
        if lost:
            raise TableError(
                f"select.distinct: {len(lost)} pairs have a {side}_id that is not in completions, "
                f"first {lost[:3]}"
            )
    enough = pl.min_horizontal("n_chosen", "n_rejected") >= min_characters
    kept = sides.filter((pl.col("chosen") != pl.col("rejected")) & enough)
    return Pairs(pairs[kept["row"]])


def _texts(pairs: Pairs, completions: Completions, case_counts: bool) -> pl.DataFrame:
    """The normal form of each paired completion's text, and how many characters say something."""
    wanted = pl.concat([pairs["chosen_id"], pairs["rejected_id"]]).unique()
    content = pl.col("completion").list.eval(pl.element().struct.field("content"))
    text = content.list.join("\n").str.normalize("NFKC")
    text = text.str.replace_all(r"\p{Cf}+", "")
    text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    if not case_counts:
        text = text.str.to_lowercase()
    return (
        completions.filter(pl.col("completion_id").is_in(wanted.implode()))
        .select("completion_id", text=text)
        .with_columns(n=pl.col("text").str.count_matches(r"[\p{L}\p{N}\p{S}]"))
    )
