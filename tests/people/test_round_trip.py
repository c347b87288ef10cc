"""Out as CSV or JSONL, answered, back in, built again: by the command line, as people do it."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import prefdata
from prefdata import cli
from prefdata.dataset import Built
from tests.people.planted import build, filled, quality, rows_of, write_rows

RUNNER = CliRunner()


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    told = RUNNER.invoke(
        cli.app, ["annotate", *arguments, "--data", str(folder / "data"), "--json"]
    )
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout.splitlines()[-1])


def export(folder: Path, tool: str, *more: str) -> Path:
    made = run(folder, "export", "asked", "--tool", tool, "--out", str(folder / "out"), *more)
    return next(Path(each) for each in made["files"] if each.endswith(f".{tool}"))


def table(folder: Path, name: str) -> pl.DataFrame:
    return prefdata.load("asked", name, data=folder / "data")


@pytest.mark.parametrize("tool", ["csv", "jsonl"])
def test_what_people_answer_is_votes_of_the_next_version_and_all_else_is_reused(
    first: tuple[Built, Path], asked: Path, tool: str
):
    before, _ = first
    assert before.requests["asked"] > 0
    assert before.tables["assignments"] == 8
    handed_out = export(asked, tool)
    texts = {
        id: turns[0]["content"]
        for id, turns in table(asked, "completions").select("completion_id", "completion").rows()
    }
    queue = table(asked, "assignments").sort("priority")
    sides = queue.select("completion_a", "completion_b").rows()
    for row, (a, b) in zip(rows_of(handed_out), sides, strict=True):
        assert {row["first"], row["second"]} == {texts[a], texts[b]}, "in the order of priority"
    told = run(asked, "import", "asked", str(filled(handed_out, seconds="21")))
    assert (told["new"], told["quarantined"]) == (8, [])

    second = build(asked)
    assert second.id != before.id
    assert (second.requests["asked"], second.requests["cached"]) == (0, before.requests["asked"])
    assert prefdata.load(f"asked@{before.id}", "votes", data=asked / "data").height == 20
    votes = table(asked, "votes").filter(pl.col("annotator") == "human:anna")
    assert votes.height == 8
    right = [
        quality(texts[a]) > quality(texts[b])
        for a, b in votes.select("completion_a", "completion_b").rows()
    ]
    assert votes["preference"].to_list() == [float(each) for each in right]
    traced = votes.join(
        table(asked, "annotations"), left_on="request_id", right_on="task_id", validate="1:1"
    )
    assert traced.filter(pl.col("a_first") == pl.col("a_first_right")).height == 8
    assert traced["seconds"].unique().to_list() == [21.0]
    left = table(asked, "assignments")
    assert left.join(votes, on=["completion_a", "completion_b"], how="semi").is_empty()

    again = run(asked, "import", "asked", str(filled(handed_out, seconds="21")))
    assert (again["new"], again["known"]) == (0, 8)
    third = build(asked)
    assert (third.id, third.is_new) == (second.id, False)


def test_what_a_spreadsheet_would_calculate_comes_back_as_it_was(asked: Path):
    handed_out = export(asked, "csv")
    rows = rows_of(handed_out)
    assert all(row["prompt"].startswith("'=SUM(") for row in rows)
    for row in rows:  # a program that takes the apostrophe for its own, and ends lines as it likes
        row |= {"annotator": "anna", "helpfulness": "First"}
        row["prompt"] = row["prompt"].removeprefix("'").replace("\n", "\r\n")
    told = run(asked, "import", "asked", str(write_rows(asked / "mine.csv", rows)))
    assert (told["new"], told["quarantined"]) == (8, [])


def test_a_file_with_everything_wrong_in_it_gives_what_is_right(asked: Path):
    rows = rows_of(filled(export(asked, "csv")))
    rows[0]["task_id"] = "0" * 20
    rows[1]["second"] += " edited"
    rows[2]["annotator"] = ""
    rows[3] |= {"helpfulness": "", "rationale": "hm"}
    rows[4]["helpfulness"] = "both"
    rows[5] |= {"annotator": "", "helpfulness": ""}  # not answered yet
    rows.append(rows[6] | {"helpfulness": "tie"})  # somebody else under the same name
    back = write_rows(asked / "back.csv", rows)
    with back.open("a") as file:
        file.write("one,cell,too,few\n")
    told = run(asked, "import", "asked", str(back))
    assert (told["new"], told["waiting"]) == (1, 1)
    reasons = sorted(each["reason"].partition(": ")[0] for each in told["quarantined"])
    assert reasons == sorted(
        ["unknown task", "changed text", "half-filled", "half-filled", "bad CSV"]
        + ["helpfulness is 'both', which is none of first, second, tie, cannot tell"]
        + ["human:anna has answered this task in several ways here"] * 2
    )
    kept = (asked / "data/annotations/asked/quarantine.jsonl").read_text().splitlines()
    assert len(kept) == 8
    run(asked, "import", "asked", str(back))
    again = (asked / "data/annotations/asked/quarantine.jsonl").read_text().splitlines()
    assert again == kept, "the same file again is the same quarantine"


def test_a_file_may_leave_the_annotator_to_who_takes_it_in(asked: Path):
    back = filled(export(asked, "jsonl"), who="")
    told = run(asked, "import", "asked", str(back), "--annotator", "bert")
    assert told["annotators"] == ["human:bert"]


def test_ratings_come_back_as_ratings(asked: Path):
    layout = ["--layout", "rating", "--judge", "helpfulness-rating"]
    handed_out = export(asked, "csv", *layout)
    rows = rows_of(handed_out)
    assert len(rows) == len({row["completion"] for row in rows}) == 16
    for row in rows:
        row |= {"annotator": "anna", "helpfulness": str(1 + round(4 * quality(row["completion"])))}
    run(asked, "import", "asked", str(write_rows(asked / "anna.csv", rows)))
    build(asked)
    ratings = table(asked, "ratings").join(table(asked, "completions"), on="completion_id")
    assert ratings.height == 16
    for text, rating in ratings.select("completion", "rating").rows():
        assert rating == pytest.approx(quality(text[0]["content"]), abs=0.126)


def test_nothing_handed_out_nothing_taken(asked: Path):
    back = write_rows(asked / "x.jsonl", [{"task_id": "x", "helpfulness": "first"}])
    told = RUNNER.invoke(
        cli.app, ["annotate", "import", "asked", str(back), "--data", str(asked / "data")]
    )
    assert told.exit_code == 1
    assert "nothing was handed out for this dataset" in told.output


def test_annotation_files_hold_no_secret_of_the_environment(
    asked: Path, monkeypatch: pytest.MonkeyPatch
):
    secret = "planted-0123456789abcdef"
    for name in ("OPENAI_API_KEY", "LABEL_STUDIO_API_KEY"):
        monkeypatch.setenv(name, secret)
    for tool in ("csv", "jsonl", "label-studio", "argilla"):
        run(asked, "export", "asked", "--tool", tool)
    written = [path for path in (asked / "data").rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("tool", ["csv", "jsonl", "label-studio", "argilla"])
def test_no_key_of_the_environment_is_in_what_is_handed_out_or_kept(
    asked: Path, tool: str, monkeypatch: pytest.MonkeyPatch
):
    planted = "planted-0123456789abcdef"
    for name in ("LABEL_STUDIO_API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "LABEL_STUDIO_URL"):
        monkeypatch.setenv(name, planted)
    run(asked, "export", "asked", "--tool", tool, "--out", str(asked / "out"))
    files = [path for path in asked.rglob("*") if path.is_file()]
    assert any(asked / "out" in path.parents for path in files)
    assert [path for path in files if planted.encode() in path.read_bytes()] == []
