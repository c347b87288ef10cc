"""Rate completions by checks without a model: answers, patterns, JSON schemas and instructions.

A check is named with what it wants, or with "reference": then the prompt's own reference says what.
So one stage serves prompts that have each a right answer, a pattern or a schema of their own, and
with `instructions = "reference"` each its own set of checks, written as a JSON object.

- "exact_match", "number", "words", "whole": the right answer, found as in `annotate.exact_match`.
- "pattern": a regular expression that is found in the text; `^` and `$` bind it to the ends.
- "json_schema": the text, or the one fenced block that it is, is JSON that the schema allows.
- "is_json", "lower_case", "upper_case": true or false.
- "min_words", "max_words", "min_sentences", "max_sentences", "max_commas": bounds, inclusive.
- "paragraphs" (parted by an empty line), "bullets" (lines of a list): exact numbers.
- "keywords", "forbidden": lists of words of which all, or none, are there as whole words.
- "starts_with", "ends_with": the text, without blanks around it, begins or ends with this.
- "language": the ISO 639-1 code of the language that the text is in, by py3langid.

Patterns have no look-around and no back-references, so that their time is linear in the text and
no text can make one hang; schemas refer to nothing outside of themselves, so nothing is fetched.

Source: Zhou et al. 2023, "Instruction-following evaluation for large language models" for the
instructions; answers as rewards follow Cobbe et al. 2021, "Training verifiers to solve math word
problems".
"""

import json
from collections.abc import Mapping
from typing import Any, cast

import polars as pl

from prefdata import tables
from prefdata.annotate._checks import CHECKS, Unusable
from prefdata.errors import RecipeError, nearest
from prefdata.tables import Completions, Prompts, Ratings

REFERENCE = "reference"
NOT_APPLICABLE = "not applicable"
# Their values are texts, so a reference is one as it stands; those of all others are JSON.
TEXTS = (
    *("exact_match", "number", "words", "whole", "pattern"),
    *("starts_with", "ends_with", "language"),
)


def verifier(prompts: Prompts, completions: Completions, *, checks: Mapping[str, Any]) -> Ratings:
    """Ratings by `rule:verifier`, one a check: 1 where it is met, 0 where not.

    The criterion is the check's name. A check by the reference is unscored as "not applicable" for
    a prompt without one, and as "error: ..." for a reference that the check cannot read. A text too
    short to tell its language is "not applicable" too. What is checked is the last message of the
    completion; an empty one is checked like any other.

    checks: names and what each wants, as in {max_words = 50, pattern = "reference"}; under
        `instructions`, "reference": the prompt's reference is a JSON object of such checks.

    Raises `RecipeError` for a check that is not known and for a value that it cannot use.
    """
    if not checks:
        raise RecipeError(f"annotate.verifier: checks is empty; it knows {', '.join(CHECKS)}")
    rows = completions.join(prompts.select("prompt_id", REFERENCE), on="prompt_id").select(
        "prompt_id",
        "completion_id",
        REFERENCE,
        text=pl.col("completion").list.last().struct["content"].fill_null(""),
    )
    rows = rows.sort("completion_id")
    made: list[pl.DataFrame] = []
    for name, wanted in checks.items():
        if name == "instructions":
            if wanted != REFERENCE:
                raise RecipeError(
                    f'annotate.verifier: instructions = {wanted!r}; it is "reference" only: '
                    "write checks that hold for all prompts beside it"
                )
            made += _instructed(rows)
        elif wanted == REFERENCE:
            _known(name)
            made += [_referred(name, part) for part in rows.partition_by(REFERENCE)]
        else:
            _known(name)
            try:
                made.append(_checked(name, rows, wanted))
            except Unusable as error:
                raise RecipeError(
                    f"annotate.verifier: checks.{name} = {wanted!r}: {error}"
                ) from None
    ratings = pl.concat([pl.DataFrame(schema=_EMPTY), *made]).with_columns(
        annotator=pl.lit("rule:verifier"),
        draw=pl.lit(0, pl.Int64),
        raw=pl.lit(None, pl.String),
        rationale=pl.lit(None, pl.String),
        request_id=pl.lit(None, pl.String),
    )
    # An instruction may say again what holds for all: what is met then meets both.
    key = ["completion_id", "annotator", "criterion", "draw"]
    ratings = ratings.sort(*key, "rating", nulls_last=False).unique(
        key, keep="first", maintain_order=True
    )
    return Ratings(ratings.select(*tables.schema("ratings").columns))


_EMPTY = {
    "prompt_id": pl.String,
    "completion_id": pl.String,
    "criterion": pl.String,
    "rating": pl.Float64,
    "unscored": pl.String,
}


def _known(name: str) -> None:
    if name not in CHECKS:
        raise RecipeError(f"annotate.verifier: there is no check {name!r}; {nearest(name, CHECKS)}")


def _checked(name: str, rows: pl.DataFrame, wanted: Any) -> pl.DataFrame:
    told = CHECKS[name](rows["text"], wanted)
    return _rated(name, rows, told["met"].cast(pl.Float64), told["unscored"])


def _rated(name: str, rows: pl.DataFrame, rating: Any, unscored: Any) -> pl.DataFrame:
    rated = rows.select("prompt_id", "completion_id")
    return rated.with_columns(
        pl.lit(name).alias("criterion"),
        rating.alias("rating"),
        unscored.alias("unscored"),
    )


def _unscored(name: str, rows: pl.DataFrame, reason: str) -> pl.DataFrame:
    return _rated(name, rows, pl.lit(None, pl.Float64), pl.lit(reason))


def _referred(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """A check of completions whose prompts have the same reference."""
    reference: str | None = rows[REFERENCE][0]
    if reference is None or not reference.strip():
        return _unscored(name, rows, NOT_APPLICABLE)
    try:
        is_text = name in TEXTS
        return _checked(name, rows, reference if is_text else json.loads(reference))
    except (Unusable, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, Unusable) else "expected JSON"
        return _unscored(name, rows, f"error: the reference: {reason}")


def _instructed(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Each prompt's own checks."""
    made: list[pl.DataFrame] = []
    for part in rows.partition_by(REFERENCE):
        reference: str | None = part[REFERENCE][0]
        if reference is None or not reference.strip():
            made.append(_unscored("instructions", part, NOT_APPLICABLE))
            continue
        try:
            read: Any = json.loads(reference)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict) or not read:
            reason = "error: the reference: expected a JSON object of checks"
            made.append(_unscored("instructions", part, reason))
            continue
        for name, wanted in cast(dict[str, Any], read).items():
            if name not in CHECKS:
                reason = f"error: the reference: there is no check {name!r}"
                made.append(_unscored(name, part, reason))
                continue
            try:
                made.append(_checked(name, part, wanted))
            except Unusable as error:
                made.append(_unscored(name, part, f"error: the reference: {error}"))
    return made
