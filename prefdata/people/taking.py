"""Which answers of people count, and why others do not: the same rules for every tool.

An answer counts if its task was handed out, with the texts as they were, if somebody gave it, and
if every question has one of its answers. Nothing is guessed and nothing is lost: what does not
count is quarantined with its place and the reason, and all else is taken. A task without any
answer is nobody's mistake: it waits.

One annotator answers a task once. Two different answers under one name are two people or one
mistake, so neither counts; nor does one that differs from what is kept already, unless it replaces
that: where the tool says that it is the same answer, mended, or where that is asked for.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from prefdata.people.form import SKIPPED
from prefdata.people.tasks import seen
from prefdata.tables import schema

Row = dict[str, Any]
OWN = tuple(schema("annotations").columns)


@dataclass(frozen=True)
class Given:
    """An answer as it came back, nothing of it believed.

    `values` has a text for each criterion, empty for none; `texts` what the task showed. `source`
    names the answer in its tool, where it may be mended. `row` is all of it, for quarantine;
    `wrong` is why it cannot even be read.
    """

    place: str
    tool: str
    task_id: str
    annotator: str
    texts: Mapping[str, str]
    values: Mapping[str, str]
    rationale: str = ""
    seconds: str = ""
    answered_at: str = ""
    is_skipped: bool = False
    source: str | None = None
    row: Any = None
    wrong: str = ""


class Refused(NamedTuple):
    """What is quarantined: where it stands, why, and what it is."""

    place: str
    reason: str
    row: Any


@dataclass
class Taken:
    """What came of an import. `rows` are all annotations that there are now."""

    rows: list[Row]
    new: int = 0
    known: int = 0
    mended: int = 0
    waiting: int = 0
    quarantined: list[Refused] = field(default_factory=list[Refused])


def take(
    given: Iterable[Given],
    tasks: Mapping[str, Mapping[str, Any]],
    kept: Iterable[Row],
    *,
    replace: bool = False,
) -> Taken:
    """Take what counts of some answers. `tasks` were handed out, `kept` was taken before."""
    before = {_key(row): row for row in kept}
    taken = Taken([])
    came: dict[tuple[str, ...], list[tuple[Given, list[Row]]]] = {}
    for each in given:
        task = tasks.get(each.task_id)
        if not each.wrong and _is_empty(each, task):
            taken.waiting += 1
            continue
        read = each.wrong or _read(each, task)
        if isinstance(read, str):
            taken.quarantined.append(Refused(each.place, read, each.row))
        else:
            came.setdefault((each.task_id, read[0]["annotator"]), []).append((each, read))
    for several in came.values():
        if len({_said(rows) for _, rows in several}) > 1:
            reason = f"{several[0][1][0]['annotator']} has answered this task in several ways here"
            taken.quarantined += [Refused(each.place, reason, each.row) for each, _ in several]
            continue
        taken.known += len(several) - 1
        _settle(*several[0], before, taken, replace=replace)
    taken.rows = [before[key] for key in sorted(before)]
    return taken


def _settle(
    each: Given, rows: list[Row], before: dict[tuple[str, ...], Row], taken: Taken, *, replace: bool
) -> None:
    there = [before[_key(row)] for row in rows if _key(row) in before]
    if there and _said(there) == _said(rows):
        taken.known += 1
        return
    mends = each.source is not None and all(row["source"] == each.source for row in there)
    if there and not (mends or replace):
        reason = (
            f"{rows[0]['annotator']} has answered this task before, otherwise: "
            f"{there[0]['raw']!r}; --replace takes the new answer"
        )
        taken.quarantined.append(Refused(each.place, reason, each.row))
        return
    before |= {_key(row): row for row in rows}
    taken.mended += bool(there)
    taken.new += not there


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in schema("annotations").key)


def _said(rows: Iterable[Row]) -> str:
    """What an answer says, apart from when and how fast it was said."""
    return json.dumps(sorted((r["criterion"], r["raw"], r["rationale"] or "") for r in rows))


def _is_empty(given: Given, task: Mapping[str, Any] | None) -> bool:
    """Whether nothing was answered, whatever a person has in columns of their own."""
    asked = given.values if task is None else task["questions"]
    said = (given.values.get(name, "") for name in asked)
    more = (given.rationale, given.seconds, given.answered_at)
    return not given.is_skipped and not any(text.strip() for text in (*said, *more))


def _read(given: Given, task: Mapping[str, Any] | None) -> list[Row] | str:
    """The annotations in an answer, or why there are none."""
    if task is None:
        named = repr(given.task_id) if given.task_id else "empty"
        return f"unknown task: its task_id is {named}, and no such task was handed out"
    for name, digest in task["shown"].items():
        if name not in given.texts:
            return f"changed text: its {name} is gone"
        if seen(given.texts[name]) != digest:
            return f"changed text: its {name} is not what was handed out"
    who = _annotator(given.annotator)
    if who is None:
        return f"its annotator is {given.annotator!r}; only people answer tasks, under a name"
    if not who:
        return "half-filled: there is an answer, but no annotator"
    seconds, when = _seconds(given.seconds), _moment(given.answered_at)
    if isinstance(seconds, str) or isinstance(when, ValueError):
        return seconds if isinstance(seconds, str) else str(when)
    base = {
        "task_id": given.task_id, "annotator": who,
        "completion_a": task["completion_a"], "completion_b": task["completion_b"],
        "a_first": task["a_first"], "rationale": given.rationale.strip() or None,
        "gold": task["gold"], "seconds": seconds, "answered_at": when, "tool": given.tool,
        "source": given.source,
    }  # fmt: skip
    rows: list[Row] = []
    for criterion, answers in task["questions"].items():
        answer = _answer(criterion, answers, given)
        if isinstance(answer, str):
            return answer
        rows.append({**base, "criterion": criterion, **answer})
    return rows


def _answer(criterion: str, answers: Mapping[str, Any], given: Given) -> Row | str:
    if given.is_skipped:
        return {"value": None, "raw": SKIPPED, "unscored": SKIPPED}
    if criterion not in given.values:
        return f"half-filled: there is no {criterion}"
    # A column of whole numbers with gaps comes back from some programs as 4.0.
    text = re.sub(r"^(\d+)\.0+$", r"\1", given.values[criterion].strip())
    if not text:
        return f"half-filled: {criterion} has no answer"
    known = {name.casefold(): (name, *worth) for name, worth in answers.items()}
    if text.casefold() not in known:
        return f"{criterion} is {text[:40]!r}, which is none of {', '.join(answers)}"
    raw, worth, unscored = known[text.casefold()]
    return {"value": worth, "raw": raw, "unscored": unscored}


def _annotator(name: str) -> str | None:
    """`human:<name>`, "" where there is none; None for what is no person or no name.

    However a program writes an accented letter, it is the same name.
    """
    name = unicodedata.normalize("NFC", name)
    kind, colon, rest = name.strip().partition(":")
    who = rest.strip() if colon and kind == "human" else name.strip()
    if not who.isprintable() or (colon and kind in ("llm", "reward", "rule", "principle")):
        return None
    return f"human:{who}" if who else ""


def _seconds(text: str) -> float | str | None:
    try:
        number = float(text) if text else None
    except ValueError:
        number = math.nan
    if number is not None and not (math.isfinite(number) and number >= 0):
        return f"seconds is {text[:40]!r}, not a number from 0"
    return None if number is None else round(number, 3)


def _moment(text: str) -> str | ValueError | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ValueError(f"answered_at is {text[:40]!r}, not a time as in 2026-01-31T12:00:00Z")
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return moment.isoformat(timespec="seconds")


def gold_accuracy(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """Of each annotator, the share of gold questions on gold's side, and how many there were.

    Of a comparison that is the same side of 1/2; of a rating, nearer to gold than a quarter of the
    scale. An answer without a value is none.
    """
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for row in rows:
        if row["gold"] is None or row["value"] is None:
            continue
        asked[row["annotator"]] += 1
        if row["completion_b"] is None:
            right[row["annotator"]] += abs(row["value"] - row["gold"]) <= 0.25
        else:
            right[row["annotator"]] += (row["value"] - 0.5) * (row["gold"] - 0.5) > 0
    return {who: (right[who] / n, n) for who, n in sorted(asked.items())}
