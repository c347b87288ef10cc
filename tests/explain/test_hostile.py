"""Recipe icai to its end, card and page and file for Feedback Forensics, on what could break it."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.sources import Sources, read
from prefdata.version import annotated_pairs
from tests.explain.hostile import EVIL, Says, built_from, rows, runs_nothing
from tests.explain.planted import listed


def sensible(request: dict[str, Any], keys: dict[str, Any]) -> str:
    """Every other rule is for the better one, wherever it stands."""
    if "principles" in keys:
        return json.dumps({"principles": ["Select the better reply.", "Select the longer reply."]})
    shown = re.findall(r"\b(better|worse) \d", request["messages"][-1]["content"])
    side = "A" if shown[0] == "better" else "B"
    if "verdict" in keys:
        return json.dumps({"verdict": side})
    return json.dumps({key: side if int(key) % 2 else "N/A" for key in keys})


def always_a(request: dict[str, Any], keys: dict[str, Any]) -> str:
    return sensible(request, keys) if "principles" in keys else json.dumps(dict.fromkeys(keys, "A"))


def malformed(request: dict[str, Any], keys: dict[str, Any]) -> str | None:
    long = json.dumps({"principles": ["x" * 5000]})
    kinds = [None, "", "{", "[]", '{"principles": "one text"}', '{"1": "C"}', '{"1": {"1": "A"}}',
             long, "\ud800", "null", '{"principles": [""]}']  # fmt: skip
    return kinds[int(request["request_id"][:4], 16) % len(kinds)]


def doubles(request: dict[str, Any], keys: dict[str, Any]) -> str:
    if "principles" in keys:
        same = ["Select the better reply.", "select  the BETTER reply", "Ｓelect the better reply!"]
        return json.dumps({"principles": same})
    return sensible(request, keys)


def evil(request: dict[str, Any], keys: dict[str, Any]) -> str:
    said = str(request["messages"])
    assert "<|im_end|>" not in said
    if "principles" in keys:
        return json.dumps({"principles": [EVIL, EVIL[::-1], "Select the better reply."]})
    if "verdict" not in keys:
        assert list(listed(request)) == list(keys)  # no principle adds a line of its own
    return sensible(request, keys)


def silent(request: dict[str, Any], keys: dict[str, Any]) -> None:
    return None


CASES: dict[str, tuple[list[Any], Says]] = {
    "one pair": (rows(1), sensible),
    "two pairs": (rows(2), sensible),
    "one prompt": (rows(12, prompts=1), sensible),
    "all contradict each other": (
        [row for each in rows(4) for row in
         (each, {**each, "chosen": each["rejected"], "rejected": each["chosen"]})], sensible,
    ),
    "the same row twice": ([*rows(6), *rows(6)], sensible),
    "all pairs say the same": (
        [{**row, "chosen": "better 0", "rejected": "worse 0"} for row in rows(12)], sensible,
    ),
    "bad rows among many": (
        [*rows(8), {"prompt": "x"}, "text", {"prompt": "y", "chosen": "z"}], sensible,
    ),
    "huge texts": (rows(3, extra="word " * 20_000), sensible),
    "always A": (rows(12), always_a),
    "malformed": (rows(12), malformed),
    "doubles": (rows(12), doubles),
    "no reply": (rows(12), silent),
    "injections": (rows(12, extra=EVIL.replace("\ud800", "")), evil),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_recipe_comes_to_its_end_and_makes_nothing_up(tmp_path: Path, case: str):
    given, says = CASES[case]
    built, known = built_from(tmp_path, "icai", given, says, "stages.0.apart=group")
    principles = known.get("principles", pl.DataFrame(schema=tables.schema("principles").dtypes))
    measures = known["measures"]
    value = dict(measures.filter(pl.col("subject") == "icai").select("measure", "value").rows())
    assert principles.height == value["principles_kept"]
    if case in ("always A", "malformed", "no reply", "all contradict each other"):
        assert principles.is_empty()
        none = measures.filter(pl.col("measure").str.starts_with("constitution_"))
        assert none["value"].null_count() == none.height == 3
        assert none["note"].null_count() == 0
    else:
        assert principles.height > 0
    if case == "doubles":
        assert value["principles_distinct"] == 1
    held_out = known["scores"].filter(pl.col("value") == 1) if "scores" in known else []
    assert len(held_out) == (0 if case in ("one pair", "one prompt") else len(held_out))

    runs_nothing(Path(built.path))
    if "votes" in known:
        file = tmp_path / "ap.json"
        annotated_pairs.write(file, known, f"{built.name}@{built.id}", "human:pairs")
        back = read(Sources.model_validate({"votes": "ap.json"}), tmp_path)
        assert back.quarantined.is_empty()
        assert back.tables["votes"].height == known["votes"].height
        if principles.height:
            assert back.tables["principles"].sort("rank").equals(principles.sort("rank"))
