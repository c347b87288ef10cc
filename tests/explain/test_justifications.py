import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.explain.justifications import justifications
from prefdata.sources import Sources, as_pairs, read
from prefdata.tables import Votes
from tests.explain.planted import world


def votes(rows) -> Votes:
    names = ["completion_a", "completion_b", "annotator", "a_first", "preference", "rationale"]
    frame = pl.DataFrame(rows, names, orient="row", infer_schema_length=None)
    return tables.typed(Votes, frame.with_columns(criterion=pl.lit("overall"), draw=pl.lit(0)))


def test_reasons_for_the_label_are_rationales_and_others_are_dropped():
    _, _, pairs = world(1, {})
    chosen, rejected = pairs.select("chosen_id", "rejected_id").row(0)
    a, b = sorted((chosen, rejected))
    for_label = float(chosen == a)
    said = [
        (a, b, "human:1", True, for_label, "Because."),
        (a, b, "human:2", True, 1 - for_label, "No."),
        (a, b, "human:3", True, 0.5, "Alike."),
        (a, b, "human:4", True, for_label, "  "),
        (a, b, "human:5", True, for_label, None),
    ]
    made, dropped = justifications(pairs, votes(said))
    made = tables.check("rationales", made, where="test")
    dropped = tables.check("dropped", dropped, where="test")
    assert made.select("annotator", "kind", "rationale").rows() == [
        ("human:1", "justification", "Because.")
    ]
    assert sorted(dropped["reason"]) == ["it justifies a tie", "it justifies the other side"]


def test_names_by_place_become_tags_whichever_was_shown_first():
    _, _, pairs = world(8, {})
    said = []
    for row in pairs.to_dicts():
        a, b = sorted((row["chosen_id"], row["rejected_id"]))
        for a_first in (True, False):
            chosen_first = (row["chosen_id"] == a) == a_first
            one, other = (
                ("Response 1", "@Response 2") if chosen_first else ("@Response 2", "Response 1")
            )
            text = f"{one} is right and {other} is not."
            said.append((a, b, f"human:{a_first}", a_first, float(row["chosen_id"] == a), text))
    made, _ = justifications(pairs, votes(said))
    assert made.height == 16
    assert made["rationale"].str.replace("@", "").unique().to_list() == [
        "[CHOSEN] is right and [REJECTED] is not."
    ]


def test_where_the_order_is_unknown_words_of_place_are_dropped():
    """Exports show the two in an order of their own: there "Answer A" may be the other one."""
    _, _, pairs = world(1, {})
    row = pairs.row(0, named=True)
    a, b = sorted((row["chosen_id"], row["rejected_id"]))
    said = [
        (a, b, f"human:{at}", None, float(row["chosen_id"] == a), text)
        for at, text in enumerate(["Answer A is right.", "It is right, and that at once."])
    ]
    made, dropped = justifications(pairs, votes(said))
    assert made.select("rationale", "chosen_first").rows() == [(said[1][-1], None)]
    assert dropped["reason"].to_list() == [
        "says where a completion stood: 'Answer A', and which was shown first is not known"
    ]


def test_a_place_that_is_no_name_is_dropped_where_the_order_is_known_too():
    _, _, pairs = world(1, {})
    row = pairs.row(0, named=True)
    a, b = sorted((row["chosen_id"], row["rejected_id"]))
    said = [
        (a, b, f"human:{at}", True, float(row["chosen_id"] == a), text)
        for at, text in enumerate(["The latter is vague.", "Antwort A und die zweite Antwort."])
    ]
    made, dropped = justifications(pairs, votes(said))
    tags = ("[CHOSEN]", "[REJECTED]") if row["chosen_id"] == a else ("[REJECTED]", "[CHOSEN]")
    assert made["rationale"].to_list() == [f"{tags[0]} und die {tags[1]}."]
    assert made["chosen_first"].to_list() == [row["chosen_id"] == a]
    assert dropped["reason"].to_list() == ["says where a completion stood: 'latter'"]


@pytest.mark.parametrize("layout", ["helpsteer2-preference", "helpsteer2-annotators"])
def test_helpsteers_reasons_keep_who_they_are_about(tmp_path: Path, layout: str):
    """They speak of "Response 1" and "@Response 2", whichever id is the smaller one later."""
    rows: list[dict[str, Any]] = []
    for at in range(12):
        better = 1 + at % 2
        why = f"@Response {better} is right. Response {3 - better} is wrong."
        strength = -2 if better == 1 else 2
        row = {
            "split": "train",
            "prompt": f"question {at}",
            "preference_strength": strength,
            "preference_statement": "",
            "preference_elaboration": why,
            "all_preferences_unprocessed": [{"strength": strength, "justification": why}],
        }
        rows.append({**row, f"response_{better}": "good", f"response_{3 - better}": "bad"})
    (tmp_path / "hs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read(
        Sources.model_validate({"votes": {"path": "hs.jsonl", "layout": layout}}), tmp_path
    )
    assert found.quarantined.is_empty()
    given = Votes(found.tables["votes"])
    made, dropped = justifications(as_pairs(given)[0], given)
    assert dropped.is_empty()
    assert made["rationale"].to_list() == ["[CHOSEN] is right. [REJECTED] is wrong."] * 12
