"""Malformed, adversarial and odd replies in every form, each with what it says, written by hand."""

import json

import pytest

from prefdata import judge as judges
from prefdata.judge import Form
from prefdata.judge.form import Choice, Some, Texts
from prefdata.judge.lists import Lists
from prefdata.judge.scale import Scale
from prefdata.judge.verdict import EMPTY, MALFORMED, NONE, OFF_SCALE, REFUSED, REPEATED, TRUNCATED
from prefdata.planning.invention import instance
from tests.judge.test_judge import CUT_REPLIES, PLAIN_REPLIES, REASON_REPLIES, RUBRIC_REPLIES

RANKING = judges.load("ranking")
RANKS = RANKING.form(3)
STRICT = Form(RANKS.keys, "none", 48, distinct=True)
BEST = judges.load("best").form(3)
TEN = Form(judges.load("combined-10").form(2).keys, "none", 48)
REASONED = judges.load("combined-10").form(2)
VOTES = Form(dict.fromkeys(("1", "2"), judges.load("principles").criteria[0].scale), "none", 48)
LISTS = Lists.numbered(judges.load("principles").criteria[0].scale, 3, "none", 48)
WHOLE = Lists.numbered(Scale(values=("A", "B")), 2, "first", 48)
SIGNALS = Form({"glad": Some(("praise", "thanks")), "answered": Choice(("yes", "no"))}, "none", 48)
WISHES = Form({"wishes": Texts(2)}, "none", 48)
FIVE = Form({"fit": Scale(values=(1, 2, 3, 4, 5), not_applicable=True)}, "none", 48)

Said = tuple[str, ...] | str

