import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.errors import RecipeError, SourceError
from prefdata.sources import Sources, chunk, read

OK = {
    "prompts": {"prompt": "fine"},
    "completions": {"prompt": "fine", "completion": "yes"},
    "pairs": {"prompt": "fine", "chosen": "yes", "rejected": "no"},
    "votes": {"prompt": "fine", "completion_a": "y", "completion_b": "n", "preference": 1},
    "ratings": {"prompt": "fine", "completion": "yes", "rating": 3},
}
SPEC: dict[str, dict[str, Any]] = {"ratings": {"scale": [1, 5], "higher_is_better": True}}


def but(kind: str, **changed: Any) -> dict[str, Any]:
    return OK[kind] | changed


def said(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


DEEP = b"[" * 100_000
WRONG: list[tuple[str, Any, str]] = [
    ("prompts", b"{not json", "bad JSON: Expecting property name"),
    ("prompts", b'{"prompt": "cut', "bad JSON: Unterminated string"),
    ("prompts", b'{"prompt": NaN}', "bad JSON: NaN is not JSON"),
    ("prompts", DEEP, "bad JSON: "),
    ("prompts", b'{"prompt": "\xff"}', "invalid UTF-8 at byte 13"),
    ("prompts", b'{"prompt": "\\ud83d"}', "invalid UTF-8: half of a surrogate pair"),
    ("prompts", ["a", "list"], "a row is an object, but this is a list"),
    ("prompts", None, "a row is an object, but this is a NoneType"),
    ("prompts", {}, "prompt is missing"),
    ("prompts", {"prompt": None}, "prompt is missing"),
    ("prompts", {"prompt": " \n\u3000"}, "prompt is blank"),
    ("prompts", {"prompt": 5}, "prompt is a int, not a text or messages"),
    ("prompts", {"prompt": {"role": "user"}}, "prompt is a dict, not a text or messages"),
    ("prompts", {"prompt": []}, "prompt has no messages"),
    ("prompts", {"prompt": ["hi"]}, "prompt has a message without role"),
    ("prompts", {"prompt": said(("user", None))}, "prompt has a message whose content is not"),
    ("prompts", {"prompt": said(("user", ""))}, "prompt is blank"),
    ("prompts", {"prompt": said(("human", "x"))}, "prompt has an unknown role: human"),
    ("prompts", {"prompt": said(("assistant", "x"))}, "prompt has its roles out of order"),
    ("prompts", {"prompt": said(("user", "x"), ("user", "y"))}, "prompt has its roles out of"),
    ("prompts", {"prompt": said(("user", "x"), ("system", "y"))}, "prompt has its roles out of"),
    ("prompts", {"prompt": "x", "reference": ["4"]}, "reference is a list, not a single value"),
    ("prompts", {"prompt": "x", "tags": [1]}, "tags is [1], not a list of texts"),
    ("completions", but("completions", completion=None), "completion is missing"),
    ("completions", but("completions", completion=said(("user", "x"))), "completion has its roles"),
    ("completions", but("completions", draw=-1), "draw is -1.0, not a whole number"),
    ("completions", but("completions", draw=0.5), "draw is 0.5, not a whole number"),
    ("pairs", but("pairs", chosen="no"), "chosen equals rejected"),
    ("pairs", but("pairs", rejected=None), "rejected is missing"),
    ("pairs", but("pairs", prompt=None), "prompt is missing, and chosen and rejected do not"),
    ("pairs", but("pairs", prompt=None, chosen="a b", rejected="a c"), "prompt is missing, and ot"),
    (
        "pairs",
        but("pairs", chosen=said(("user", "x"), ("assistant", "y"))),
        "prompt is missing, and",
    ),
    ("pairs", but("pairs", chosen_first="yes"), "chosen_first is 'yes', not true or false"),
    ("votes", but("votes", completion_b="y"), "completion_a equals completion_b"),
    ("votes", but("votes", preference=None), "preference is missing"),
    ("votes", but("votes", preference="1"), "preference is '1', not a number"),
    ("votes", but("votes", preference=True), "preference is True, not a number"),
    ("votes", but("votes", preference=1.5), "preference is 1.5, outside the scale from 0 to 1"),
    ("votes", but("votes", preference=10**400), "preference is a number of hundreds of digits"),
    ("votes", but("votes", preference=[1]), "preference is [1], not a number"),
    ("ratings", but("ratings", rating=6), "rating is 6.0, outside the scale from 1 to 5"),
    ("ratings", but("ratings", rating=0), "rating is 0.0, outside the scale from 1 to 5"),
    ("ratings", but("ratings", rating="high"), "rating is 'high', not a number"),
]


@pytest.mark.parametrize(("kind", "row", "reason"), WRONG)
def test_a_bad_row_costs_itself_alone(imported: Any, kind: str, row: Any, reason: str) -> None:
    rows = [OK[kind], row, b"", OK[kind] | {"prompt": "other"}]
    made = imported(kind, rows, **SPEC.get(kind, {}))
    [(source, line, why, kept)] = made.quarantined.rows()
    assert (source, line) == ("rows", 2)
    assert why.startswith(reason)
    assert json.loads(kept) == (row.decode("utf-8", "replace") if isinstance(row, bytes) else row)
    assert made.tables["prompts"].height == 2
    assert made.rows == {"rows": 3}


@pytest.mark.parametrize(("kind", "row", "reason"), WRONG[:8] + WRONG[-8:])
def test_strict_makes_it_an_error(imported: Any, kind: str, row: Any, reason: str) -> None:
    with pytest.raises(SourceError, match=r"rows.jsonl, line 2: ") as error:
        imported(kind, [OK[kind], row], strict=True, **SPEC.get(kind, {}))
    assert reason in str(error.value)


def test_an_oversized_row_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.sources.json_rows.LARGEST", 100)
    rows = [{"prompt": "a"}, {"prompt": "b" * 1_000}, {"prompt": "c"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = read(Sources.model_validate({"prompts": "p.jsonl"}), tmp_path)
    [(line, reason)] = made.quarantined.select("line", "reason").rows()
    assert (line, reason) == (2, "the row has 1015 bytes, more than 100")
    assert made.tables["prompts"].height == 2
    assert len(made.quarantined["row"][0]) < chunk.KEPT + 10


def test_empty_completions_are_kept(imported: Any) -> None:
    made = imported("pairs", [but("pairs", rejected=""), but("pairs", chosen=" ")])
    assert made.quarantined.is_empty()
    assert made.tables["votes"].height == 2


def test_a_bad_row_of_csv(tmp_path: Path) -> None:
    text = b'prompt,completion,rating\np,x,3\np,y\np,"z\nz",three\np,\xff,4\np,,5\np,w,\n'
    (tmp_path / "r.csv").write_bytes(text)
    sources = Sources.model_validate({"ratings": {"path": "r.csv", **SPEC["ratings"]}})
    made = read(sources, tmp_path)
    assert made.quarantined.select("line", "reason").rows() == [
        (3, "bad CSV: the row has 2 cells, the header 3"),
        (4, "rating is 'three', not a number"),
        (6, "invalid UTF-8; a spreadsheet saves it as CSV UTF-8"),
        (8, "rating is missing"),
    ]
    assert sorted(made.tables["ratings"]["raw"]) == ["3", "5"]


def test_a_bad_row_of_parquet(tmp_path: Path) -> None:
    rows = {"prompt": ["p", "p", None], "completion": ["x", "y", "z"], "rating": [1.0, None, 2]}
    pl.DataFrame(rows).with_columns(rating=pl.col("rating").fill_null(float("nan"))).write_parquet(
        tmp_path / "r.parquet"
    )
    sources = Sources.model_validate({"ratings": {"path": "r.parquet", **SPEC["ratings"]}})
    made = read(sources, tmp_path)
    assert made.quarantined.select("line", "reason").rows() == [
        (2, "rating is NaN, not a finite number"),
        (3, "prompt is missing"),
    ]


@pytest.mark.parametrize("column", [[1, 2], [[1], [2]], [b"x", b"y"], [{"a": 1}, {"a": 2}]])
def test_a_column_of_another_type_is_all_quarantined(tmp_path: Path, column: list[Any]) -> None:
    pl.DataFrame({"prompt": column}).write_parquet(tmp_path / "p.parquet")
    made = read(Sources.model_validate({"prompts": "p.parquet"}), tmp_path)
    assert made.quarantined["line"].to_list() == [1, 2]
    assert made.tables["prompts"].is_empty()


def test_messages_that_datasets_wrote_to_a_csv_are_none(tmp_path: Path):
    """A conversational view by `to_csv` holds what Python prints of its messages."""
    datasets = pytest.importorskip("datasets")
    rows = [
        {
            "prompt": said(("user", f'Say {i}, it\'s "q"')),
            "chosen": said(("assistant", f"yes {i}\n")),
            "rejected": said(("assistant", "'no'")),
        }
        for i in range(3)
    ]
    datasets.Dataset.from_list(rows).to_csv(str(tmp_path / "p.csv"))
    with (tmp_path / "p.csv").open("a") as file:
        file.write("\"[{'role': a list of roles }]\",\"[{'x': 1}]\",\"[{'role': 'user'\"\n")
        file.write("say [{'role': 'user'}],yes,no\n")
    found = read(Sources.model_validate({"pairs": "p.csv"}), tmp_path)
    assert found.tables["prompts"].height == 1  # that speaks of such messages is a text
    reasons = found.quarantined["reason"].to_list()
    assert len(reasons) == 4
    assert all("as Python prints them" in each and "to_parquet" in each for each in reasons)


def test_of_a_folder_it_is_told_which_file_of_it_can_be_named(tmp_path: Path):
    (tmp_path / "view" / "train").mkdir(parents=True)
    (tmp_path / "view" / "dataset_dict.json").write_text("{}")
    sources = Sources.model_validate({"pairs": "view"})
    with pytest.raises(RecipeError, match="is a folder, not a file; no file in it has rows"):
        read(sources, tmp_path)
    (tmp_path / "view" / "train" / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(RecipeError, match=r"name a file in it, such as .*view/train/data-0.*arrow"):
        read(sources, tmp_path)
