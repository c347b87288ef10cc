import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from prefdata.sources import Sources

RATED = {"path": "r.csv", "scale": [1, 5], "higher_is_better": True}


def parsed(toml: str) -> Sources:
    return Sources.model_validate(tomllib.loads(toml)["sources"])


def test_a_path_a_table_and_a_list_are_sources() -> None:
    sources = parsed(
        """
        sources.prompts = "data/a.jsonl"
        sources.hub = "org/name"
        sources.ratings = [
            {path = "b.csv", scale = [1, 5], higher_is_better = true},
            {path = "c.csv", scale = [0, 1], higher_is_better = false, name = "third"},
        ]
        [sources.votes]
        path = "d.parquet"
        values.preference = {1 = 1.0, 0 = 0.5}
        """
    )
    kinds = [spec.kind for spec in sources.specs]
    assert kinds == ["prompts", "votes", "ratings", "ratings", "hub"]
    assert [spec.name for spec in sources.specs] == ["a", "d", "b", "third", "name"]
    assert sources.specs[-1].hub == "org/name"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"prompts": {"path": "a", "colums": {}}}, "colums"),
    "an unknown kind": ({"promts": "a"}, "promts"),
    "a column of ours that is none": (
        {"votes": {"path": "a", "columns": {"completon_a": "x"}}},
        "did you mean 'completion_a'",
    ),
    "values for a column that is none": (
        {"votes": {"path": "a", "values": {"preferense": {"1": 1}}}},
        "did you mean 'preference'",
    ),
    "a value outside of the scale": (
        {"votes": {"path": "a", "values": {"preference": {"L": 2}}}},
        "from 0.0 to 1.0",
    ),
    "neither path nor hub": ({"prompts": {"name": "x"}}, "either a path or a hub"),
    "both path and hub": ({"prompts": {"path": "a", "hub": "b/c"}}, "either a path or a hub"),
    "ratings without a scale": ({"ratings": "a.csv"}, "scale"),
    "a scale without a direction": (
        {"ratings": {"path": "a", "scale": [1, 5]}},
        "higher_is_better",
    ),
    "a scale upside down": ({"ratings": {**RATED, "scale": [5, 1]}}, "lowest"),
    "an annotator of no kind": ({"pairs": {"path": "a", "annotator": "bob"}}, "annotator"),
    "two names that are one": ({"prompts": ["x/a.csv", "y/a.csv"]}, "called 'a'"),
    "an annotator without a label": (
        {"votes": {"path": "a", "annotators": {"human:1": {"rationale": "why"}}}},
        "column of the preference",
    ),
    "two ways to say who": (
        {"votes": {"path": "a", "annotators": {"human:1": "x"}, "columns": {"annotator": "y"}}},
        "exclude each other",
    ),
    "pairs unfolded": ({"pairs": {"path": "a", "annotators": {"human:1": "x"}}}, "sources.votes"),
    "ratings of pairs without a scale": (
        {"pairs": {"path": "a", "columns": {"rating_chosen": "x"}}},
        "scale",
    ),
}


@pytest.mark.parametrize(("raw", "says"), WRONG.values(), ids=WRONG)
def test_what_a_recipe_gets_wrong_is_said(raw: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Sources.model_validate(raw)


def test_the_group_is_the_name_of_a_column() -> None:
    [spec] = Sources.model_validate({"prompts": {"path": "a", "group": "topic"}}).specs
    assert spec.columns == {"group": "topic"}
