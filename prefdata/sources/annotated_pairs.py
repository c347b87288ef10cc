"""AnnotatedPairs files (version 2) as rows of votes, one for each vote in an annotation.

A file that `prefdata annotated-pairs` wrote gives back the votes that went into it, under their
annotators; what it says of an `aggregate` is nobody's vote and no row. In the files of others an
annotator's type says who voted: `human`, `ai` (an `llm:`), `principle` (named by the digest of its
text, as everywhere here). Of no type, the default annotator is the source's own
(`annotator = ...`), any other a human. `no_pref_reason` "tie" and "both" are ties, any other says
why there is no vote.

Source: Findeis et al. 2025, "Feedback Forensics", and the writer of `inverse-cai`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from prefdata.errors import SourceError
from prefdata.sources.chunk import as_json
from prefdata.sources.spec import SourceSpec
from prefdata.tables import digest

# How such an object begins where it has more than one line.
BEGINS = re.compile(rb'\s*\{\s*("(metadata|annotators|comparisons)"\s*:|$)')
KEYS = ("metadata", "annotators", "comparisons")
TIES = ("tie", "both")
REASONS = {"not_applicable": "not applicable"}
VOTE = ("draw", "a_first", "preference", "rationale", "unscored")
ABOUT = ("reference", "user", "group", "tags")
BLANK = dict.fromkeys(
    (*("prompt", "completion_a", "completion_b", "annotator", "criterion"), *VOTE, *ABOUT)
)

Row = dict[str, Any]


def begins_one(line: bytes) -> bool:
    """Whether the first line of a file is the begin of such an object, or all of it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return BEGINS.match(line) is not None
    return isinstance(row, dict) and {"annotators", "comparisons"} <= cast(Row, row).keys()


def rows_of(spec: SourceSpec, whole: Any) -> Iterator[Row | tuple[str, str]]:
    """The rows of a decoded file; of one that is none, why, and what stands there as JSON."""
    if not isinstance(whole, dict) or not set(KEYS) <= cast(Row, whole).keys():
        raise SourceError(
            f"{spec.where} begins like AnnotatedPairs but is none: it is one object with the keys "
            f"{', '.join(KEYS)}; give rows as .jsonl"
        )
    metadata, annotators, comparisons = (cast(Row, whole)[key] for key in KEYS)
    version = str(cast(Row, metadata).get("version")) if isinstance(metadata, dict) else "none"
    if version.partition(".")[0] != "2":
        raise SourceError(
            f"{spec.where} is AnnotatedPairs of version {version}, of which only 2 is read; write "
            "it anew with a current inverse-cai"
        )
    if not isinstance(annotators, dict) or not isinstance(comparisons, list):
        raise SourceError(f"{spec.where}: annotators is an object, comparisons an array")
    default = cast(Row, metadata).get("default_annotator")
    known = {id: _who(id, entry, default) for id, entry in cast(Row, annotators).items()}
    for comparison in cast("list[Any]", comparisons):
        yield from _comparison(comparison, known)


def _who(id: str, entry: Any, default: Any) -> Row | str | None:
    """Annotator and criterion of an entry, None for an aggregate, or what is wrong with it."""
    if not isinstance(entry, dict):
        return "its entry in annotators is no object"
    said = cast(Row, entry)
    if said.get("aggregate") is True:
        return None
    criterion = said.get("criterion")
    if isinstance(said.get("annotator"), str):
        return {"annotator": said["annotator"], "criterion": criterion}
    name = said.get("name") or id
    match said.get("type"):
        case "human":
            return {"annotator": f"human:{name}"}
        case "ai":
            return {"annotator": f"llm:{name}"}
        case "principle" if isinstance(said.get("description"), str):
            return {"annotator": f"principle:{digest('principle', said['description'])}"}
        case "principle":
            return "it is a principle without a description"
        case None | "unknown":
            return {"annotator": None if id == default else f"human:{name}"}
        case kind:
            return f"its type is {kind!r}; votes are by human, ai, principle or unknown"


def _comparison(
    given: Any, known: Mapping[str, Row | str | None]
) -> Iterator[Row | tuple[str, str]]:
    if not isinstance(given, dict):
        yield f"a comparison is an object, but this is a {type(given).__name__}", as_json(given)
        return
    said = cast(Row, given)
    name = f"comparison {said.get('id')}"
    sides = [said.get("response_a"), said.get("response_b")]
    for side, response in zip("ab", sides, strict=True):
        if not isinstance(response, dict):
            yield f"{name}: response_{side} is no object with a text", as_json(given)
            return
    annotations = said.get("annotations")
    if not isinstance(annotations, dict):
        yield f"{name}: annotations is no object", as_json(given)
        return
    a, b = cast("list[Row]", sides)
    about = said.get("about_prompt")
    base: Row = {
        **BLANK,
        "prompt": said.get("prompt_messages") or said.get("prompt"),
        "completion_a": a.get("messages") or a.get("text"),
        "completion_b": b.get("messages") or b.get("text"),
        "generator_a": a.get("model"),
        "generator_b": b.get("model"),
    }
    if isinstance(about, dict):
        base |= {each: cast(Row, about).get(each) for each in ABOUT}
    n = 0
    for id, annotation in cast(Row, annotations).items():
        who = known.get(id, "it is not in annotators")
        if who is None:
            continue
        n += 1
        if isinstance(who, str):
            yield f"{name}: annotator {id}: {who}", as_json(given)
            continue
        for vote in _votes(annotation):
            if isinstance(vote, str):
                yield f"{name}: annotator {id}: {vote}", as_json(given)
            else:
                yield {**base, **who, **vote}
    if not n:
        yield f"{name}: nobody voted on it", as_json(given)


def _votes(annotation: Any) -> Iterator[Row | str]:
    if not isinstance(annotation, dict) or "pref" not in annotation:
        yield "there is no pref"
        return
    said = cast(Row, annotation)
    if isinstance(said.get("votes"), list):
        for vote in said["votes"]:
            if isinstance(vote, dict):
                yield {each: cast(Row, vote).get(each) for each in VOTE}
            else:
                yield "one of its votes is no object"
        return
    match said["pref"], said.get("no_pref_reason"):
        case "a" | "text_a", _:
            yield {"preference": 1.0}
        case "b" | "text_b", _:
            yield {"preference": 0.0}
        case None, "non_preference_annotation":
            yield "it says something else than which one is preferred"
        case None, reason if reason in TIES:
            yield {"preference": 0.5}
        case None, reason:
            why = "no reason given" if reason is None else str(reason)
            yield {"unscored": REASONS.get(why, why)}
        case other, _:
            yield f'pref is {str(other)[:40]!r}, not "a", "b" or null'
