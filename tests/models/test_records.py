"""What is exported is what was recorded, in both formats, and nothing else."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from prefdata import stage, tables
from prefdata.errors import ModelError
from prefdata.models import records
from prefdata.models.client import response, responses
from prefdata.models.ledger import Ledger
from prefdata.models.records import export
from tests.models.kept import SPEC, answers, asked, ids, record

TEXTS = ["a", "Größe \u2028?", "c" * 1000]


def read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    frame = pl.DataFrame(rows, schema={**records.columns(), "time": pl.String})
    return frame.with_columns(pl.col("time").str.to_datetime(time_unit="ms", time_zone="UTC"))


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_requests_and_responses_come_back_as_they_were(tmp_path: Path, name: str):
    requests = asked(TEXTS, draw=pl.Series([0, 1, 2]))
    given = answers(requests).with_columns(
        logprobs=pl.Series([[{"token": "é\n", "logprob": -0.1}], None, []]),
        vector=pl.Series([None, [0.5, -1e-300], None]),
        error=pl.Series([None, None, "refused"]),
    )
    given = tables.Responses(tables.check("responses", given, where="here"))
    before = datetime.now(UTC)
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.append(requests, given)
    done = export(tmp_path / "ledger", tmp_path / name)
    found = read(tmp_path / name)
    assert done.rows == found.height == 3
    assert done.bytes == (tmp_path / name).stat().st_size
    assert found.columns == [*records.columns()]
    assert dict(found.schema) == records.columns()
    back = tables.check("responses", found.select(given.columns), where="back")
    assert back.equals(given)
    asked_back = found.select(requests.columns).sort("request_id")
    assert asked_back.equals(requests.sort("request_id"))
    computed = [stage.request_id(*row) for row in asked_back.drop("request_id").iter_rows()]
    assert computed == asked_back["request_id"].to_list()
    assert all(abs(moment - before) < timedelta(minutes=1) for moment in found["time"])


def test_both_formats_say_the_same_and_batches_meet_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(records, "BATCH", 7)
    for start in range(0, 60, 20):
        record(tmp_path / "ledger", [str(i) for i in range(start, start + 20)])
    for name in ("out.jsonl", "out.parquet"):
        assert export(tmp_path / "ledger", tmp_path / name).rows == 60
    assert read(tmp_path / "out.jsonl").equals(read(tmp_path / "out.parquet"))


def test_the_newest_answers_or_all(tmp_path: Path):
    folder = tmp_path / "ledger"
    record(folder, ["a", "b"], " old")
    time.sleep(0.002)
    record(folder, ["a"], " new")
    export(folder, tmp_path / "new.jsonl")
    assert sorted(read(tmp_path / "new.jsonl")["text"]) == ["a new", "b old"]
    export(folder, tmp_path / "all.jsonl", superseded=True)
    assert sorted(read(tmp_path / "all.jsonl")["text"]) == ["a new", "a old", "b old"]


def test_filters_by_model_and_time(tmp_path: Path):
    folder = tmp_path / "ledger"
    other = SPEC.model_copy(update={"model": "other-7b"})
    record(folder, ["a"])
    time.sleep(0.002)
    middle = datetime.now(UTC)
    time.sleep(0.002)
    with Ledger(folder) as ledger:
        ledger.append(requests := asked(["b"], other), answers(requests))

    def texts(**how: object) -> list[str]:
        export(folder, tmp_path / "out.jsonl", overwrite=True, **how)  # pyright: ignore
        return sorted(read(tmp_path / "out.jsonl")["text"])

    assert texts(models=["m"]) == ["a"]
    assert texts(models=["other*"]) == ["b"]
    assert texts(models=["m", "other-7b"]) == ["a", "b"]
    assert texts(since=middle) == ["b"]
    assert texts(until=middle) == ["a"]
    assert texts(since=middle, models=["m"]) == []
    assert texts(since=middle.replace(tzinfo=None)) == ["b"], "without a zone it is UTC"
    assert texts(since=middle.astimezone(timezone(timedelta(hours=5)))) == ["b"]
    with pytest.raises(ModelError, match="did you mean 'other-7b'"):
        texts(models=["other-7"])


def test_damaged_lines_are_not_exported(tmp_path: Path):
    path = record(tmp_path / "ledger", ["a", "b"])
    path.write_bytes(path.read_bytes().replace(b'"text":"b"', b'"text":"B"') + b"torn")
    assert export(tmp_path / "ledger", tmp_path / "out.parquet").rows == 1


def test_an_export_goes_where_it_may_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "ledger"
    segment = record(folder, ["a"])
    before = segment.read_bytes()
    there = tmp_path / "there.jsonl"
    there.write_text("precious")
    for path, said in (
        (tmp_path / "out.csv", r"\.jsonl or \.parquet"),
        (segment, "own folder"),
        (folder / "new.jsonl", "own folder"),
        (there, "is there already"),
    ):
        with pytest.raises(ModelError, match=said):
            export(folder, path)
    with pytest.raises(ModelError, match="cannot be written"):
        export(folder, there / "below.jsonl")
    monkeypatch.setattr(records, "_arrow", lambda _: 1 / 0)  # pyright: ignore
    with pytest.raises(ZeroDivisionError):
        export(folder, tmp_path / "out.parquet")
    assert (segment.read_bytes(), there.read_text()) == (before, "precious")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger", "there.jsonl"]
    export(folder, there, overwrite=True)
    assert read(there).height == 1


def test_an_empty_ledger_is_an_export_without_rows(tmp_path: Path):
    for name in ("out.jsonl", "out.parquet"):
        assert export(tmp_path / "none", tmp_path / name).rows == 0
    assert dict(pl.read_parquet(tmp_path / "out.parquet").schema) == records.columns()


def test_a_failed_answer_is_a_row_with_its_reason(tmp_path: Path):
    requests = asked(["a"])
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.append(requests, responses([response(ids(["a"])[0], error="refused: no")]))
    export(tmp_path / "ledger", tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")["error"].to_list() == ["refused: no"]
