"""Tasks for Argilla 2, and its records as answers.

The folder is one that `argilla.Dataset.from_disk` reads, and `records.json`, as `Dataset.to_disk`
writes it, comes back. Argilla keeps no times with its responses, so none come back.

Source: `Dataset.to_disk` and `Settings.serialize` of argilla 2.8.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.people.form import Form, Question
from prefdata.people.taking import Given
from prefdata.people.tasks import Task

CONTROL = "answer_"
REASON = "rationale"

Row = dict[str, Any]


def files(form: Form, made: Sequence[Task], name: str, *, overlap: int) -> dict[str, str]:
    """The files of the folder, by their paths in it."""
    guidelines = "\n\n".join(form.instructions)
    hinted = any(task.hint is not None for task in made)
    shown = ("prompt", *form.sides, *(["hint"] if hinted else []))
    shared = {"guidelines": guidelines, "allow_extra_metadata": False}
    distribution = {"strategy": "overlap", "min_submitted": overlap}
    dataset = {"name": name, "status": "draft", **shared, "distribution": distribution}
    settings = {
        **shared,
        "fields": [_field(each) for each in shown],
        "questions": [*map(_question, form.questions), _reason()],
        "vectors": [],
        "metadata": [],
    }
    return {
        ".argilla/dataset.json": _json(dataset),
        ".argilla/settings.json": _json(settings),
        "records.json": _json([_record(form, task) for task in made]),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _field(name: str) -> Row:
    plain = {"type": "text", "use_markdown": False}
    return {"name": name, "title": name.capitalize(), "required": name != "hint", "settings": plain}


def _question(question: Question) -> Row:
    options = [
        {"value": each.value, "text": each.label, "description": None} for each in question.answers
    ]
    return {
        "name": f"{CONTROL}{question.criterion}",
        "title": question.criterion,
        "description": question.text,
        "required": True,
        "settings": {"type": "label_selection", "options": options},
    }


def _reason() -> Row:
    plain = {"type": "text", "use_markdown": False}
    return {"name": REASON, "title": "Why?", "required": False, "settings": plain}


def _record(form: Form, task: Task) -> Row:
    hint = {} if task.hint is None else {"hint": task.hint}
    return {
        "id": task.task_id,
        "fields": {
            "prompt": task.prompt,
            **dict(zip(form.sides, task.texts, strict=True)),
            **hint,
        },
        "metadata": {},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


def is_one(row: Mapping[str, Any]) -> bool:
    """Whether a row of JSON is a record of Argilla."""
    return isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict)


def given(row: Row, place: str, names: Mapping[str, str]) -> Iterator[Given]:
    """The answers in a record; `names` are annotators by their id there."""
    said: dict[str, dict[str, str]] = {}
    for question, responses in row["responses"].items():
        for response in responses:
            by = said.setdefault(str(response.get("user_id")), {})
            by[question] = str(response.get("value") or "")
    for user, answers in sorted(said.items()):
        yield Given(
            place=f"{place}, user {user}",
            tool="argilla",
            task_id=str(row.get("id", "")),
            annotator=names.get(user, user),
            texts={name: str(text) for name, text in row["fields"].items()},
            values={
                name.removeprefix(CONTROL): text
                for name, text in answers.items()
                if name.startswith(CONTROL)
            },
            rationale=answers.get(REASON, ""),
            source=f"argilla {user} {row.get('id')}",
            row={"id": row.get("id"), "user_id": user, "responses": answers},
        )
