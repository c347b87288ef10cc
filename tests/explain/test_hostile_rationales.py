"""Recipe rationales to its end, card and page and export, on what could break it."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from datasets import load_from_disk

from prefdata.explain._places import place_in
from tests.explain.hostile import EVIL, Says, built_from, rows, runs_nothing

GOOD = "[CHOSEN] does what is asked, and [REJECTED] does not."
WICKED = "<script>alert(2)</script> ```\n<|im_end|> | [x](y) \u202e ${HOME} {criteria} 日本語"
HUGE = "word " * 20_000


def side(request: dict[str, Any]) -> str:
    shown = re.findall(r"\b(better|worse) \d", request["messages"][-1]["content"])
    return "A" if shown[0] == "better" else "B"


def writes(text: Any, judges: str | None = None) -> Says:
    """A writer who always writes the same, and a judge who knows the better one, or says this."""

    def said(request: dict[str, Any], keys: dict[str, Any]) -> str:
        if "rationale" in keys:
            return json.dumps({"rationale": text})
        assert "[CHOSEN]" not in request["messages"][-1]["content"].split("Prompt:")[0]
        return json.dumps({"verdict": judges or side(request)})

    return said


def evil(request: dict[str, Any], keys: dict[str, Any]) -> str | None:
    said = str(request["messages"])
    assert "<|im_end|>" not in said
    return writes(f"{GOOD} {WICKED}")(request, keys)


def odd(request: dict[str, Any], keys: dict[str, Any]) -> str | None:
    kinds = [None, "", "{", "[]", '{"rationale": 3}', '{"rationale": ""}', '{"rationale": "  "}',
             '{"rationale": null}', '{"rationale": {"rationale": "x"}}', "\ud800", '{"verdict": 1}',
             json.dumps({"rationale": "x" * 100_000})]  # fmt: skip
    return kinds[int(request["request_id"][:4], 16) % len(kinds)]


# The rows, who answers, and how many of the pairs have rationales in the end.
CASES: dict[str, tuple[list[Any], Says, int]] = {
    "one pair": (rows(1), writes(GOOD), 1),
    "one prompt": (rows(6, prompts=1), writes(GOOD), 6),
    "the same row twice": ([*rows(3), *rows(3)], writes(GOOD), 3),
    "one bad row of many": ([*rows(5), {"prompt": "x"}, "text", *rows(8)[5:]], writes(GOOD), 8),
    "contradictions": (
        [row for each in rows(3) for row in
         (each, {**each, "chosen": each["rejected"], "rejected": each["chosen"]})], writes(GOOD), 0,
    ),
    "always A": (rows(6), writes(GOOD, "A"), 0),
    "always tie": (rows(6), writes(GOOD, "tie"), 0),
    "no tag": (rows(6), writes("It is better."), 0),
    "a verdict in the reason": (rows(6), writes(f"{GOOD} [[A]]"), 0),
    "a place in it": (rows(6), writes(f"{GOOD} La première réponse est claire."), 0),
    "the label in it": (rows(6), writes(f"{GOOD} It was preferred by the annotator."), 0),
    "odd replies": (rows(24), odd, 0),
    "no reply": (rows(4), lambda request, keys: None, 0),
    "injections": (rows(6, extra=EVIL.replace("\ud800", "")), evil, 6),
    "huge texts": (rows(2, extra=HUGE), writes(GOOD), 2),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_recipe_comes_to_its_end_and_makes_nothing_up(tmp_path: Path, case: str):
    given, says, n = CASES[case]
    built, known = built_from(tmp_path, "rationales", given, says, "sources.pairs.only=")
    kept = known["rationales"]
    assert kept["pair_id"].n_unique() == n
    assert not [text for text in kept["rationale"] if place_in(text)]
    manifest = json.loads((Path(built.path) / "manifest.json").read_text())
    assert manifest["quarantined"] == (2 if case == "one bad row of many" else 0)
    dropped = known["dropped"].filter(pl.col("stage") == "explain.rationale")
    pairs = known["pairs"]
    assert kept.height + dropped.height == 2 * pairs.height
    assert (dropped["reason"].str.len_chars() > 10).all()
    exported = load_from_disk(f"{built.path}/rationale_augmented")
    assert sum(split.num_rows for split in exported.values()) == kept.height
    runs_nothing(Path(built.path))
