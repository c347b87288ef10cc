"""Tasks for Label Studio: the page, the tasks, and its annotations as answers.

The prompt stands above, the two replies side by side beneath it, the answers under them (Label
Studio gives them the keys 1, 2, 3 ...). All that models wrote is put in as data and shown as plain
text: nothing of it is markup, a link or a template. The rubric is the project's instruction.

Source: the labeling configuration and the JSON format of https://labelstud.io.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, cast
from xml.sax.saxutils import quoteattr

from prefdata.people.form import Answer, Form, Question
from prefdata.people.taking import Given
from prefdata.people.tasks import Task

TITLES = {"first": "First", "second": "Second", "completion": "Reply"}
# The names of controls, so that no criterion is taken for a text that is shown.
CONTROL = "answer_"
REASON = "rationale"
STYLE = """
.pd-box { border: 1px solid #d0d5dd; border-radius: 8px; padding: 4px 14px 12px; margin: 0 0 12px; }
.pd-two { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; }
.pd-two .pd-box { max-height: 55vh; overflow-y: auto; }
.pd-hint { opacity: 0.7; }
"""

Row = dict[str, Any]


def config(form: Form, *, hints: bool = False) -> str:
    """The labeling configuration."""
    boxes = "".join(_box(name, TITLES[name]) for name in form.sides)
    hint = '<View className="pd-hint"><Text name="hint" value="$hint" valueType="text"/></View>'
    asked = "".join(_choices(question) for question in form.questions)
    return (
        f"<View><Style>{escape(STYLE)}</Style>"
        f"{_box('prompt', 'Prompt')}"
        f'<View className="{"pd-two" if len(form.sides) == 2 else "pd-one"}">{boxes}</View>'
        f"{hint if hints else ''}{asked}"
        f'<TextArea name="{REASON}" toName="prompt" rows="2" maxSubmissions="1" editable="true" '
        'placeholder="Why? A sentence, if you like"/></View>'
    )


def _box(name: str, title: str) -> str:
    return (
        f'<View className="pd-box"><Header value="{title}" size="5"/>'
        f'<Text name="{name}" value="${name}" valueType="text"/></View>'
    )


def _choices(question: Question) -> str:
    answers = "".join(
        f"<Choice value={_attribute(_label(each))} alias={_attribute(each.value)}/>"
        for each in question.answers
    )
    name = f"{CONTROL}{question.criterion}"
    return (
        f'<View className="pd-box"><Header value="${name}" size="5"/>'
        f'<Choices name="{name}" toName="prompt" choice="single-radio" showInline="true" '
        f'required="true" requiredMessage="Choose an answer">{answers}</Choices></View>'
    )


def _label(answer: Answer) -> str:
    return f"{answer.value}: {answer.label}" if answer.is_level else answer.label


def _attribute(text: str) -> str:
    """A text of a judge in the configuration, where a dollar sign would begin a variable."""
    return quoteattr(text.replace("$", "\uff04"))


def instruction(form: Form) -> str:
    """What an annotator reads before the first task."""
    return "".join(f"<p>{escape(line)}</p>" for line in form.instructions)


def tasks(form: Form, made: Iterable[Task]) -> list[Row]:
    """The tasks as Label Studio imports them."""
    asked = {
        f"{CONTROL}{question.criterion}": f"{question.criterion}: {question.text}"
        for question in form.questions
    }
    return [
        {
            "data": {
                "task_id": task.task_id,
                "prompt": task.prompt,
                **dict(zip(form.sides, task.texts, strict=True)),
                **({} if task.hint is None else {"hint": task.hint}),
                **asked,
            }
        }
        for task in made
    ]


def files(form: Form, made: Sequence[Task], *, hints: bool) -> dict[str, str]:
    """The files to set a project up by hand."""
    return {
        "label-config.xml": config(form, hints=hints),
        "instruction.html": instruction(form),
        "tasks.json": json.dumps(tasks(form, made), ensure_ascii=False, indent=1),
    }


def is_one(row: Mapping[str, Any]) -> bool:
    """Whether a row of JSON is a task of a Label Studio export."""
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list)


def given(row: Row, place: str, names: Mapping[str, str]) -> Iterator[Given]:
    """The answers in a task of an export; `names` are annotators by their number there."""
    data: Mapping[str, Any] = row["data"]
    for annotation in row["annotations"]:
        who = annotation.get("completed_by")
        number = _text(cast(Row, who).get("id") if isinstance(who, dict) else who)
        values, reason = _results(annotation.get("result") or [])
        # Of the annotator the number only: some exports have names and addresses beside it.
        kept = {**annotation, "completed_by": number}
        yield Given(
            place=f"{place}, annotation {annotation.get('id')}",
            tool="label-studio",
            task_id=str(data.get("task_id", "")),
            annotator=names.get(number, number),
            texts={name: str(text) for name, text in data.items()},
            values=values,
            rationale=reason,
            seconds=_text(annotation.get("lead_time")),
            answered_at=_text(annotation.get("updated_at") or annotation.get("created_at")),
            is_skipped=annotation.get("was_cancelled") is True,
            source=f"label-studio {annotation.get('id')}",
            row={"task_id": data.get("task_id"), "annotation": kept},
        )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _results(results: Sequence[Any]) -> tuple[dict[str, str], str]:
    """The answer to each question, and the reason."""
    values: dict[str, str] = {}
    reason = ""
    for result in results:
        name = str(result.get("from_name", ""))
        value: Row = result.get("value") or {}
        if name == REASON:
            reason = "\n".join(map(str, value.get("text") or []))
        elif name.startswith(CONTROL):
            values[name.removeprefix(CONTROL)] = ", ".join(map(str, value.get("choices") or []))
    return values, reason
