import csv
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from prefdata.errors import RecipeError, SourceError
from prefdata.sources import (
    Imported,
    Sources,
    header,
    json_rows,
    read,
    resolved,
    tables_made,
)
from prefdata.sources.files import chunks, lines, size

ROWS: list[dict[str, Any]] = [
    {"prompt": "one, two\n?", "completion_a": 'a"b', "completion_b": "ç 😀", "preference": 1.0},
    {"prompt": "one, two\n?", "completion_a": "", "completion_b": "c", "preference": 0.25},
    {"prompt": "three", "completion_a": "x", "completion_b": " y ", "preference": 0.5},
]


def written(folder: Path, suffix: str) -> str:
    path = folder / f"rows.{suffix}"
    table = pl.DataFrame(ROWS).to_arrow(compat_level=pl.CompatLevel.oldest())
    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    match suffix:
        case "jsonl":
            path.write_bytes(b"\xef\xbb\xbf" + lines + b"\r\n\r\n")
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines))
        case "json":
            path.write_text(json.dumps(ROWS, indent=1))
        case "csv" | "tsv":
            with path.open("w", newline="", encoding="utf-8") as file:
                delimiter = "," if suffix == "csv" else "\t"
                writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
                writer.writeheader()
                writer.writerows(ROWS)
        case "parquet":
            pl.DataFrame(ROWS).write_parquet(path)
        case "arrow":
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        case _:
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table)
    return path.name


FORMATS = ["jsonl", "jsonl.gz", "json", "csv", "tsv", "parquet", "arrow", "ipc"]


def votes(folder: Path, path: str, **spec: Any) -> Imported:
    return read(Sources.model_validate({"votes": {"path": path, "name": "rows", **spec}}), folder)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_tables(tmp_path: Path, suffix: str) -> None:
    plain = votes(tmp_path, written(tmp_path, "jsonl"))
    other = votes(tmp_path, written(tmp_path, suffix))
    assert other.quarantined.is_empty()
    assert other.rows == {"rows": 3}
    assert plain.tables.keys() == other.tables.keys()
    for name, table in plain.tables.items():
        assert_frame_equal(table, other.tables[name])


def test_json_rows_a_line_may_end_in_json(tmp_path: Path) -> None:
    lines = (tmp_path / written(tmp_path, "jsonl")).read_bytes()
    (tmp_path / "lines.json").write_bytes(lines)
    assert votes(tmp_path, "lines.json").tables["votes"].height == 3


