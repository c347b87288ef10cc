"""What a rationale may not say, and how much of it is in the two completions.

Inside, the two are called `[CHOSEN]` and `[REJECTED]`: a rationale says nothing of where they stood
when it was written, and holds in whichever order they are shown later.
"""

import re

import polars as pl

from prefdata.explain._places import place_in

CHOSEN, REJECTED = "[CHOSEN]", "[REJECTED]"
# A tag as a model writes it that was told it once.
_TAG = re.compile(r"(?i:\[+\s*(chosen|rejected)\s*\]+)|\b(CHOSEN|REJECTED)\b")
_LABEL = re.compile(
    r"\b(?:annotator|labell?er|rater|ground[- ]truth|(?:gold|given|preference|the) label)s?\b"
    r"|\b(?:was|is|were|are|been) (?:preferred|chosen|rejected|selected|picked) by\b",
    re.IGNORECASE,
)
# Where words are not parted by spaces each sign is one.
WORD = r"\p{Han}|\p{Hiragana}|\p{Katakana}|[\p{L}\p{N}][\p{L}\p{N}'’-]*"
# A run of words that two texts do not share by chance.
GRAM = 3
COPIED = 0.5


def retagged(text: str) -> str:
    """The text with its tags as they are written here."""
    return _TAG.sub(lambda tag: CHOSEN if "CHOSEN" in tag[0].upper() else REJECTED, text)


def fault(text: str) -> str | None:
    """Why a rationale cannot stand; None: it can."""
    if CHOSEN not in text and REJECTED not in text:
        return "names neither completion by its tag"
    if found := place_in(text):
        return f"says where a completion stood: {found!r}"
    if found := _LABEL.search(text):
        return f"speaks of the label: {found[0]!r}"
    return None


def masked(text: str) -> str:
    """The rationale without its tags, so that it must tell by what it says."""
    return text.replace(CHOSEN, "the better one").replace(REJECTED, "the other one")


def overlaps(rows: pl.DataFrame) -> pl.DataFrame:
    """How much `rationale` takes of the texts `chosen` and `rejected`, row by row.

    `n_words` of the rationale; `specific`, the share of its runs of three words that are in exactly
    one of the two, null where it is shorter; `copied`, the largest share of one's runs that are in
    the rationale.
    """
    grams = {
        name: pl.col(name).str.to_lowercase().str.extract_all(WORD)
        for name in ("rationale", "chosen", "rejected")
    }
    words = rows.select(**grams)
    made = words.select(
        n_words=pl.col("rationale").list.len().cast(pl.Int64),
        **{name: _runs(name) for name in grams},
    )
    mine, one, other = (pl.col(name) for name in ("rationale", "chosen", "rejected"))
    n = mine.list.len()
    in_one, in_other = (mine.list.set_intersection(side) for side in (one, other))
    in_both = in_one.list.set_intersection(other).list.len()
    only = in_one.list.len() + in_other.list.len() - 2 * in_both
    shares = [
        pl.when(side.list.len() > 0).then(taken.list.len() / side.list.len())
        for side, taken in ((one, in_one), (other, in_other))
    ]
    return rows.with_columns(
        made.select(
            "n_words",
            specific=pl.when(n > 0).then(only / n),
            copied=pl.max_horizontal(shares).fill_null(0.0),
        )
    )


def _runs(name: str) -> pl.Expr:
    """The distinct runs of `GRAM` words of each list."""
    word = pl.element()
    joined = pl.concat_str([word, *(word.shift(-at) for at in range(1, GRAM))], separator=" ")
    return pl.col(name).list.eval(joined.drop_nulls().unique())
