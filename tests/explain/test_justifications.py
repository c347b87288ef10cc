import polars as pl

from prefdata import tables
from prefdata.explain.justifications import justifications
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


def test_where_the_order_is_unknown_the_words_stay():
    _, _, pairs = world(1, {})
    row = pairs.row(0, named=True)
    a, b = sorted((row["chosen_id"], row["rejected_id"]))
    made, _ = justifications(
        pairs, votes([(a, b, "human:1", None, float(row["chosen_id"] == a), "Answer A is right.")])
    )
    assert made["rationale"].to_list() == ["Answer A is right."]
