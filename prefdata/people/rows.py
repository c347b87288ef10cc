"""Tasks as CSV or JSONL, a row a task, and such rows as answers.

A row is `task_id, annotator, prompt, [hint,] first, second` (or `completion`), a column for each
criterion that is to be filled, `rationale, seconds, answered_at`. If annotators are named, each
has a file of their own. Beside the files stands `INSTRUCTIONS.md`.

What a spreadsheet would calculate, or rewrite as a number, a date or a truth, gets an apostrophe
before it, as spreadsheets write text themselves; it is taken off again on the way back.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefdata.people.form import Form
from prefdata.people.taking import Given
from prefdata.people.tasks import Task
from prefdata.whole import writable, writing

MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
# A formula is told by its first sign, a number, a date or a truth by all of it.
REWRITTEN = re.compile(
    r"^['\s]*(?:[=+\-@＝＋－＠]|(?:true|false|(?=.*\d)(?:[\d\s.,:/%$€£e+()-]+"
    rf"|(?:\d+[\s./-]*)?{MONTH}[\d\s.,-]*))\s*$)",
    re.IGNORECASE,
)
FILLED = ("rationale", "seconds", "answered_at")
SHOWN = ("prompt", "hint", "first", "second", "completion")

Row = dict[str, Any]


def files(tool: str, form: Form, tasks: Sequence[Task]) -> dict[str, str]:
    """The files to hand out, by name."""
    write = _csv if tool == "csv" else _jsonl
    by: dict[str, list[Row]] = {}
    for task in tasks:
        by.setdefault(_name(task.annotator), []).append(_row(form, task))
    told = "\n\n".join([f"# {form.judge}", *form.instructions, *_how(tool, form)])
    return {f"{name}.{tool}": write(rows) for name, rows in by.items()} | {
        "INSTRUCTIONS.md": told + "\n"
    }


def _name(annotator: str | None) -> str:
    """A file's name, whatever an annotator is called."""
    return "tasks" if annotator is None else re.sub(r"[^\w.-]+", "_", annotator).strip(".")[:100]


def _how(tool: str, form: Form) -> Iterator[str]:
    yield f"How to fill the {'columns' if tool == 'csv' else 'keys'}:"
    for question in form.questions:
        values = ", ".join(f"`{answer.value}`" for answer in question.answers)
        yield f"- `{question.criterion}`: one of {values}"
    yield "- `annotator`: your name or number, the same in every row"
    yield "- `rationale`, `seconds` (that you needed), `answered_at`: if you like"
    yield "Leave what you have not answered empty, and change nothing else."


def _row(form: Form, task: Task) -> Row:
    hint = {} if task.hint is None else {"hint": task.hint}
    return {
        "task_id": task.task_id,
        "annotator": task.annotator or "",
        "prompt": task.prompt,
        **hint,
        **dict(zip(form.sides, task.texts, strict=True)),
        **{question.criterion: "" for question in form.questions},
        **dict.fromkeys(FILLED, ""),
    }


def _csv(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    into = io.StringIO(newline="")
    into.write("\ufeff")  # by which a spreadsheet knows UTF-8
    writer = csv.DictWriter(into, names, restval="")
    writer.writeheader()
    writer.writerows({name: _plain(text) for name, text in row.items()} for row in rows)
    return into.getvalue()


def _jsonl(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _plain(text: str) -> str:
    return f"'{text}" if REWRITTEN.match(text) else text


def _read(text: str) -> str:
    return text[1:] if text.startswith("'") and REWRITTEN.match(text[1:]) else text


def given(row: Row, place: str, tool: str) -> Given:
    """The answer in a row, whatever it is worth."""
    cells = {name: _cell(value) for name, value in row.items()}
    if tool == "csv":
        cells = {name: _read(text) for name, text in cells.items()}
    return Given(
        place=place,
        tool=tool,
        task_id=cells.pop("task_id", "").strip(),
        annotator=cells.pop("annotator", "").strip(),
        texts={name: cells[name] for name in SHOWN if name in cells},
        values={name: text for name, text in cells.items() if name not in (*SHOWN, *FILLED)},
        rationale=cells.get("rationale", "").strip(),
        seconds=cells.get("seconds", "").strip(),
        answered_at=cells.get("answered_at", "").strip(),
        row=row,
    )


def _cell(value: Any) -> str:
    """A cell as text; 4.0, as some programs write it, is 4."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write(folder: Path, contents: dict[str, str]) -> None:
    """Write files into a folder."""
    for name, text in contents.items():
        path = folder / name
        with writable(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as file:
            file.write(text)
