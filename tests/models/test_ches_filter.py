"""The recipe ches-filter on a small real model: two refusals in other words against two answers."""

import json
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

import prefdata
from prefdata import tables

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
    # Scores name pairs of ids; the votes of the source lead back to the texts.
    texts = prefdata.load(made.name, "completions", data=data)
    prompts = dict(
        prefdata.load(made.name, "prompts", data=data)
        .select("prompt_id", pl.col("prompt").list.first().struct.field("content"))
        .iter_rows()
    )
    said = {
        row[0]: (prompts[row[1]], row[2])
        for row in texts.select(
            "completion_id", "prompt_id", pl.col("completion").list.first().struct.field("content")
        ).iter_rows()
    }
    votes = prefdata.load(made.name, "votes", data=data)
    [who] = votes["annotator"].unique()
    pair_ids = tables.pair_ids(votes["completion_a"], votes["completion_b"], who)
    kinds = {
        pair: kind[said[a][0], frozenset([said[a][1], said[b][1]])]
        for pair, a, b in zip(pair_ids, votes["completion_a"], votes["completion_b"], strict=True)
    }
    assert made.requests["failed"] == 0
    labels = [kinds[each] == "alike" for each in scores["subject_id"]]
    assert len(labels) == len(rows)
    assert roc_auc_score(labels, scores["value"].to_numpy()) >= 0.9
    kept = prefdata.load(made.name, "pairs", data=data)
    assert kept.height == len(rows) // 20
    assert all(kinds[each] == "distinct" for each in kept["pair_id"])
    assert "<code>ln_ches</code>" in (Path(made.path) / "report.html").read_text()