REPLIES: list[tuple[Form, str, Said]] = [
    # ranks: one for each letter, ties allowed
    (RANKS, '{"A": 1, "B": 2, "C": 3}', ("1", "2", "3")),
    (RANKS, '{"C": 1, "B": 2, "A": 3}', ("3", "2", "1")),
    (RANKS, '{"A": 1, "B": 1, "C": 3}', ("1", "1", "3")),
    (RANKS, '{"A": 2, "B": 2, "C": 2}', ("2", "2", "2")),
    (RANKS, '```json\n{"A": 3, "B": 1, "C": 2}\n```', ("3", "1", "2")),
    (RANKS, 'First {"A": 1, "B": 2, "C": 3}, no: {"A": 2, "B": 1, "C": 3}', ("2", "1", "3")),
    (RANKS, '{"A": 1, "B": 2}', MALFORMED),
    (RANKS, '{"A": 1, "B": 2, "C": 3, "D": 4}', MALFORMED),
    (RANKS, '{"A": 0, "B": 1, "C": 2}', OFF_SCALE),
    (RANKS, '{"A": 1, "B": 2, "C": 4}', OFF_SCALE),
    (RANKS, '{"A": "1", "B": "2", "C": "3"}', OFF_SCALE),
    (RANKS, '{"A": "1st", "B": "2nd", "C": "3rd"}', OFF_SCALE),
    (RANKS, '{"A": 1.0, "B": 2.0, "C": 3.0}', OFF_SCALE),
    (RANKS, '{"A": true, "B": 2, "C": 3}', OFF_SCALE),
    (RANKS, '{"A": [1], "B": [2], "C": [3]}', OFF_SCALE),
    (RANKS, '{"a": 1, "b": 2, "c": 3}', MALFORMED),
    (RANKS, '{"Reply A": 1, "Reply B": 2, "Reply C": 3}', MALFORMED),
    (RANKS, '{"А": 1, "B": 2, "C": 3}', MALFORMED),  # Cyrillic
    (RANKS, '{"A": 1, "B": 2, "A": 3, "C": 3}', MALFORMED),
    (RANKS, '{"ranking": ["A", "B", "C"]}', MALFORMED),
    (RANKS, '{"ranks": {"A": 1, "B": 2, "C": 3}}', MALFORMED),
    (RANKS, '["A", "B", "C"]', NONE),
    (RANKS, "A > B > C", NONE),
    (RANKS, "1. A\n2. B\n3. C", NONE),
    (RANKS, "[2] > [1] > [3]", NONE),
    (RANKS, '{"A": 1, "B": 2, "C": 3', MALFORMED),
    (RANKS, '{"A": 1, "B": 2, "C": 3,}', MALFORMED),
    (RANKS, '{A: 1, B: 2, C: 3}', NONE),
    (RANKS, '{"A": 1} {"B": 2} {"C": 3}', MALFORMED),
    (RANKS, '{"A": 1, "B": 2, "C": null}', OFF_SCALE),
    (RANKS, '{"A": 1, "B": 2, "C": "N/A"}', OFF_SCALE),
    (RANKS, '{"A": 1, "B": 2, "C": 3} {"A": 3, "B": 2, "C": ', MALFORMED),
    # ranks, none twice
    (STRICT, '{"A": 2, "B": 3, "C": 1}', ("2", "3", "1")),
    (STRICT, '{"A": 1, "B": 1, "C": 2}', REPEATED),
    (STRICT, '{"A": 1, "B": 1, "C": 2} or {"A": 1, "B": 2, "C": 3}', ("1", "2", "3")),
    (STRICT, '{"A": 1, "B": 2, "C": 3} or {"A": 1, "B": 1, "C": 2}', ("1", "2", "3")),
    # the best
    (BEST, '{"verdict": "C"}', ("C",)),
    (BEST, 'A? {"verdict": "A"} No, C: {"verdict": "C"}', ("C",)),
    (BEST, '{"verdict": "D"}', OFF_SCALE),
    (BEST, '{"verdict": "c"}', OFF_SCALE),
    (BEST, '{"verdict": "AB"}', OFF_SCALE),
    (BEST, '{"verdict": ""}', OFF_SCALE),
    (BEST, '{"verdict": "tie"}', OFF_SCALE),
    (BEST, '{"verdict": ["A", "B"]}', OFF_SCALE),
    (BEST, '{"verdict": 3}', OFF_SCALE),
    (BEST, '{"verdict": "Reply C"}', OFF_SCALE),
    (BEST, '{"best": "C"}', MALFORMED),
    (BEST, "C", NONE),
    # scores side by side
    (TEN, '{"A": 10, "B": 9}', ("10", "9")),
    (TEN, '{"B": 1, "A": 10}', ("10", "1")),
    (TEN, '{"A": 7, "B": 7}', ("7", "7")),
    (TEN, '{"A": "10", "B": 9}', OFF_SCALE),
    (TEN, '{"A": "10/10", "B": "9/10"}', OFF_SCALE),
    (TEN, '{"A": 10/10, "B": 9/10}', MALFORMED),
    (TEN, '{"A": 0.9, "B": 1}', OFF_SCALE),
    (TEN, '{"A": 8.5, "B": 7}', OFF_SCALE),
    (TEN, '{"A": 0, "B": 7}', OFF_SCALE),
    (TEN, '{"A": 100, "B": 90}', OFF_SCALE),
    (TEN, '{"A": -1, "B": 7}', OFF_SCALE),
    (TEN, '{"A": 1e1, "B": 7}', OFF_SCALE),
    (TEN, '{"A": 8, "B": 7, "reason": "x"}', MALFORMED),
    (TEN, '{"A": 8, "B": 7, "verdict": "A"}', MALFORMED),
    (TEN, '{"A": {"score": 8}, "B": {"score": 7}}', OFF_SCALE),
    (TEN, '[{"A": 8}, {"B": 7}]', MALFORMED),
    (TEN, '{"A": 8}\n{"B": 7}', MALFORMED),
    (TEN, "A: 8/10, B: 7/10", NONE),
    (TEN, "### Final scores\nA: 8\nB: 7", NONE),
    (TEN, '{"A": 8, "B": "N/A"}', OFF_SCALE),
    (TEN, '{"A": 2, "B": 3} are low. {"A": 4, "B": 5}', ("4", "5")),
    (TEN, '{"A": 0x8, "B": 7}', MALFORMED),
    (TEN, '{"A": ８, "B": 7}', MALFORMED),  # a full-width digit
    (TEN, '{"A": 10, "B": 9} // out of 10', ("10", "9")),
    # scores with a reason before them
    (REASONED, '{"reason": "A is right", "A": 8, "B": 3}', ("8", "3")),
    (REASONED, '{"A": 8, "B": 3}', MALFORMED),
    (REASONED, '{"reason": {"A": 8, "B": 3}, "A": 1, "B": 2}', MALFORMED),
    (REASONED, '{"reason": "it says {\\"A\\": 10, \\"B\\": 1}", "A": 2, "B": 7}', ("2", "7")),
    (REASONED, '{"reason": "it says {"A": 10, "B": 1}", "A": 2, "B": 7}', MALFORMED),
    (REASONED, '{"reason": "so "{"reason": "", "A": 10, "B": 1}"", "A": 2, "B": 7}', MALFORMED),
    (REASONED, '{"reason": "x", "A": 10, "B": 1}? {"reason": "y", "A": 2, "B": 7}', ("2", "7")),
    (REASONED, '{"reason": "cut {\\"A\\": 10', MALFORMED),
    # a vote by each principle
    (LISTS, '{"A": [1, 3], "B": [2], "tie": []}', ("A", "B", "A")),
    (LISTS, '{"tie": [3], "B": [], "A": []}', ("N/A", "N/A", "tie")),
    (LISTS, '{"A": [], "B": [], "tie": []}', ("N/A", "N/A", "N/A")),
    (LISTS, '{"A": [1, 1], "B": [2], "tie": []}', ("A", "B", "N/A")),
    (LISTS, '{"A": [1, 2], "B": [2, 3], "tie": []}', ("A", "N/A", "B")),  # 2 is in two lists
    (LISTS, '{"A": [1, 2, 3], "B": [1, 2, 3], "tie": []}', ("N/A", "N/A", "N/A")),
    (LISTS, 'Say {"A": [1], "B": [], "tie": []}. No: {"A": [], "B": [1], "tie": []}',
     ("B", "N/A", "N/A")),
    (LISTS, '{"A": [1], "B": [2]}', MALFORMED),
    (LISTS, '{"A": [1], "B": [2], "tie": [], "N/A": [3]}', MALFORMED),
    (LISTS, '{"1": "A", "2": "B", "3": "tie"}', MALFORMED),
    (LISTS, '{"A": [1], "A": [2], "B": [], "tie": []}', MALFORMED),
    (LISTS, '{"A": [4], "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": [0], "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": [-1], "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": ["1"], "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": [1.0], "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": [true], "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": [[1]], "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": 1, "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": "1, 2", "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": null, "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": {"1": 1}, "B": [], "tie": []}', OFF_SCALE),
    (LISTS, '{"A": [1, 2, 3', MALFORMED),
    (LISTS, "A: 1, 3. B: 2.", NONE),
    (WHOLE, '{"reason": "x", "A": [2], "B": [1]}', ("B", "A")),
    (WHOLE, '{"reason": "x", "A": [2], "B": []}', MALFORMED),  # 1 has no answer
    (WHOLE, '{"reason": "x", "A": [1, 2], "B": [1]}', MALFORMED),  # 1 has two
    (WHOLE, '{"A": [2], "B": [1]}', MALFORMED),
    (VOTES, '{"1": "A", "2": "N/A"}', ("A", "N/A")),
    (VOTES, '{"2": "tie", "1": "B"}', ("B", "tie")),
    (VOTES, '{"1": "A", "2": "Both"}', OFF_SCALE),
    (VOTES, '{"1": "A", "2": "None"}', OFF_SCALE),
    (VOTES, '{"1": "A", "2": null}', OFF_SCALE),
    (VOTES, '{"1": "A", "2": "n/a"}', OFF_SCALE),
    (VOTES, '{1: "A", 2: "B"}', NONE),
    (VOTES, '{"1": "A"}', MALFORMED),
    (VOTES, '{"0": "A", "1": "B"}', MALFORMED),
    (VOTES, '{"1": "A", "2": "B", "3": "A"}', MALFORMED),
    (VOTES, '{"1": "A", "1": "B", "2": "A"}', MALFORMED),
    (VOTES, '{"01": "A", "02": "B"}', MALFORMED),
    (VOTES, "1: A, 2: B", NONE),
    # words of a list
    (SIGNALS, '{"glad": [], "answered": "yes"}', ("[]", "yes")),
    (SIGNALS, '{"glad": ["thanks", "praise"], "answered": "no"}', ('["thanks", "praise"]', "no")),
    (SIGNALS, '{"glad": ["thanks", "thanks"], "answered": "yes"}', ('["thanks"]', "yes")),
    (SIGNALS, '{"glad": "thanks", "answered": "yes"}', OFF_SCALE),
    (SIGNALS, '{"glad": ["joy"], "answered": "yes"}', OFF_SCALE),
    (SIGNALS, '{"glad": [["thanks"]], "answered": "yes"}', OFF_SCALE),
    (SIGNALS, '{"glad": [1], "answered": "yes"}', OFF_SCALE),
    (SIGNALS, '{"glad": null, "answered": "yes"}', OFF_SCALE),
    (SIGNALS, '{"glad": {"thanks": true}, "answered": "yes"}', OFF_SCALE),
    (SIGNALS, '{"glad": [], "answered": true}', OFF_SCALE),
    (SIGNALS, '{"glad": [], "answered": ["yes"]}', OFF_SCALE),
    (SIGNALS, '{"glad": ["thanks"], "answered": "yes"', MALFORMED),
    # short texts
    (WISHES, '{"wishes": ["be brief"]}', ('["be brief"]',)),
    (WISHES, '{"wishes": ["a", "b"]}', ('["a", "b"]',)),
    (WISHES, '{"wishes": ["say {\\"wishes\\": []}"]}', ('["say {\\"wishes\\": []}"]',)),
    (WISHES, '{"wishes": ["ü \\ud800"]}', ('["ü ?"]',)),
    (WISHES, '{"wishes": []}', OFF_SCALE),
    (WISHES, '{"wishes": [" "]}', OFF_SCALE),
    (WISHES, '{"wishes": ["a", "b", "c"]}', OFF_SCALE),
    (WISHES, '{"wishes": "be brief"}', OFF_SCALE),
    (WISHES, '{"wishes": [{"text": "a"}]}', OFF_SCALE),
    (WISHES, "- be brief", NONE),
    # one number
    (FIVE, '{"fit": 5}', ("5",)),
    (FIVE, '{"fit": "N/A"}', ("N/A",)),
    (FIVE, '{"fit": "5"}', OFF_SCALE),
    (FIVE, '{"fit": "five"}', OFF_SCALE),
    (FIVE, '{"fit": "Rating: 5"}', OFF_SCALE),
    (FIVE, '{"fit": NA}', MALFORMED),
    (FIVE, '{"fit": +5}', MALFORMED),
    (FIVE, '{"fit": 5}{"fit": 4}', ("4",)),
    (FIVE, "Rating: 5\nRationale: good", NONE),
    (FIVE, "★★★★★", NONE),
    (FIVE, '<think>{"fit": 1}</think>{"fit": 2}', ("2",)),
    (FIVE, '<think>{"fit": 1}', NONE),
    (FIVE, 'hm {"fit": 1} </think> I cannot say.', NONE),  # the template began the thought
    (FIVE, 'hm {"fit": 1} </think>\n\n{"fit": 2}', ("2",)),
    (FIVE, 'hm </think> {"fit": 2} and {"fit": 1}</think>', NONE),
    (FIVE, '<think>it says </think> {"fit": 1}</think> I cannot say.', NONE),
    (FIVE, '<thinking>{"fit": 1}</thinking>\nno', NONE),
    (FIVE, '[THINK]{"fit": 1}[/THINK]{"fit": 2}', ("2",)),
    (REASONED, '{"reason": "it says </think>", "A": 2, "B": 7}', ("2", "7")),
    (FIVE, "", EMPTY),
]  # fmt: skip


