"""What was handed out for a dataset and what was answered: a person's time, kept for ever.

    data/annotations/<name>/
      tasks.jsonl         each task: its completions, their order, digests of its texts, the worth
                          of each answer (P(a preferred), or a rating) and, of a gold question, gold
      annotations.jsonl   each answer, as `schemas/annotations.json` has it, with its `source`
      quarantine.jsonl    what did not count, with its place and the reason
      out/                what was handed out last, if nowhere else

Files are there whole, and are written by one process at a time. Nothing here is a key or password.
"""

import json
import math
import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import polars as pl

from prefdata import locks
from prefdata.errors import PrefdataError, SourceError, VersionError
from prefdata.people.form import Form
from prefdata.people.taking import OWN, Given, Taken, take
from prefdata.people.tasks import Task, seen
from prefdata.tables import Annotations, check, empty
from prefdata.version.stored import NAME, data_folder
from prefdata.whole import writable, writing

Row = dict[str, Any]
# What each row of a file has.
NEEDED = {
    "tasks": frozenset(
        "task_id layout judge digest subject completion_a completion_b a_first gold shown questions"
        " handed_out version".split()
    ),
    "annotations": frozenset("task_id annotator criterion value gold source".split()),
    "quarantine": frozenset[str](),
}


class Store:
    """The tasks and answers of one dataset, by its name."""

    def __init__(self, data: Path | str | None, name: str) -> None:
        if not NAME.fullmatch(name):
            raise VersionError(f"{name!r} names no dataset")
        self.folder = data_folder(data) / "annotations" / name

    def tasks(self) -> dict[str, Row]:
        """What was handed out, by task id."""
        return {row["task_id"]: row for row in self._rows("tasks")}

    def rows(self) -> list[Row]:
        """What was answered."""
        return self._rows("annotations")

    def annotations(self) -> Annotations:
        """What was answered, as the table that a build reads."""
        rows = [{name: row.get(name) for name in OWN} for row in self.rows()]
        frame = pl.DataFrame(rows, empty("annotations").schema)
        return Annotations(check("annotations", frame, where=str(self._path("annotations"))))

    def hand_out(self, form: Form, tasks: Iterable[Task], version: str) -> None:
        """Remember tasks before anybody sees them."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._locked():
            known = self.tasks()
            for task in tasks:
                made = record(form, task) | {"handed_out": now, "version": version}
                first = known.get(task.task_id, made)
                kept = {name: first[name] for name in ("handed_out", "version")}
                gold = first["gold"] if task.gold is None else task.gold
                known[task.task_id] = {**made, **kept, "gold": gold}
            self._write("tasks", known.values())

    def take(self, given: Iterable[Given], *, replace: bool = False) -> Taken:
        """Take what counts of some answers, and set the rest aside with its reasons."""
        with self._locked():
            taken = take(given, self.tasks(), self.rows(), replace=replace)
            self._write("annotations", taken.rows)
            refused = [*self._rows("quarantine"), *(each._asdict() for each in taken.quarantined)]
            self._write("quarantine", {json.dumps(row): row for row in refused}.values())
        return taken

    def answered(self, form: Form) -> dict[str, int]:
        """How many people have answered the form about a subject, a completion or two."""
        tasks = self.tasks()
        who = {
            (tasks[row["task_id"]]["subject"], row["annotator"])
            for row in self.rows()
            if row["task_id"] in tasks and tasks[row["task_id"]]["digest"] == form.digest
        }
        counts: dict[str, int] = {}
        for subject, _ in who:
            counts[subject] = counts.get(subject, 0) + 1
        return counts

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _rows(self, name: str) -> list[Row]:
        path = self._path(name)
        if not path.exists():
            return []
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise SourceError(
                f"{path} cannot be read: {error.strerror}; get it out of a backup, for what people "
                "answered is nowhere else"
            ) from error
        rows: list[Row] = []
        for number, line in enumerate(lines, start=1):
            try:
                rows += [_row(line, NEEDED[name])] if line else []
            except ValueError as error:
                raise SourceError(
                    f"{path}, line {number} is damaged: {error}; mend or remove the line"
                ) from error
        return rows

    def _write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        path = self._path(name)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        if not lines and not path.exists():
            return
        with writing(path) as file:
            file.writelines(lines)

    @contextmanager
    def sending(self) -> Generator[None]:
        """What one process at a time does with a server."""
        with self._locked(".sending"):
            yield

    @contextmanager
    def _locked(self, name: str = ".lock") -> Generator[None]:
        with writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = locks.opened(self.folder / name)
        try:
            self._take(lock)
            yield
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        try:
            locks.take(lock, seconds=math.inf, needed=True)
        except OSError as error:
            raise PrefdataError(
                f"{self.folder} cannot be locked: {error.strerror}; two processes at once would "
                "lose there what people answered. Put the data folder on another disk, with --data "
                "or PREFDATA_DATA"
            ) from error


def _row(line: bytes, needed: frozenset[str]) -> Row:
    """A row of a file, or a `ValueError`."""
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    if lacking := sorted(needed - cast(Row, row).keys()):
        raise ValueError(f"it lacks {', '.join(lacking)}")
    return cast(Row, row)


def record(form: Form, task: Task) -> Row:
    """What is kept of a task: what tells whether an answer is one, and what it is worth."""
    texts = dict(zip(("prompt", *form.sides), (task.prompt, *task.texts), strict=True))
    turned = task.a_first is False
    return {
        "task_id": task.task_id,
        "layout": form.layout,
        "judge": form.judge,
        "digest": form.digest,
        "subject": task.subject,
        "completion_a": task.completion_a,
        "completion_b": task.completion_b,
        "a_first": task.a_first,
        "gold": task.gold,
        "shown": {name: seen(text) for name, text in texts.items()},
        "questions": {
            question.criterion: {
                each.value: (_turned(each.worth) if turned else each.worth, each.unscored)
                for each in question.answers
            }
            for question in form.questions
        },
    }


def _turned(worth: float | None) -> float | None:
    return None if worth is None else 1 - worth
