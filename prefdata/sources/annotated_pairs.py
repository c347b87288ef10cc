"""AnnotatedPairs files (version 2) as rows of votes, one for each vote in an annotation.

A file that `prefdata annotated-pairs` wrote gives back the votes that went into it, under their
annotators; what it says of an `aggregate` is nobody's vote and no row. In the files of others an
annotator's type says who voted: `human`, `ai` (an `llm:`), `principle` (named by the digest of its
text, as everywhere here). Of no type, the default annotator is the source's own
(`annotator = ...`), any other a human. `no_pref_reason` "tie" and "both" are ties, any other says
why there is no vote.

The texts of principles are kept, with how they fare: as `metadata` says where we wrote it, else
counted against the default annotator and ranked by for - against.

Source: Findeis et al. 2025, "Feedback Forensics", and the writer of `inverse-cai`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from prefdata.errors import SourceError
from prefdata.explain._standing import COUNTS
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
    metadata, annotators, comparisons = _parts(spec, whole)
    default = metadata.get("default_annotator")
    known = {id: _who(id, entry, default) for id, entry in annotators.items()}
    for comparison in comparisons:
        yield from _comparison(comparison, known)


def _parts(spec: SourceSpec, whole: Any) -> tuple[Row, Row, list[Any]]:
    """Metadata, annotators and comparisons."""
    if not isinstance(whole, dict) or not set(KEYS) <= cast(Row, whole).keys():
        raise SourceError(
            f"{spec.where} begins like AnnotatedPairs but is none: it is one object with the keys "
            f"{', '.join(KEYS)}; give rows as .jsonl"
        )
    metadata, annotators, comparisons = (cast(Row, whole)[key] for key in KEYS)
    metadata = cast(Row, metadata) if isinstance(metadata, dict) else {}
    version = str(metadata.get("version", "none"))
    if version.partition(".")[0] != "2":
        raise SourceError(
            f"{spec.where} is AnnotatedPairs of version {version}, of which only 2 is read; write "
            "it anew with a current inverse-cai"
        )
    if not isinstance(annotators, dict) or not isinstance(comparisons, list):
        raise SourceError(f"{spec.where}: annotators is an object, comparisons an array")
    return metadata, cast(Row, annotators), cast("list[Any]", comparisons)


def standing(spec: SourceSpec, whole: Any) -> list[Row]:
    """The principles of a decoded file: `principle`, `rank`, and how often `for, against, ...`."""
    metadata, annotators, comparisons = _parts(spec, whole)
    if (ours := metadata.get("principles")) is not None:
        rows = cast("list[Any]", ours) if isinstance(ours, list) else [ours]
        wrong = next((row for row in rows if not _stands(row)), None)
        if wrong is not None:
            raise SourceError(
                f"{spec.where}: each of metadata.principles has a text `principle` and whole "
                f"numbers {', '.join(COUNTS)} and rank, but one is {as_json(wrong)[:200]}"
            )
        return [{name: row[name] for name in ("principle", *COUNTS, "rank")} for row in rows]
    texts = {id: said["description"] for id, said in annotators.items() if _is_principle(said)}
    counted: dict[str, Row] = {text: dict.fromkeys(COUNTS, 0) for text in texts.values()}
    for comparison in comparisons:
        said = _dict(_dict(comparison).get("annotations"))
        label = _pref(said.get(str(metadata.get("default_annotator"))))
        for id in texts.keys() & said.keys() if label else ():
            counted[texts[id]][_counts_as(said[id], label)] += 1
    best = sorted(counted.items(), key=lambda each: (each[1]["against"] - each[1]["for"], each[0]))
    return [{"principle": text, **n, "rank": at} for at, (text, n) in enumerate(best, start=1)]


def _dict(value: Any) -> Row:
    return cast(Row, value) if isinstance(value, dict) else {}


def _is_text(value: Any) -> bool:
    """Whether it says something, and in UTF-8: JSON can hold half of a surrogate pair."""
    whole = isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)
    return whole and bool(value.strip())


def _is_principle(entry: Any) -> bool:
    return _dict(entry).get("type") == "principle" and _is_text(_dict(entry).get("description"))


def _stands(row: Any) -> bool:
    numbers = [_dict(row).get(name) for name in (*COUNTS, "rank")]
    whole = all(type(n) is int and n >= 0 for n in numbers) and numbers[-1] != 0
    return whole and _is_text(_dict(row).get("principle"))


def _pref(annotation: Any) -> str | None:
    """The side that an annotation prefers, a or b; None: neither."""
    said = {"a": "a", "b": "b", "text_a": "a", "text_b": "b"}
    return said.get(str(_dict(annotation).get("pref")))


def _counts_as(annotation: Any, label: str | None) -> str:
    if (said := _pref(annotation)) is not None:
        return "for" if said == label else "against"
    why = _dict(annotation).get("no_pref_reason")
    return "abstain" if why in (*TIES, *REASONS, "neither") else "invalid"


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
        case "principle" if _is_principle(said):
            return {"annotator": f"principle:{digest('principle', said['description'])}"}
        case "principle":
            return "it is a principle without a description that can be read"
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