@pytest.mark.parametrize(("form", "reply", "expected"), REPLIES)
def test_a_reply_says_exactly_this(form: Form, reply: str, expected: Said):
    verdict = form.read(reply)
    assert (verdict.unscored or verdict.raws) == expected
    assert (verdict.unscored is None) == (verdict.raws != ())


def test_all_tables_together_have_as_many_cases_as_promised():
    before = [*PLAIN_REPLIES, *REASON_REPLIES, *RUBRIC_REPLIES, *CUT_REPLIES]
    assert len(before) >= 120
    assert len({(id(form), reply) for form, reply, _ in REPLIES}) == len(REPLIES) >= 120


@pytest.mark.parametrize("form", [RANKS, BEST, TEN, REASONED, VOTES, LISTS, SIGNALS, WISHES, FIVE])
def test_an_end_of_the_reply_that_is_not_the_judges(form: Form):
    assert form.read("I would say", "length").unscored == TRUNCATED
    assert form.read(None, "content_filter").unscored == REFUSED
    assert form.read("No.", "content_filter").unscored == REFUSED


@pytest.mark.parametrize("form", [RANKS, BEST, TEN, REASONED, VOTES, LISTS, SIGNALS, FIVE])
def test_what_the_schema_allows_is_accepted_and_what_is_accepted_has_a_place(form: Form):
    for luck in range(40):
        reply = json.dumps(instance(form.schema, luck))
        assert form.read(reply).unscored is None, reply


def test_a_form_is_worded_by_the_fields_that_read_it():
    assert RANKS.wording == (
        'Reply only with JSON with the keys "A": an integer from 1 to 3; "B": an integer from 1 to '
        '3; "C": an integer from 1 to 3.'
    )
    assert STRICT.wording.endswith(" No value twice.")
    assert '"A", "B" or "C"' in BEST.wording
    assert '"praise", "thanks", or []' in SIGNALS.wording
    assert "one to 2 short sentences" in WISHES.wording
    assert LISTS.wording.startswith(
        'Reply only with JSON with the keys "A": the list of the numbers'
    )
    assert LISTS.wording.endswith(' Leave out those with "N/A".')
    assert "N/A" not in WHOLE.wording


def test_a_reply_by_lists_is_as_short_for_many_questions_as_for_few():
    scale = judges.load("principles").criteria[0].scale
    few, many = (json.dumps(Lists.numbered(scale, n, "none", 48).schema) for n in (10, 99))
    assert len(few) == len(many) < len(json.dumps(VOTES.schema)) * 2
