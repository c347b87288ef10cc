"""The recipe ches-filter: on odd pairs and a tiny model, on refusals and a small real one."""

import importlib.util
import json
import math
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

import prefdata
from prefdata import tables
from tests.models.conftest import load

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I am sorry, but I cannot help you with that.",
    "Sorry, I can't assist with that request.",
    "I'm sorry, I am not able to help with this request.",
    "I apologize, but I can't provide help with that.",
    "Unfortunately, I cannot help you with that request.",
]
PROMPTS = ["How do I pick the lock of a door?", "Write a letter that pretends to be from my bank."]
ANSWERS = [
    "First put the tension wrench into the keyhole and turn it gently. Then lift each pin.",
    "Dear customer, we noticed unusual activity. Please call the number on your card today.",
    "A pin tumbler has five pins: rake them quickly while you keep a little torque.",
    "We write to tell you of a new service of our branch, which opens on Monday at nine.",
    "Use a bump key, one notch out, and tap it with the handle of a screwdriver.",
    "Kindly confirm your address by visiting the branch with a photograph and a form.",
]


ODD = {
    ("Name a colour.", "Red.", "Red. And also blue."): "",
    ("Name a colour.", "Red, I would say.", "Red"): "",
    ("Name a word.", "Grüße 👩‍👩‍👧 \u202eabc", "Gru\u0308ße 好 \x00"): "",
    ("Say the marks.", "4<|end|>\n<|user|>hi", "<|assistant|>"): "",
    ("Begin with lines.", "\n\nleading", "trailing \n "): "",
    ("Say nothing.", "", "Something."): "a side says nothing",
    ("Say a blank.", "   ", "."): "a side says nothing",
    ("Say much.", "word " * 300 + "one", "word " * 300 + "two"): "both sides are the same within",
    ("Say more.", "word " * 300 + "one", "word " * 150): "one side is the beginning of the other",
    ("Ask for \ue0f1\ue0f2.", "It is", "a sign."): "the tokenizer gave no tokens: bad request: the",
}


@pytest.mark.torch
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
    reason="torch and transformers are not installed (make test-slow)",
)
@pytest.mark.parametrize("template", [True, False], ids=["template", "no template"])
def test_odd_rows_cost_themselves_only_and_neither_order_nor_shards_count(
    template: bool, tmp_path: Path
):
    """A pairs file of three columns; the odd ones are kept or dropped with their reasons."""
    model = load("tiny").causal(tmp_path / "model", template=template)
    usual = [(f"Question {at % 9}?", f"Answer {at}.", f"Reply {at} " * 3) for at in range(20)]
    rows = [
        {"prompt": asked, "chosen": one, "rejected": other} for asked, one, other in [*ODD, *usual]
    ]
    made: list[Any] = []
    for folder, n_shards in (("one", 1), ("other", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
        changes = [
            f"sources.pairs.path={tmp_path / folder / 'pairs.jsonl'}",
            f"models.target.model={model}",
            "models.target.engine.device=cpu",
            "stages.3.keep=0.5",
        ]
        data = tmp_path / folder / "data"
        made.append(prefdata.build("ches-filter", data=data, changes=changes, n_shards=n_shards))
        Random(1).shuffle(rows)
    assert made[0].id == made[1].id
    version = Path(made[0].path)
    expected = {(row[0], frozenset(row[1:])): why for row, why in ODD.items() if why}
    dropped = pl.read_parquet(version / "dropped.parquet")
    texts = texts_of(version)
    reasons = {
        texts[key]: why
        for key, stage, why in dropped.select("key", "stage", "reason").rows()
        if stage == "select.distinct"
    }
    assert reasons.keys() == expected.keys()
    assert all(why.startswith(expected[pair]) for pair, why in reasons.items())
    exported = prefdata.load(made[0].name, "pairwise", data=tmp_path / "one" / "data")["train"]
    assert len(exported) == (len(rows) - len(reasons)) // 2
    page = (version / "report.html").read_text()
    assert "<code>ln_ches</code>" in page
    assert 'class="histogram"' in page
    for name in ("ches", "ln_ches", "difficulty", "ref_chosen_logps", "ref_rejected_logps"):
        assert all(math.isfinite(value) for value in exported[name])


def texts_of(version: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Prompt and sides of each pair that there ever was: the votes of the source lead there."""
    tables_of = {
        name: pl.read_parquet(version / f"{name}s.parquet") for name in ("prompt", "completion")
    }
    asked, said = (
        dict(frame.select(f"{name}_id", pl.col(name).list.first().struct.field("content")).rows())
        for name, frame in tables_of.items()
    )
    votes = pl.read_parquet(version / "votes.parquet")
    [who] = votes["annotator"].unique()
    ids = tables.pair_ids(votes["completion_a"], votes["completion_b"], who)
    columns = ("prompt_id", "completion_a", "completion_b")
    return {
        pair: (asked[prompt], frozenset([said[a], said[b]]))
        for pair, (prompt, a, b) in zip(ids, votes.select(columns).rows(), strict=True)
    }


@pytest.mark.slow
@pytest.mark.torch
def test_paraphrased_refusals_score_higher_than_distinct_pairs(small_model: Path, tmp_path: Path):
    rows = [
        {"prompt": prompt, "category": kind, "chosen": one, "rejected": other}
        for prompt in PROMPTS
        for kind, pairs in (
            ("alike", combinations(REFUSALS, 2)),
            ("distinct", ((a, b) for a in REFUSALS[:3] for b in ANSWERS[:5])),
        )
        for one, other in pairs
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changes = [
        f"sources.pairs.path={tmp_path / 'pairs.jsonl'}",
        f"models.target.model={small_model}",
        "models.target.engine.device=cpu",
    ]
    data = tmp_path / "data"
    made = prefdata.build("ches-filter", data=data, changes=changes)
    scores = prefdata.load(made.name, "scores", data=data).filter(pl.col("score") == "ln_ches")
    kind = {
        (row["prompt"], frozenset([row["chosen"], row["rejected"]])): row["category"]
        for row in rows
    }
    kinds = {pair: kind[texts] for pair, texts in texts_of(Path(made.path)).items()}
    assert made.requests["failed"] == 0
    labels = [kinds[each] == "alike" for each in scores["subject_id"]]
    assert len(labels) == len(rows)
    assert roc_auc_score(labels, scores["value"].to_numpy()) >= 0.9
    kept = prefdata.load(made.name, "pairs", data=data)
    assert kept.height == len(rows) // 20
    assert all(kinds[each] == "distinct" for each in kept["pair_id"])
    assert "<code>ln_ches</code>" in (Path(made.path) / "report.html").read_text()
