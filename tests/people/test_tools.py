"""The files of Label Studio and Argilla: what their readers expect, and nothing that runs."""

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from prefdata.judge import load
from prefdata.people import argilla, label_studio
from prefdata.people.form import Form, form_of
from prefdata.people.store import record
from prefdata.people.taking import take
from prefdata.people.tasks import Task

PAIRWISE = form_of(load("helpfulness"), "pairwise")
RATING = form_of(load("coding-rubric"), "rating")
EVIL = '<script>alert("x")</script> $first {{7*7}} </Text>\n=1+1 & "quoted"'


def task(form: Form, id: str = "t1") -> Task:
    if form is PAIRWISE:
        return Task(id, "aa", "bb", False, EVIL, (f"b {EVIL}", f"a {EVIL}"))
    return Task(id, "aa", None, None, EVIL, (EVIL,))


@pytest.mark.parametrize("form", [PAIRWISE, RATING], ids=["pairwise", "rating"])
def test_the_page_shows_data_only_and_every_field_is_in_the_task(form: Form):
    page = ET.fromstring(label_studio.config(form))
    (made,) = label_studio.tasks(form, [task(form)])
    fields = {value[1:] for tag in page.iter() if (value := tag.get("value", "")).startswith("$")}
    assert fields == made["data"].keys() - {"task_id"}
    assert {tag.tag for tag in page.iter()} <= {
        "View", "Style", "Header", "Text", "Choices", "Choice", "TextArea",
    }, "what models wrote is shown as plain text: no tag that reads markup"  # fmt: skip
    assert all(tag.get("valueType") == "text" for tag in page.iter("Text"))
    assert all(made["data"][name] in (EVIL, f"a {EVIL}", f"b {EVIL}")
               for name in ("prompt", *form.sides))  # fmt: skip
    assert "script" not in label_studio.config(form)


@pytest.mark.parametrize("form", [PAIRWISE, RATING], ids=["pairwise", "rating"])
def test_the_answers_of_the_page_are_those_of_the_judge(form: Form):
    page = ET.fromstring(label_studio.config(form))
    offered = {
        choices.get("name"): [choice.get("alias") for choice in choices]
        for choices in page.iter("Choices")
    }
    known = record(form, task(form))["questions"]
    assert offered == {f"answer_{name}": list(answers) for name, answers in known.items()}
    labels = {choice.get("alias"): choice.get("value") for choice in page.iter("Choice")}
    if form is PAIRWISE:
        assert list(labels.values()) == ["First", "Second", "Equal", "Cannot tell"]
    else:
        assert labels["N/A"] == "N/A: does not apply here"
    names = [tag.get("name") for tag in page.iter() if tag.get("name")]
    assert len(names) == len(set(names)), "a name is one control's or one text's"


def test_the_rubric_is_the_projects_instruction_and_no_markup_of_it_is_live():
    judge = load("helpfulness").model_copy(update={"name": "<b>evil</b>"})
    criterion = judge.criteria[0].model_copy(update={"definition": "say <img src=x> & $5"})
    form = form_of(judge.model_copy(update={"criteria": (criterion,)}), "pairwise")
    told = label_studio.instruction(form)
    assert "say &lt;img src=x&gt; &amp; $5" in told
    assert "<img" not in told


def test_a_skipped_task_and_an_address_of_the_annotator():
    row = label_studio.tasks(PAIRWISE, [task(PAIRWISE)])[0]
    row["annotations"] = [
        {"id": 5, "completed_by": {"id": 3, "email": "anna@example.org"}, "was_cancelled": True,
         "result": [], "lead_time": 2.0, "created_at": "2026-01-31T12:00:00Z"},
        {"id": 6, "completed_by": {"id": 4, "email": "bert@example.org"}, "result": []},
    ]  # fmt: skip
    given = list(label_studio.given(row, "x.json, line 1", {}))
    taken = take(given, {"t1": record(PAIRWISE, task(PAIRWISE))}, [])
    assert [(r["annotator"], r["unscored"]) for r in taken.rows] == [("human:3", "skipped")]
    assert "example.org" not in json.dumps([taken.rows, [r._asdict() for r in taken.quarantined]])


def test_argilla_settings_name_each_field_and_question_once():
    made = argilla.files(PAIRWISE, [task(PAIRWISE)], "asked", overlap=2)
    settings = json.loads(made[".argilla/settings.json"])
    names = [each["name"] for kind in ("fields", "questions") for each in settings[kind]]
    assert len(names) == len(set(names))
    (row,) = json.loads(made["records.json"])
    assert list(row["fields"]) == [field["name"] for field in settings["fields"]]
    assert json.loads(made[".argilla/dataset.json"])["distribution"]["min_submitted"] == 2
    assert (row["suggestions"], row["responses"]) == ({}, {})


def test_argilla_responses_are_answers_of_each_user():
    made = argilla.files(PAIRWISE, [task(PAIRWISE)], "asked", overlap=2)
    (row,) = json.loads(made["records.json"])
    row["responses"] = {
        "answer_helpfulness": [
            {"value": "first", "user_id": "u-1"}, {"value": "tie", "user_id": "u-2"},
        ],
        "rationale": [{"value": "shorter", "user_id": "u-1"}],
    }  # fmt: skip
    assert argilla.is_one(row)
    known = {"t1": record(PAIRWISE, task(PAIRWISE))}
    rows = take(argilla.given(row, "records.json, line 1", {"u-1": "anna"}), known, []).rows
    told: list[Any] = [(r["annotator"], r["value"], r["rationale"]) for r in rows]
    assert told == [("human:anna", 0.0, "shorter"), ("human:u-2", 0.5, None)]
