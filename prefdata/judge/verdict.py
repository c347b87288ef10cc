"""Find the verdict in a judge's reply: the last whole JSON object that says what was asked.

A reply is text by a model that has read text by other models, so nothing in it is trusted. A
verdict is one flat JSON object with exactly the keys that were asked, each with a value of its
scale. It may stand anywhere: alone, in a code fence, after or before prose. These rules decide:

- Only outermost objects count. What stands inside another object or inside a string is a quotation.
- The last well-formed verdict binds. Other whole objects, before or after it, say nothing.
- An object that is begun but broken (not closed, or not JSON) voids what stands before it: a judge
  that quotes a candidate without escaping it must not have the quotation read as its verdict.
- Values are compared exactly: "a" is not "A", "4" and 4.0 and true are not 4, a key twice is wrong.
- A reply cut off by its length binds only if the verdict is the last thing in it.
- Of a reply that starts with `<think>`, only what follows `</think>` is read. Chat templates may
  write the opening tag themselves: an end of a thought outside of all objects voids what stands
  before it, whether or not the reply began it.

Reading takes one pass, in time linear in the reply, without recursion and without `eval`.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

EMPTY = "empty reply"
NONE = "no verdict"
MALFORMED = "malformed verdict"
OFF_SCALE = "off the scale"
REPEATED = "a value twice"
TRUNCATED = "truncated"
REFUSED = "refused"
CURABLE = (EMPTY, NONE, MALFORMED, OFF_SCALE, TRUNCATED, REPEATED)  # worth asking once more

_BEGINS = re.compile(r'\{\s*"|(</think(?:ing)?>|\[/THINK\])', re.IGNORECASE)
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+("?)|[{}\[\]]', re.DOTALL)
_NOTHING = re.compile(r"[\s`.]*")
_DEEPEST = 32

Judged = dict[str, Any]


class Found(NamedTuple):
    """The object that binds, or why there is none."""

    verdict: Judged | None
    unscored: str | None


class _Span(NamedTuple):
    text: str
    end: int
    depth: int
    is_thought: bool = False


def find(
    reply: str | None, fault: Callable[[Judged], str | None], finish_reason: str | None = None
) -> Found:
    """The last object of a reply in which `fault` finds no fault, by the rules above."""
    if reply is None or not reply.strip():
        empty = {"content_filter": REFUSED, "length": TRUNCATED}
        return Found(None, empty.get(finish_reason or "", EMPTY))
    text = _said(reply)
    verdict: Judged | None = None
    unscored, end = NONE, 0
    for span in _outermost(text):
        if span.is_thought:
            verdict, unscored = None, NONE
            continue
        judged = _loads(span)
        wrong = MALFORMED if judged is None else fault(judged)
        if judged is None or wrong is None:
            verdict, end = judged, span.end
        if verdict is None:
            unscored = wrong or unscored
    if finish_reason == "length" and (verdict is None or not _NOTHING.fullmatch(text, end)):
        return Found(None, TRUNCATED)
    if verdict is None and finish_reason == "content_filter":
        return Found(None, REFUSED)
    return Found(verdict, None if verdict is not None else unscored)


def _said(reply: str) -> str:
    if not reply.lstrip().startswith("<think>"):
        return reply
    return reply.partition("</think>")[2]


def _outermost(text: str) -> Iterator[_Span]:
    """The outermost objects of a text, as far as braces and strings tell; the last may be open.

    An end of a thought between them is a span of its own.
    """
    begin = _BEGINS.search(text)
    while begin:
        ends_thought = begin.group(1) is not None
        span = _Span("", begin.end(), 0, True) if ends_thought else _span(text, begin.start())
        yield span
        begin = _BEGINS.search(text, span.end)


def _span(text: str, start: int) -> _Span:
    depth = deepest = 0
    for token in _TOKEN.finditer(text, start):
        sign = token.group()
        if sign in ("{", "["):
            depth += 1
            deepest = max(deepest, depth)
        elif sign in ("}", "]"):
            depth -= 1
            if depth == 0:
                return _Span(text[start : token.end()], token.end(), deepest)
        elif not token.group(1):
            break
    return _Span("", len(text), deepest)


def _loads(span: _Span) -> Judged | None:
    """The object, or None if it is not whole JSON (nested beyond all sense counts as broken)."""
    if span.depth > _DEEPEST:
        return None
    try:
        return json.loads(span.text, object_pairs_hook=_once)
    except ValueError:
        return None


def _once(pairs: list[tuple[str, Any]]) -> Judged:
    judged = dict(pairs)
    if len(judged) < len(pairs):
        raise ValueError("a key appears twice")
    return judged
