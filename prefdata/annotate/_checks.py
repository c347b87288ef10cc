"""What can be checked of a text without a model; each check gives true, false or a reason.

A check takes the texts and one value (what is wanted) and gives a table of `met` and `unscored`:
null and the reason where nothing can be said. Patterns run on Rust's regex, whose time is linear in
the text whatever the pattern: none can hang. It has no look-around and no back-references.

Source: the instructions follow Zhou et al. 2023, "Instruction-following evaluation for large
language models".
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, cast

import polars as pl

from prefdata.annotate import _answers
from prefdata.errors import RecipeError

Check = Callable[[pl.Series, Any], pl.DataFrame]
# A text with fewer letters does not show its language.
FEWEST_LETTERS = 20
# What is longer, or nested deeper, is not read as JSON.
MOST_CHARACTERS = 200_000
_FENCED = re.compile(r"```[A-Za-z0-9]*[ \t]*\n(.*)\n```", re.DOTALL)


class Unusable(Exception):
    """A check's value means nothing to it."""


def answer(find: _answers.Find) -> Check:
    def check(texts: pl.Series, wanted: Any) -> pl.DataFrame:
        if not isinstance(wanted, str) or not wanted.strip():
            raise Unusable("expected a text, the right answer")
        said = (_answers.found(text, wanted, find) for text in texts)
        return _told([bool(_answers.right(each, wanted)) for each in said])

    return check


