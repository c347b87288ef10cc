"""The three synthetic sets of the ICAI paper, through the whole pipeline, with a planted annotator.

It knows what the sets were made to follow, beside other things that texts differ in, and reads
them; without rules it prefers what most people would, and has no opinion on cats and colours.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata import tables
from prefdata.tables import Requests, Responses
from tests.annotate.replying import first
from tests.explain.planted import is_proposal, listed, pairs_of_set

JUDGE = "llm:smollm2-135m/constitution"
ORTHOGONAL, ALIGNED = ("a cat", "blue", "lemon"), ("Washington", "a place by name", "eager help")
WANTED = {
    ("orthogonal_adcbg", False): {*ORTHOGONAL},
    ("orthogonal_adcbg", True): {"a dog", "green", "raspberry"},
    ("aligned_vqvtb", False): {*ALIGNED},
    ("aligned_vqvtb", True): {"Paris", "travel at large", "reluctance"},
    ("mixed_vqvtb_adcbg", False): {*ORTHOGONAL, *ALIGNED},
}
SEEN = {
    "a cat": r"\bcat\b", "a dog": r"\bdog\b", "blue": r"\bblue\b", "green": r"\bgreen\b",
    "lemon": r"\blemon\b", "raspberry": r"\braspberry\b", "Washington": r"\bWashington\b",
    "Paris": r"\bParis\b", "a place by name": r"\b(Bath|Edinburgh|Lake District|Cotswolds|London|"
    r"Isle|Cornwall|York|Scotland|Stonehenge|Highlands|Brighton|Cumbria|Giant)\b",
    "travel at large": r"^Travel", "eager help": r"\b(of course|happy to|do my best|here to)\b",
    "reluctance": r"\b(guess|sorry|fine|suppose|whatever)\b", "an exclamation": r"!",
    "cheers": r"\bcheers\b", "a calming thing": r"\bcalming\b", "a refreshing thing": "refreshing",
    "you": r"\byou\b", "a number": r"\d", "a question": r"\?", "once upon a time": "once upon",
    "many words": r"(\S+\s+){25}", "tangy": "tangy", "a story's name": r"\b(Sarah|Bob|John|Tom)\b",
}  # fmt: skip


def has(name: str, text: str) -> bool:
    return name in SEEN and re.search(SEEN[name], text, re.IGNORECASE) is not None


def named(rule: str) -> str:
    return rule.removeprefix("Select the reply that has ").removesuffix(".")


def said(request: dict[str, Any]) -> str:
    _, one, other = re.findall(r"```\n(.*?)\n```", first(request), re.DOTALL)
    draw = random.Random(first(request))
    if is_proposal(request):
        only = [name for name in SEEN if has(name, one) and not has(name, other)]
        draw.shuffle(only)
        rules = [f"Select the reply that has {name}." for name in only[:3]]
        return json.dumps({"principles": rules or ["Select the reply."]})
    rules = listed(request)
    if "verdict" in json.loads(request["options"])["schema"]["properties"]:
        # The first rule that tells the two apart decides; without rules, what most people like.
        wanted = [named(rule) for rule in rules.values()] if rules else ALIGNED
        apart = (has(each, one) - has(each, other) for each in wanted)
        ahead = next((each for each in apart if each), draw.random() - 0.5)
        return json.dumps({"verdict": "A" if ahead > 0 else "B"})
    votes: dict[str, str] = {}
    for number, rule in rules.items():
        a, b = (has(named(rule), text) for text in (one, other))
        votes[number] = ("tie" if a else "N/A") if a == b else "A" if a else "B"
    return json.dumps(votes)


def planted(requests: Requests) -> Responses:
    rows = [
        {"request_id": request["request_id"], "text": said(request), "finish_reason": "stop",
         "tokens_in": 1, "tokens_out": 1}
        for request in requests.to_dicts()
    ]  # fmt: skip
    dtypes = tables.schema("responses").dtypes
    return tables.typed(Responses, pl.DataFrame(rows, {k: dtypes[k] for k in rows[0]}))


@pytest.mark.parametrize(
    ("name", "turned", "alone"),
    [
        ("orthogonal_adcbg", False, (0.3, 0.7)),
        ("orthogonal_adcbg", True, (0.3, 0.7)),
        ("aligned_vqvtb", False, (0.85, 1.0)),
        ("aligned_vqvtb", True, (0.0, 0.15)),
        ("mixed_vqvtb_adcbg", False, (0.6, 0.9)),
    ],
)
def test_the_rules_that_a_set_was_made_to_follow_are_found(
    shared: Callable[[str], pl.DataFrame],
    tmp_path: Path,
    name: str,
    turned: bool,
    alone: tuple[float, float],
):
    """`alone` bounds what the judge's own opinion reconstructs."""
    frame = shared("icai_synthetic.parquet").filter(pl.col("set") == name)
    rows = pairs_of_set(frame, turned=turned)
    path, data = tmp_path / "pairs.jsonl", tmp_path / "data"
    path.write_text("\n".join(map(json.dumps, rows)))
    changes = [f"sources.pairs.path={path}", "stages.0.clusters=40", "stages.0.max_principles=7"]
    built = prefdata.build("icai", data=data, changes=changes, ask=planted)
    principles = prefdata.load(built.name, "principles", data=data).sort("rank")
    measures = prefdata.load(built.name, "measures", data=data)

    best = list(map(named, principles["principle"]))
    themes = WANTED[name, turned]
    assert len(themes & set(best[: len(themes) + 2])) >= len(themes) - (len(themes) > 3)

    def whole(annotator: str) -> float:
        """The share reconstructed, of the pairs looked at and of those not seen."""
        of = measures.filter(
            pl.col("measure").str.starts_with("reconstruction_"), pl.col("subject") == annotator
        )
        assert of["n"].sum() == len(rows)
        return float((of["value"] * of["n"]).sum() / len(rows))

    assert whole(JUDGE) >= 0.85
    assert alone[0] <= whole(f"{JUDGE}-without") <= alone[1]
    told = {row["measure"]: row["value"] for row in measures.to_dicts()
            if row["subject"] in ("constitution", JUDGE)}  # fmt: skip
    assert told["reconstruction_held_out"] >= 0.85
    assert told["constitution_agreement"] > told["constitution_null"]
    assert told["constitution_p"] < 0.01
    card = (Path(built.path) / "README.md").read_text()
    assert all(each in card for each in ("## Constitution", ", for: ", "on pairs not seen"))
