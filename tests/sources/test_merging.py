import json
from pathlib import Path
from typing import Any

from prefdata.sources import Imported, Sources, read


def both(folder: Path, one: list[Any], other: list[Any], **kinds: str) -> Imported:
    for name, rows in (("one", one), ("other", other)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    raw = {kinds.get("first", "prompts"): ["one.jsonl", "other.jsonl"]}
    return read(Sources.model_validate(raw), folder)


def test_equal_prompts_are_one_with_all_tags_and_sources(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "p"}]
    made = both(
        tmp_path,
        [{"prompt": "p", "tags": ["b", "a"], "reference": "4"}, {"prompt": "p", "group": "g"}],
        [{"prompt": chat, "tags": "c, a", "user": "u"}, {"prompt": "q"}],
    )
    rows = {row["prompt"][0]["content"]: row for row in made.tables["prompts"].rows(named=True)}
    assert made.quarantined.is_empty()
    merged = {name: rows["p"][name] for name in ("source", "tags", "reference", "group", "user")}
    assert merged == {
        "source": "one,other",
        "tags": ["a", "b", "c"],
        "reference": "4",
        "group": "g",
        "user": "u",
    }
    assert (rows["q"]["source"], rows["q"]["tags"]) == ("other", None)


def test_the_value_of_most_rows_stands(tmp_path: Path) -> None:
    for name in ("reference", "group", "user"):
        row = [{"prompt": "p", name: value} for value in ("4", "5", "4")]
        made = both(tmp_path, row[:2], row[2:])
        assert made.tables["prompts"][name].to_list() == ["4"]
        [(source, line, reason, kept)] = made.quarantined.rows()
        assert (source, line, json.loads(kept)) == ("one", 2, row[1])
        assert reason == f"the same prompt has another {name} in other rows: 5 here"


def test_without_most_rows_none_stands(tmp_path: Path) -> None:
    made = both(tmp_path, [{"prompt": "p", "reference": "4"}], [{"prompt": "p", "reference": "5"}])
    assert made.tables["prompts"].is_empty()
    assert made.quarantined["source"].to_list() == ["one", "other"]


def test_a_quarantined_row_leaves_no_text_behind(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "x", "rejected": "y", "reference": "4"}
    odd = row | {"rejected": "only here", "reference": "5"}
    made = both(tmp_path, [row, row], [odd], first="pairs")
    texts = [each[0]["content"] for each in made.tables["completions"]["completion"]]
    assert sorted(texts) == ["x", "y"]
    assert made.tables["votes"].height == 2


def test_several_kinds_make_one_pool(tmp_path: Path) -> None:
    rows = {
        "prompts": [{"prompt": "p", "reference": "4"}],
        "completions": [{"prompt": "p", "completion": "x", "generator": "m"}],
        "votes": [{"prompt": "p", "completion_a": "x", "completion_b": "y", "preference": 1}],
    }
    for kind, each in rows.items():
        (tmp_path / f"{kind}.jsonl").write_text("\n".join(map(json.dumps, each)))
    sources = Sources.model_validate({kind: f"{kind}.jsonl" for kind in rows})
    made = read(sources, tmp_path)
    assert {name: table.height for name, table in made.tables.items()} == {
        "prompts": 1,
        "completions": 2,
        "samples": 1,
        "votes": 1,
    }
    assert made.tables["prompts"]["source"].to_list() == ["completions,prompts,votes"]
    limited = read(sources, tmp_path, limit=1)
    assert limited.tables["votes"].height == 1
