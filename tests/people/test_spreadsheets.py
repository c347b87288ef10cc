"""What spreadsheets do to a CSV of tasks: people's answers come back from them all the same."""

import csv
import io
import json
from pathlib import Path

import pytest

from prefdata.people.rows import _plain, _read
from tests.people.planted import filled, rows_of, write_rows
from tests.people.test_round_trip import export, run

# What a spreadsheet would calculate, or shows otherwise than it was: numbers, dates, truths.
REWRITTEN = [
    "=1+1",
    "+49 30",
    "-",
    "@x",
    "007",
    "12.50",
    "1e5",
    "1/2",
    "3-4",
    "10:30",
    "50 %",
    "$5",
]
REWRITTEN += ["May 5", "March 3, 2010", "5 Sep", "SEPT2", "TRUE", "false", "(12)", "1,000", " 7 "]
LEFT = ["", "seven", "7 dwarfs", "In 2010", "May I?", "true love", "a = b", "x1", "1st"]


@pytest.mark.parametrize("text", REWRITTEN)
def test_what_a_spreadsheet_would_rewrite_is_marked_as_text(text: str):
    assert _plain(text) == f"'{text}"


@pytest.mark.parametrize("text", LEFT)
def test_all_else_is_left_as_it_is(text: str):
    assert _plain(text) == text


@pytest.mark.parametrize("text", [*REWRITTEN, *LEFT])
def test_the_mark_comes_off_again_however_many_there_were(text: str):
    for given in (text, f"'{text}", f"''{text}"):
        assert _read(_plain(given)) == given


def saved(path: Path, delimiter: str, encoding: str) -> Path:
    """The file as a spreadsheet saves it: parted otherwise, all quoted, lines ended by CRLF."""
    into = io.StringIO(newline="")
    rows = rows_of(path)
    writer = csv.DictWriter(into, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    back = path.with_name("saved.csv")
    back.write_bytes(into.getvalue().encode(encoding))
    return back


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_semicolons_marks_of_utf_8_and_crlf_change_nothing(
    asked: Path, delimiter: str, encoding: str
):
    back = saved(filled(export(asked, "csv")), delimiter, encoding)
    told = run(asked, "import", "asked", str(back))
    assert (told["new"], told["quarantined"]) == (8, [])


def test_in_another_encoding_the_rows_that_suffer_are_quarantined_and_say_how_to_save(asked: Path):
    back = filled(export(asked, "csv"))
    rows = rows_of(back)
    rows[0]["rationale"] = "kürzer"
    told = run(asked, "import", "asked", str(saved(write_rows(back, rows), ",", "cp1252")))
    assert told["new"] == 7
    (refused,) = told["quarantined"]
    assert "invalid UTF-8; a spreadsheet saves it as CSV UTF-8" in refused["reason"]


def test_columns_in_another_order_and_empty_rows_change_nothing(asked: Path):
    rows = rows_of(filled(export(asked, "csv")))
    turned = [dict(reversed(row.items())) | {"": ""} for row in rows]
    turned.insert(3, dict.fromkeys(turned[0], ""))
    told = run(asked, "import", "asked", str(write_rows(asked / "turned.csv", turned)))
    assert (told["new"], told["quarantined"]) == (8, [])


def test_a_huge_file_of_somebody_elses_is_quarantined_once_and_what_is_ours_taken(asked: Path):
    rows = rows_of(filled(export(asked, "jsonl")))
    other = [{**rows[0], "task_id": f"{at:020d}"} for at in range(3_000)]
    back = write_rows(asked / "huge.jsonl", [*other, *rows])
    for _ in range(2):
        told = run(asked, "import", "asked", str(back))
        assert len(told["quarantined"]) == 3_000
    assert (told["new"], told["known"]) == (0, 8)
    kept = (asked / "data/annotations/asked/quarantine.jsonl").read_text().splitlines()
    assert len(kept) == 3_000
    assert "unknown task" in json.loads(kept[-1])["reason"]