def pattern(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    """The pattern is found in the text."""
    return _told(texts.str.contains(linear(wanted)))


def linear(wanted: Any) -> str:
    """A pattern that Rust's regex takes; `Unusable` where it does not, with what is wrong where.

    The engine that will run it is asked, not Python's, which takes what can hang.
    """
    if not isinstance(wanted, str):
        raise Unusable("expected a regular expression")
    try:
        pl.Series([""]).str.contains(wanted)
    except pl.exceptions.ComputeError as error:
        raise Unusable(f"no regular expression of linear time: {_wrong(str(error))}") from None
    return wanted


def _wrong(complaint: str) -> str:
    """What Rust's regex says, without the expression of polars that it stood in.

    The pattern stands above the reason, a line or several of them, and a mark below the place.
    """
    said = complaint.partition("\n\nThis error occurred")[0].removeprefix("regex error: ")
    lines = said.splitlines()
    reason = lines[-1].removeprefix("error: ").rstrip(".")
    marked = [at for at, line in enumerate(lines) if line.strip() and not line.strip(" ^")]
    if len(lines) != 4 or marked != [2]:  # of several lines, or too large
        return reason
    return f"{reason}, at character {lines[2].index('^') - len('    ') + 1}"


def json_schema(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    """The whole text, or the one fenced block that it is, is JSON that the schema allows."""
    import jsonschema

    if isinstance(wanted, str):
        wanted = _parsed(wanted)
    if not isinstance(wanted, Mapping | bool):
        raise Unusable("expected a JSON schema")
    _refuse_unbounded(wanted)
    try:
        _validator().check_schema(wanted)
    except jsonschema.SchemaError as error:
        raise Unusable(f"no JSON schema: {error.message}") from None
    validator = _validator()(wanted, registry=_no_registry())
    return _told([_allows(validator, text) for text in texts])


def is_json(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    return _told([_is_json(text) for text in texts]).with_columns(_agrees(wanted))


def _is_json(text: str) -> bool:
    try:
        _parsed(text)
    except Unusable:
        return False
    return True


def _parsed(text: str) -> Any:
    text = text.strip()
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1]
    try:
        if len(text) <= MOST_CHARACTERS:
            return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        pass
    raise Unusable("expected JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _allows(validator: Any, text: str) -> bool:
    try:
        return bool(validator.is_valid(_parsed(text)))
    except (Unusable, OverflowError):
        return False
    except RecursionError:
        raise Unusable("the schema refers to itself without end") from None


def _validator() -> Any:
    """Draft 2020-12, but for patterns: those of Python may take for ever."""
    import jsonschema

    validators: Any = import_module("jsonschema.validators")

    def matches(_: Any, wanted: str, value: Any, __: Any) -> Iterator[Any]:
        if isinstance(value, str) and not pl.Series([value]).str.contains(wanted)[0]:
            yield jsonschema.ValidationError(f"{wanted!r} is not found")

    return validators.extend(validators.Draft202012Validator, {"pattern": matches})


def _no_registry() -> Any:
    """A registry that fetches nothing: a schema may refer to itself only."""
    return cast(Any, import_module("referencing")).Registry()


def _refuse_unbounded(schema: Any) -> None:
    if isinstance(schema, Mapping):
        part = cast(Mapping[str, Any], schema)
        if "patternProperties" in part:
            raise Unusable("patternProperties is not supported: its patterns may take for ever")
        reference = part.get("$ref", part.get("$dynamicRef", "#"))
        if isinstance(reference, str) and not reference.startswith("#"):
            raise Unusable(f"{reference!r} is outside of the schema; nothing is fetched")
        if isinstance(part.get("pattern"), str):
            _linear_inside(part["pattern"])
        for each in part.values():
            _refuse_unbounded(each)
    elif isinstance(schema, list):
        for each in cast(list[Any], schema):
            _refuse_unbounded(each)


def _linear_inside(wanted: str) -> None:
    try:
        linear(wanted)
    except Unusable as error:
        raise Unusable(f"the pattern {wanted!r} in it is {error}") from None


def count(of: str, compare: Callable[[pl.Expr, int], pl.Expr]) -> Check:
    """The number of matches of a pattern compares with what is wanted."""

    def check(texts: pl.Series, wanted: Any) -> pl.DataFrame:
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
            raise Unusable("expected a whole number, at least 0")
        n = pl.col("text").str.count_matches(of)
        return texts.to_frame("text").select(met=compare(n, wanted), unscored=_NO_REASON)

    return check


def keywords(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    """All of the words are there, as whole words, in capitals or not."""
    found = [_mentions(word) for word in _words(wanted)]
    return texts.to_frame("text").select(met=pl.all_horizontal(found), unscored=_NO_REASON)


def forbidden(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    """None of the words is there."""
    found = [_mentions(word) for word in _words(wanted)]
    return texts.to_frame("text").select(met=~pl.any_horizontal(found), unscored=_NO_REASON)


def _words(wanted: Any) -> Sequence[str]:
    if isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, list | tuple) or not wanted:
        raise Unusable("expected a list of words")
    words = [each for each in cast(Sequence[Any], wanted) if isinstance(each, str) and each.strip()]
    if len(words) != len(cast(Sequence[Any], wanted)):
        raise Unusable("expected a list of words")
    return words


def _mentions(word: str) -> pl.Expr:
    inside = re.escape(word.strip())
    before, after = (r"\b" if re.match(r"\w", each) else "" for each in (word[0], word[-1]))
    return pl.col("text").str.contains(f"(?i){before}{inside}{after}")


def starts(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    return _told(texts.str.strip_chars().str.starts_with(_text(wanted)))


def ends(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    return _told(texts.str.strip_chars().str.ends_with(_text(wanted)))


def _text(wanted: Any) -> str:
    if not isinstance(wanted, str) or not wanted.strip():
        raise Unusable("expected a text")
    return wanted.strip()


def lower(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    return _told(texts == texts.str.to_lowercase()).with_columns(_agrees(wanted))


def upper(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    return _told(texts == texts.str.to_uppercase()).with_columns(_agrees(wanted))


def _agrees(wanted: Any) -> pl.Expr:
    if not isinstance(wanted, bool):
        raise Unusable("expected true or false")
    return pl.col("met") == wanted


def language(texts: pl.Series, wanted: Any) -> pl.DataFrame:
    """The text's likeliest language is the wanted one, an ISO 639-1 code."""
    tell, known = _identifier()
    if wanted not in known:
        raise Unusable(f"expected the code of a language: {', '.join(sorted(known))}")
    letters = texts.str.count_matches(r"\p{L}") >= FEWEST_LETTERS
    rows = zip(texts, letters, strict=True)
    met = [tell(text) == wanted if enough else None for text, enough in rows]
    too_short = "not applicable: too few letters to tell the language"
    reason = pl.when(pl.col("met").is_null()).then(pl.lit(too_short))
    return _told(met).with_columns(unscored=reason)


@cache
def _identifier() -> tuple[Callable[[str], str], frozenset[str]]:
    try:
        langid: Any = import_module("py3langid.langid")
    except ImportError:
        raise RecipeError(
            'annotate.verifier: the check "language" needs py3langid, which is not installed; '
            "pip install 'prefdata[language]'"
        ) from None
    # One of our own: the library's shared one can be bound to some languages by anybody.
    model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    return lambda text: str(model.classify(text)[0]), frozenset(map(str, model.labels))


_NO_REASON = pl.lit(None, pl.String)


def _told(met: Any) -> pl.DataFrame:
    return pl.DataFrame({"met": pl.Series(met, dtype=pl.Boolean)}).with_columns(unscored=_NO_REASON)


WORD = r"[\p{L}\p{N}][\p{L}\p{N}\p{M}'’_-]*"
SENTENCE = r"[.!?。！？]+[\"'”’)\]]*(?:\s|$)"
PARAGRAPH = r"[^\n](?:\n?[^\n])*"
BULLET = r"(?m)^[ \t]*(?:[-*•]|\d+[.)])[ \t]+\S"

CHECKS: Mapping[str, Check] = {
    "exact_match": answer("auto"),
    "number": answer("number"),
    "words": answer("words"),
    "whole": answer("whole"),
    "pattern": pattern,
    "json_schema": json_schema,
    "is_json": is_json,
    "min_words": count(WORD, lambda n, wanted: n >= wanted),
    "max_words": count(WORD, lambda n, wanted: n <= wanted),
    "min_sentences": count(SENTENCE, lambda n, wanted: n >= wanted),
    "max_sentences": count(SENTENCE, lambda n, wanted: n <= wanted),
    "paragraphs": count(PARAGRAPH, lambda n, wanted: n == wanted),
    "bullets": count(BULLET, lambda n, wanted: n == wanted),
    "max_commas": count(",", lambda n, wanted: n <= wanted),
    "keywords": keywords,
    "forbidden": forbidden,
    "starts_with": starts,
    "ends_with": ends,
    "lower_case": lower,
    "upper_case": upper,
    "language": language,
}