def test_a_hub_dataset_gives_the_same_tables_and_shows_its_kind(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    pl.DataFrame(ROWS).write_parquet(folder / "train-0.parquet")
    sources = Sources.model_validate({"hub": {"hub": str(folder), "name": "rows"}})
    assert [spec.kind for spec in resolved(sources, tmp_path)] == ["votes"]
    assert tables_made(sources, tmp_path) == ("prompts", "completions", "votes")
    assert lines(sources.specs[0], tmp_path, 2) == 3
    assert size(sources.specs, tmp_path) > len(str(ROWS)) / 4
    plain = votes(tmp_path, written(tmp_path, "jsonl"))
    assert_frame_equal(plain.tables["votes"], read(sources, tmp_path).tables["votes"])


def test_a_hub_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    sources = Sources.model_validate({"pairs": {"hub": str(tmp_path / "none")}})
    with pytest.raises(SourceError, match="none"):
        read(sources, tmp_path)


def test_a_chunk_is_no_border(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = votes(tmp_path, written(tmp_path, "jsonl"))
    for module in ("json_rows", "csv_rows", "arrow_rows"):
        monkeypatch.setattr(f"prefdata.sources.{module}.ROWS", 2)
    for suffix in FORMATS:
        parted = votes(tmp_path, written(tmp_path, suffix))
        assert_frame_equal(whole.tables["votes"], parted.tables["votes"])


def test_a_chunk_is_bounded_in_bytes_and_so_is_what_is_said_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few long rows are as many bytes as many short ones; a whole file of them is too many."""
    long = [{**row, "completion_a": f"{i} " + "long " * 200} for i in range(20) for row in ROWS]
    monkeypatch.setattr(sys.modules[__name__], "ROWS", long)
    for module in ("json_rows", "csv_rows", "arrow_rows"):
        monkeypatch.setattr(f"prefdata.sources.{module}.BYTES", 8_000)
    for suffix in FORMATS:
        path = written(tmp_path, suffix)
        [spec] = Sources.model_validate({"votes": path}).specs
        sizes = [len(chunk.line) for chunk in chunks(spec, tmp_path, ["completion_a"])]
        assert sum(sizes) == 60, suffix
        assert max(sizes) <= 16, suffix
        if suffix != "jsonl.gz":  # how much longer it is unpacked is a guess
            n = 101 if suffix in ("csv", "tsv") else 60  # there, a cell may go over several lines
            assert lines(spec, tmp_path, 20) == pytest.approx(n, rel=0.1), suffix
            limited = size([spec], tmp_path, 6)
            assert limited == pytest.approx(size([spec], tmp_path) * 6 / n, rel=0.1), suffix


VALUES: list[Any] = [
    {"a": 'é "😀" \\ \n', "b": [1, {"c": None}], "d": -1.5e-3},
    {},
    {"long": "x" * 300},
    7, 12.25, "text", None, True, ["list"],
]  # fmt: skip


@pytest.mark.parametrize("piece", [1, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_rows, "PIECE", piece)
    [spec] = Sources.model_validate({"votes": "rows.json"}).specs
    path = tmp_path / "rows.json"
    for values in (VALUES, VALUES[:1], []):
        said = json.dumps(values, ensure_ascii=False, indent=indent)
        path.write_text(f"\ufeff {said}\n ", encoding="utf-8")
        rows = list(json_rows.json_rows(spec, path))
        good = [row for _, row, _ in rows if not isinstance(row, json_rows.Wrong)]
        assert good == [value for value in values if isinstance(value, dict)]
        assert [number for number, _, _ in rows] == list(range(1, len(values) + 1))


@pytest.mark.parametrize("piece", [1, 2**20])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[{"a": 1} {"a": 2}]', r"Expecting ',' delimiter at character 11"),
        ('[{"a": 1}, ]', "Expecting value at character 12"),
        ('[{"a": 1}', "Expecting ',' delimiter at character 10"),
        ('[{"a": 1}, {"a": "2}]', "Unterminated string starting at at character 18"),
        ('[{"a": 1}] []', "Extra data at character 12"),
        ('[{"a": NaN}]', "NaN is not JSON"),
    ],
)
def test_an_array_that_is_none_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, text: str, why: str
) -> None:
    monkeypatch.setattr(json_rows, "PIECE", piece)
    [spec] = Sources.model_validate({"votes": "rows.json"}).specs
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(SourceError, match=rf"is not a JSON array of rows: {re.escape(why)}; mend"):
        list(json_rows.json_rows(spec, tmp_path / "rows.json"))


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    written(tmp_path, "jsonl")
    [spec] = Sources.model_validate({"votes": "rows.jsnl"}).specs
    with pytest.raises(RecipeError, match=r"sources.votes rows.jsnl.*did you mean 'rows.jsonl'"):
        header(spec, tmp_path)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parqet").write_bytes(b"")
    [spec] = Sources.model_validate({"votes": "rows.parqet"}).specs
    with pytest.raises(RecipeError, match="did you mean 'parquet'"):
        header(spec, tmp_path)


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "jsonl.gz", "json"])
def test_a_broken_file_is_a_source_error(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"rows.{suffix}").write_bytes(b"[nothing of the kind")
    with pytest.raises(SourceError, match=r"sources\.votes"):
        votes(tmp_path, f"rows.{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_header_gives_our_columns_and_the_files(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    spec = {"path": path, "columns": {"rationale": "prompt"}}
    [votes] = Sources.model_validate({"votes": spec}).specs
    ours = ("prompt", "completion_a", "completion_b", "preference")
    assert header(votes, tmp_path) == {**{name: name for name in ours}, "rationale": "prompt"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    wrong = {
        "columns.rationale.*'promt'.*did you mean 'prompt'": {"columns": {"rationale": "promt"}},
        "annotators.human:1 .*'preferense'.*did you mean 'preference'": {
            "annotators": {"human:1": "preferense"}
        },
    }
    for says, table in wrong.items():
        [spec] = Sources.model_validate({"votes": {"path": path, **table}}).specs
        with pytest.raises(RecipeError, match=says):
            header(spec, tmp_path)
    [spec] = Sources.model_validate(
        {"ratings": {"path": path, "scale": [0, 1], "higher_is_better": True}}
    ).specs
    with pytest.raises(RecipeError, match=r"lacks the column 'completion'.*'completion_[ab]'"):
        header(spec, tmp_path)


def test_a_late_key_of_json_rows_is_found(tmp_path: Path) -> None:
    rows = [{"prompt": str(n)} for n in range(300)] + [{"prompt": "x", "late": "tag"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = {"path": "p.jsonl", "columns": {"tags": "late"}}
    prompts = read(Sources.model_validate({"prompts": spec}), tmp_path).tables["prompts"]
    assert prompts["tags"].drop_nulls().to_list() == [["tag"]]


def test_limits_are_of_rows_for_a_source_and_of_prompts_for_all(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl")
    assert votes(tmp_path, path, limit=2).rows == {"rows": 2}
    sources = Sources.model_validate({"votes": path})
    first = read(sources, tmp_path, limit=1).tables
    assert (first["prompts"].height, first["votes"].height) == (1, 2)


text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.fixed_dictionaries({"prompt": text, "reference": text | st.none()})))
def test_prompts_round_trip_through_jsonl(tmp_path_factory: Any, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("round")
    unique = {row["prompt"]: row for row in rows if row["prompt"].strip()}
    lines = [json.dumps(row) for row in [{"prompt": "first"}, *unique.values()]]
    (folder / "p.jsonl").write_text("\n".join(lines), encoding="utf-8")
    made = read(Sources.model_validate({"prompts": "p.jsonl"}), folder)
    got = {
        row["prompt"][0]["content"]: row["reference"]
        for row in made.tables["prompts"].rows(named=True)
    }
    blank = {line["prompt"] for line in map(json.loads, made.quarantined["row"])}
    want = {"first": None} | {p: row["reference"] or None for p, row in unique.items()}
    assert got == {p: reference for p, reference in want.items() if p not in blank}
    assert not any(p.strip() and p.isprintable() for p in blank)


EMPTY: dict[str, bytes] = {
    "rows.jsonl": b"",
    "blank.jsonl": b"\n \n",
    "rows.json": b"[]",
    "rows.csv": b"",
    "rows.tsv": b"\xef\xbb\xbf",
    "rows.jsonl.gz": gzip.compress(b""),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("kind", ["prompts", "votes"])
def test_an_empty_file_is_said_to_be_empty_and_where(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(EMPTY[name])
    sources = Sources.model_validate({kind: name})
    said = f"^sources.{kind} {name}: {tmp_path / name} is empty: it has no row"
    with pytest.raises(SourceError, match=said):
        read(sources, tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow"])
def test_columns_without_a_row_are_told_in_the_audit(tmp_path: Path, suffix: str) -> None:
    name = written(tmp_path, suffix)
    path = tmp_path / name
    none = pl.DataFrame(ROWS).clear()
    match suffix:
        case "csv":
            none.write_csv(path)
        case "parquet":
            none.write_parquet(path)
        case _:
            none.write_ipc(path, compat_level=pl.CompatLevel.oldest())
    made = votes(tmp_path, name)
    assert "rows: it has no row" in map(str, made.audit)
    assert made.tables["votes"].is_empty()


def test_rows_of_which_none_can_be_read_are_not_said_to_lack_a_column(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{no\n[1]\n")
    with pytest.raises(SourceError, match="none of its first rows can be read, that in line 1"):
        votes(tmp_path, "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(SourceError, match="its rows have no keys"):
        votes(tmp_path, "rows.jsonl")
