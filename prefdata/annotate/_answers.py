"""The answer that a text gives, and whether it is the reference: see `annotate.exact_match`."""

import re
import unicodedata
from fractions import Fraction
from typing import Literal

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


def found(text: str | None, reference: str, find: Find) -> str | None:
    """The answer that a text gives, as it stands there."""
    said = (text or "").replace("−", "-")
    if find == "whole":
        return plain(said) or None
    boxed: list[str] = _BOXED.findall(said)
    if boxed:
        return boxed[-1].strip()
    said = _OPERATOR.sub(r"\1", _CONTRAST.sub("", _EMPHASIS.sub("", said)))
    clauses = [clause for clause in _CUT.split(said) if clause.strip()]
    if find == "number" or (find == "auto" and number(reference) is not None):
        return _last_number(clauses)
    return reference if _asserted(clauses, plain(reference)) else None


def right(said: str | None, reference: str) -> float:
    if said is None:
        return 0.0
    value = number(said)
    if value is not None:
        return float(value == number(reference))
    return float(plain(said) == plain(reference))


def plain(text: str) -> str:
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
