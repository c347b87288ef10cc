"""Rate completions of prompts that have a known right answer by looking for it, without a model.

A text is read in clauses: it is cut at line ends, at "but", and after . , ; ! ? before a space. A
clause that asks ("... ?"), doubts or denies ("not", "wrong", "or", "than", ...) answers nothing;
", not X" is left out as a contrast. Compared are texts in lower case, with single spaces, without
emphasis (* _ ` ~ $ and backslashes) and without punctuation around words.

Numbers are compared as numbers: "1,200", "$1200", "1200.0" and "1200%" are equal, and so are 1/2
and 0.5; "112", "1.2", "-12", "12cm", "12:30", "10^12" and "12-15" are not 12. No unit is
converted, and a number is written in digits.

It errs to one side: what it rates 1 says the right answer; an answer in odd words may be rated 0.
"""

import re
import unicodedata
from fractions import Fraction
from typing import Literal

import polars as pl

from prefdata import tables
from prefdata.tables import Completions, Prompts, Ratings

Find = Literal["auto", "number", "words", "whole"]

_EMPHASIS = re.compile(r"(?<!\d)[*_`~$\\]+(?=\S)|(?<=\S)[*_`~$\\]+(?!\d)")
_OPERATOR = re.compile(r"(?<=\d)[ \t]*([-+*/×÷^]|x(?=[ \t]))[ \t]*(?=\d)")
_EDGES = " \t,;:!?\"'“”‘’«»()[]{}<>"
_CONTRAST = re.compile(r",\s*(?:and\s+)?not\b[^,.;!?\n]*", re.IGNORECASE)
_CUT = re.compile(r"\n+|(?<=[.,;!?])(?=\s)|\bbut\b", re.IGNORECASE)
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|no|cannot|wrong|incorrect|false|except|unlike|instead|rather"
    r"|than|between|either|or|if|maybe|perhaps)\b|n['’]t\b",
    re.IGNORECASE,
)
_RETRACTS = re.compile(r"\b(?:wrong|incorrect|mistaken?)\b", re.IGNORECASE)
_MARK = re.compile(
    r"####|\b(?:answer|result|solution)\b[^\d\n]{0,40}?(?:[:=]|\bis\b)", re.IGNORECASE
)
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)|[+-]?\d+/0*[1-9]\d*")


def exact_match(prompts: Prompts, completions: Completions, *, find: Find = "auto") -> Ratings:
    """Ratings by `rule:exact_match` on the criterion "correctness": 1 the reference, 0 not.

    Prompts without a reference give no row. `raw` is the answer that was found, null for none.

    find: where the answer is looked for. "number": the last number of the first clause after
        "####", "answer is", "result:" or the like that has one, else the last number of the text;
        or what is boxed. "words": the first clause that mentions the reference as whole words must
        assert it. "whole": the whole completion is the reference. "auto": "number" for a reference
        that is a number, else "words".

    Source: the last number as the answer follows Cobbe et al. 2021, "Training verifiers to solve
    math word problems"; the rules against denials are our own.
    """
    references = prompts.select("prompt_id", "reference").drop_nulls("reference")
    references = references.filter(pl.col("reference").str.strip_chars() != "")
    rows = completions.join(references, on="prompt_id").select(
        "prompt_id",
        "completion_id",
        "reference",
        pl.col("completion").list.last().struct["content"],
    )
    pairs = rows.select("content", "reference").rows()
    found = [_found(text, reference, find) for text, reference in pairs]
    right = [_right(raw, pair[1]) for raw, pair in zip(found, pairs, strict=True)]
    ratings = rows.with_columns(
        pl.Series("raw", found, pl.String),
        pl.Series("rating", right, pl.Float64),
        annotator=pl.lit("rule:exact_match"),
        criterion=pl.lit("correctness"),
        draw=pl.lit(0, pl.Int64),
        rationale=pl.lit(None, pl.String),
        unscored=pl.lit(None, pl.String),
        request_id=pl.lit(None, pl.String),
    )
    return Ratings(ratings.select(*tables.schema("ratings").columns))


def _found(text: str | None, reference: str, find: Find) -> str | None:
    """The answer that a text gives, as it stands there."""
    said = (text or "").replace("−", "-")
    if find == "whole":
        return _plain(said) or None
    boxed: list[str] = _BOXED.findall(said)
    if boxed:
        return boxed[-1].strip()
    said = _OPERATOR.sub(r"\1", _CONTRAST.sub("", _EMPHASIS.sub("", said)))
    clauses = [clause for clause in _CUT.split(said) if clause.strip()]
    if find == "number" or (find == "auto" and number(reference) is not None):
        return _last_number(clauses)
    return reference if _asserted(clauses, _plain(reference)) else None


def _right(found: str | None, reference: str) -> float:
    if found is None:
        return 0.0
    value = number(found)
    if value is not None:
        return float(value == number(reference))
    return float(_plain(found) == _plain(reference))


def _plain(text: str) -> str:
    text = _EMPHASIS.sub("", unicodedata.normalize("NFC", text).casefold())
    return _bare(" ".join(text.split()))


def _bare(text: str) -> str:
    """Without punctuation around it, but for the point of ".5"."""
    return text.strip(_EDGES).rstrip("." + _EDGES)


def number(word: str) -> Fraction | None:
    """The number that a word is, or None; a currency sign before and a % after it are allowed."""
    bare = _bare(_EMPHASIS.sub("", word)).lstrip("€£¥").rstrip("% ")
    if _THOUSANDS.fullmatch(bare):
        bare = bare.replace(",", "")
    return Fraction(bare) if _NUMBER.fullmatch(bare) else None


def _last_number(clauses: list[str]) -> str | None:
    marked = [at for at, clause in enumerate(clauses) if _MARK.search(clause)]
    numbered = [at for at, clause in enumerate(clauses) if re.search(r"\d", clause)]
    if marked:
        numbered = [at for at in numbered if at >= marked[-1]][:1]
    if not numbered:
        return None
    at = numbered[-1]
    if _doubtful(clauses[at]) or any(map(_RETRACTS.search, clauses[at + 1 :])):
        return None
    words = [word for word in re.split(r"[\s=≈]+", clauses[at]) if re.search(r"\d", word)]
    return _bare(words[-1])


def _asserted(clauses: list[str], reference: str) -> bool:
    words = re.compile(rf"(?<![\w.,/-])(?<!\d ){re.escape(reference)}(?![\w/-]|[.,]\w)")
    for clause in clauses:
        if words.search(" ".join(clause.casefold().split())):
            return not _doubtful(clause)
    return False


def _doubtful(clause: str) -> bool:
    return clause.rstrip().endswith("?") or _DENIES.search(clause) is not None
