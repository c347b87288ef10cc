import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata.errors import SourceError
from prefdata.sources import Imported, Sources, read
from prefdata.tables import digest

# As `inverse-cai` writes them: its default annotator, a principle, a column of the source.
ANNOTATORS: dict[str, Any] = {
    "ba751e7b": {"name": "preferred_text", "description": "Default annotator", "type": "unknown"},
    "aa": {"description": "Select the response that is shorter", "type": "principle"},
    "bb": {"name": "human_2", "description": "Column human_2", "type": "human"},
    "cc": {"name": "gpt-4o", "description": "A judge", "type": "ai"},
    "dd": {"description": "Is the prompt rude?", "type": "non_preference_principle"},
}

COUNTED = ("for", "against", "abstain", "invalid", "rank")


def comparison(at: int, annotations: Any, **changed: Any) -> dict[str, Any]:
    return {
        "id": f"c{at}",
        "prompt": f"question {at}",
        "response_a": {"text": f"short {at}", "model": "one"},
        "response_b": {"text": f"long {at}", "model": "other"},
        "annotations": annotations,
        "metadata": {"index": str(at), "group": "of the file, not of ours"},
        **changed,
    }


def imported(
    folder: Path,
    comparisons: list[Any],
    *,
    indent: int | None = 2,
    version: str = "2.0",
    **spec: Any,
) -> Imported:
    whole = {
        "metadata": {"version": version, "default_annotator": "ba751e7b"},
        "annotators": ANNOTATORS,
        "comparisons": comparisons,
    }
    (folder / "ap.json").write_text(json.dumps(whole, indent=indent))
    sources = Sources.model_validate({"votes": {"path": "ap.json", **spec}})
    return read(sources, folder)


def preferences(found: Imported) -> dict[str, tuple[float | None, str | None]]:
    """The preference for the short one and why there is none, by annotator."""
    votes = found.tables["votes"].join(
        found.tables["completions"].select(
            pl.col("completion_id").alias("completion_a"),
            short=pl.col("completion").list[0].struct["content"].str.starts_with("short"),
        ),
        on="completion_a",
    )
    shown = pl.when("short").then("preference").otherwise(1 - pl.col("preference"))
    return {row[0]: row[1:] for row in votes.select("annotator", shown, "unscored").rows()}


@pytest.mark.parametrize("indent", [None, 2])
def test_who_voted_and_what_is_told_by_the_types_of_the_file(tmp_path: Path, indent: int | None):
    votes = {
        "ba751e7b": {"pref": "a"},
        "aa": {"pref": None, "no_pref_reason": "not_applicable"},
        "bb": {"pref": "text_b"},
        "cc": {"pref": None, "no_pref_reason": "both"},
    }
    found = imported(tmp_path, [comparison(0, votes)], indent=indent)
    principle = "principle:" + digest("principle", "Select the response that is shorter")
    assert preferences(found) == {
        "human:ap": (1.0, None),
        principle: (None, "not applicable"),
        "human:human_2": (0.0, None),
        "llm:gpt-4o": (0.5, None),
    }
    assert found.tables["samples"]["generator"].sort().to_list() == ["one", "other"]
    # The keys of others' metadata mean what others mean.
    assert found.tables["prompts"]["group"].to_list() == [None]
    named = imported(tmp_path, [comparison(0, votes)], annotator="human:crowd")
    assert "human:crowd" in preferences(named)


def test_no_reason_is_lost_and_none_made_up(tmp_path: Path):
    reasons = ["invalid", "neither", None]
    rows = [
        comparison(at, {"bb": {"pref": None, "no_pref_reason": why}})
        for at, why in enumerate(reasons)
    ]
    votes = imported(tmp_path, rows).tables["votes"]
    assert votes["preference"].null_count() == 3
    assert set(votes["unscored"]) == {"invalid", "neither", "no reason given"}


GOOD = {"bb": {"pref": "a"}}
BAD: list[tuple[Any, str]] = [
    (["a list"], "a comparison is an object, but this is a list"),
    (comparison(9, GOOD, response_a="text"), "response_a is no object with a text"),
    (comparison(9, ["bb"]), "annotations is no object"),
    (comparison(9, {}), "nobody voted on it"),
    (comparison(9, {"zz": {"pref": "a"}}), "annotator zz: it is not in annotators"),
    (comparison(9, {"bb": {"preference": 1}}), "annotator bb: there is no pref"),
    (comparison(9, {"bb": "a"}), "annotator bb: there is no pref"),
    (comparison(9, {"bb": {"pref": "left"}}), "pref is 'left', not"),
    (comparison(9, {"bb": {"pref": True}}), "pref is 'True', not"),
    (comparison(9, {"dd": {"pref": None}}), "its type is 'non_preference_principle'"),
    (comparison(9, GOOD, prompt=None), "prompt is missing"),
    (comparison(9, GOOD, response_a={"text": 3}), "completion_a is a int"),
    (comparison(9, GOOD, response_a={"text": "long 9"}), "completion_a equals completion_b"),
    (comparison(9, {"bb": {"pref": "a", "votes": [{"preference": 2}]}}), "outside the scale"),
    (comparison(9, {"bb": {"pref": "a", "votes": [{}]}}), "preference is missing"),
    (comparison(9, {"bb": {"pref": "a", "votes": ["a"]}}), "one of its votes is no object"),
]


def test_what_is_wrong_is_quarantined_and_takes_nothing_with_it(tmp_path: Path):
    for bad, reason in BAD:
        found = imported(tmp_path, [comparison(0, GOOD), bad, comparison(1, GOOD)])
        assert found.tables["votes"].height == 2, reason
        (said,) = found.quarantined["reason"].to_list()
        assert reason in said


def test_a_wrong_annotation_does_not_take_the_others_of_its_comparison(tmp_path: Path):
    found = imported(tmp_path, [comparison(0, {"bb": {"pref": "x"}, "cc": {"pref": "b"}})])
    assert found.tables["votes"]["annotator"].to_list() == ["llm:gpt-4o"]
    assert found.quarantined.height == 1


def test_a_file_that_is_none_is_refused_with_its_reason(tmp_path: Path):
    with pytest.raises(SourceError, match=r"version 1\.0"):
        imported(tmp_path, [], version="1.0")
    whole = (tmp_path / "ap.json").read_text()
    sources = Sources.model_validate({"votes": "ap.json"})
    (tmp_path / "ap.json").write_text(whole[:-5])
    with pytest.raises(SourceError, match="is not AnnotatedPairs"):
        read(sources, tmp_path)
    (tmp_path / "ap.json").write_text('{\n"metadata": {}}')
    with pytest.raises(SourceError, match="metadata, annotators, comparisons"):
        read(sources, tmp_path)


def test_rows_a_line_in_a_json_file_stay_rows(tmp_path: Path):
    row = {"metadata": {}, "prompt": "x", "completion_a": "y", "completion_b": "z", "preference": 1}
    (tmp_path / "rows.json").write_text("\n".join([json.dumps(row), "{", json.dumps(row)]))
    found = read(Sources.model_validate({"votes": "rows.json"}), tmp_path)
    assert found.tables["votes"].height == 2
    assert found.quarantined.height == 1


def test_principles_of_others_are_counted_against_the_default_annotator(tmp_path: Path):
    votes = [
        {"pref": "a"}, {"pref": "text_a"}, {"pref": "b"}, {"pref": None, "no_pref_reason": "both"},
        {"pref": None, "no_pref_reason": "not_applicable"},
        {"pref": None, "no_pref_reason": "invalid"},
    ]  # fmt: skip
    rows = [comparison(at, {"ba751e7b": {"pref": "a"}, "aa": v}) for at, v in enumerate(votes)]
    rows.append(comparison(9, {"aa": {"pref": "a"}}))  # no label: counts for nothing
    found = imported(tmp_path, rows)
    (row,) = found.tables["principles"].to_dicts()
    assert row["principle"] == "Select the response that is shorter"
    assert row["principle_id"] == digest("principle", row["principle"])
    assert [row[k] for k in ("for", "against", "abstain", "invalid", "rank")] == [2, 1, 2, 1, 1]
    assert found.tables["votes"]["annotator"].str.contains(row["principle_id"]).any()


@pytest.mark.parametrize(
    "principles",
    [{}, [1], [{"principle": "x"}], [{"principle": " ", **dict.fromkeys(COUNTED, 1)}],
     [{"principle": "x", **dict.fromkeys(COUNTED, 1), "for": -1}],
     [{"principle": "x", **dict.fromkeys(COUNTED, 1), "rank": 0}],
     [{"principle": "x", **dict.fromkeys(COUNTED, 1), "for": True}]],
)  # fmt: skip
def test_principles_that_are_none_are_refused(tmp_path: Path, principles: Any):
    imported(tmp_path, [comparison(0, GOOD)])
    whole = json.loads((tmp_path / "ap.json").read_text())
    whole["metadata"]["principles"] = principles
    (tmp_path / "ap.json").write_text(json.dumps(whole))
    with pytest.raises(SourceError, match=r"metadata\.principles"):
        read(Sources.model_validate({"votes": "ap.json"}), tmp_path)
