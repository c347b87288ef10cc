import json
import time
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import tables
from prefdata.annotate.exact_match import exact_match
from prefdata.annotate.verifier import verifier
from prefdata.errors import RecipeError
from prefdata.tables import Completions, Prompts, Ratings


def world(replies: dict[str | None, list[str]]) -> tuple[Prompts, Completions]:
    """A prompt for each reference, with these replies."""
    asked = [[{"role": "user", "content": f"prompt {at}"}] for at in range(len(replies))]
    ids = tables.prompt_ids(asked)
    prompts = {"prompt_id": ids, "prompt": asked, "source": "test"}
    reference = pl.Series("reference", list(replies), pl.String)
    rows = [
        (prompt, [{"role": "assistant", "content": text}])
        for prompt, texts in zip(ids, replies.values(), strict=True)
        for text in dict.fromkeys(texts)
    ]
    completions = pl.DataFrame(
        {"prompt_id": [p for p, _ in rows], "completion": [said for _, said in rows]}
    ).with_columns(tables.completion_ids([p for p, _ in rows], [said for _, said in rows]))
    return (
        tables.typed(Prompts, pl.DataFrame(prompts).with_columns(reference)),
        tables.typed(Completions, completions),
    )


def rated(replies: dict[str | None, list[str]], **checks: Any) -> Ratings:
    return tables.typed(Ratings, verifier(*world(replies), checks=checks))


def outcome(text: str, reference: str | None = None, **checks: Any) -> Any:
    """The rating of one text by one check, or why there is none."""
    (row,) = rated({reference: [text]}, **checks).to_dicts()
    return row["unscored"] if row["rating"] is None else row["rating"]


MET: list[tuple[str, Any, str, str]] = [
    # check, what is wanted, a text that meets it, one that does not
    ("pattern", r"^\d+ km$", "12 km", "about 12 km"),
    ("pattern", r"(?i)paris", "In PARIS", "In Lyon"),
    ("number", "12", "So it is 12.", "So it is 112."),
    ("whole", "Paris", "paris.", "It is Paris"),
    ("is_json", True, '{"a": [1, null]}', "{'a': 1}"),
    ("is_json", True, '```json\n{"a": 1}\n```', 'Here it is:\n```json\n{"a": 1}\n```'),
    ("is_json", True, "1", "NaN"),
    ("is_json", False, "no", "[]"),
    ("min_words", 3, "one two three", "one two"),
    ("max_words", 2, "state-of-the-art don't", "one two three"),
    ("max_words", 0, " ... ", "a"),
    ("min_sentences", 2, "One. Two!", "One and 2.5"),
    ("max_sentences", 1, "Pi is 3.14.", "Pi. Or so."),
    ("paragraphs", 2, "one\nline\n\ntwo", "one\ntwo"),
    ("bullets", 2, "Here:\n- a\n* b", "- a\n -b\n3 - 2"),
    ("bullets", 2, "1. a\n2) b", "1.5 a\n2.5 b"),
    ("max_commas", 0, "no comma", "one, comma"),
    ("keywords", ["tea", "C++"], "Tea beats C++.", "Steam and C++"),
    ("forbidden", ["tea"], "steam and teas", "no Tea, please"),
    ("starts_with", "Dear", " Dear all", "My dear"),
    ("ends_with", "Bye.", "... Bye.\n", "Bye. Now"),
    ("lower_case", True, "all small 1", "Not all"),
    ("upper_case", True, "ALL BIG 1", "Not"),
    (
        "language",
        "de",
        "Die Hauptstadt von Frankreich ist Paris, und sie ist schön.",
        "The capital of France is Paris, and it is beautiful.",
    ),
]


@pytest.mark.parametrize(("check", "wanted", "good", "bad"), MET)
def test_a_check_tells_what_meets_it(check: str, wanted: Any, good: str, bad: str):
    if check == "language":
        pytest.importorskip("py3langid", reason="the extra `language` is not installed")
    assert outcome(good, **{check: wanted}) == 1.0
    assert outcome(bad, **{check: wanted}) == 0.0
    # The same by the prompt's own reference, and as one of its instructions.
    reference = wanted if isinstance(wanted, str) else json.dumps(wanted)
    assert outcome(good, reference, **{check: "reference"}) == 1.0
    assert outcome(bad, json.dumps({check: wanted}), instructions="reference") == 0.0


SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}, "id": {"type": "string", "pattern": "^[a-z]+$"}},
    "required": ["age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"age": 3}', 1.0),
        ('```\n{"age": 3, "id": "ab"}\n```', 1.0),
        ('{"age": "3"}', 0.0),
        ('{"age": 3, "id": "A"}', 0.0),
        ('{"age": 3, "more": 1}', 0.0),
        ('{"age": 3', 0.0),
        ("", 0.0),
        ("[" * 100_000, 0.0),
        ("9" * 10_000, 0.0),
    ],
)
def test_json_is_what_the_schema_allows(text: str, expected: float):
    assert outcome(text, json_schema=SCHEMA) == expected


def test_no_text_makes_a_pattern_hang():
    evil = r"^(a+)+$"
    text = "a" * 5000 + "!"
    began = time.process_time()
    assert outcome(text, pattern=evil) == 0.0
    schema = {"type": "string", "pattern": evil}
    assert outcome(json.dumps(text), json_schema=schema) == 0.0
    # Python's own engine would need 2 ** 5000 steps.
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("checks", "complaint"),
    [
        ({}, "checks is empty"),
        ({"min_word": 3}, "did you mean 'min_words'|min_words"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "(?=a)"}, "look-ahead"),
        ({"pattern": "(a{1000}){1000}"}, "size limit"),
        ({"max_words": "many"}, "expected a whole number"),
        ({"max_words": True}, "expected a whole number"),
        ({"keywords": []}, "expected a list of words"),
        ({"lower_case": 1}, "expected true or false"),
        ({"json_schema": {"type": "thing"}}, "no JSON schema"),
        ({"json_schema": {"$ref": "https://example.org/s.json"}}, "nothing is fetched"),
        ({"json_schema": {"patternProperties": {"(a+)+$": {}}}}, "patternProperties"),
        ({"json_schema": {"pattern": "(?=a)"}}, "look-ahead"),
        ({"json_schema": {"$ref": "#"}}, "without end"),
        ({"instructions": {"max_words": 3}}, '"reference" only'),
    ],
)
def test_a_check_that_cannot_be_made_is_refused(checks: dict[str, Any], complaint: str):
    with pytest.raises(RecipeError, match=complaint):
        rated({None: ["1"]}, **checks)


BROKEN = {
    "(unclosed": "unclosed group, at character 1",
    "a{2": "unclosed counted repetition, at character 2",
    "year [z-a]": "invalid character class range, the start must be <= the end, at character 7",
    "a\n(b": "unclosed group",
    "a^*(": "unclosed group, at character 4",
    "^": None,
    "[^]": "unclosed character class, at character 1",
    "(?P<n>x)(?P<n>y)": "duplicate capture group name, at character 5",
    "(a{1000}){1000}": "Compiled regex exceeds size limit of 10485760 bytes",
}


@pytest.mark.parametrize(("pattern", "wrong"), BROKEN.items(), ids=BROKEN)
def test_a_broken_pattern_is_told_with_its_option_and_place(pattern: str, wrong: str | None):
    if wrong is None:
        assert outcome("x", pattern=pattern) == 1.0
        return
    said = f"no regular expression of linear time: {wrong}"
    with pytest.raises(RecipeError) as refused:
        rated({None: ["1"]}, pattern=pattern)
    assert str(refused.value) == f"annotate.verifier: checks.pattern = {pattern!r}: {said}"
    with pytest.raises(RecipeError) as refused:
        rated({None: ["1"]}, json_schema={"items": {"pattern": pattern}})
    assert str(refused.value).endswith(f": the pattern {pattern!r} in it is {said}")


def test_what_cannot_be_known_is_unscored_and_is_not_0():
    assert outcome("12", None, number="reference") == "not applicable"
    assert outcome("12", " ", pattern="reference") == "not applicable"
    assert outcome("12", None, instructions="reference") == "not applicable"
    assert "look-ahead" in outcome("12", "(?=a)", pattern="reference")
    assert outcome("12", "many", max_words="reference") == "error: the reference: expected JSON"
    assert "JSON object" in outcome("12", "[]", instructions="reference")
    told = outcome("12", '{"max_word": 1}', instructions="reference")
    assert told == "error: the reference: there is no check 'max_word'"
    told = outcome("12", '{"max_words": "x"}', instructions="reference")
    assert told == "error: the reference: expected a whole number, at least 0"


def test_a_short_text_does_not_show_its_language():
    pytest.importorskip("py3langid", reason="the extra `language` is not installed")
    assert str(outcome("Paris.", language="fr")).startswith("not applicable")
    with pytest.raises(RecipeError, match="code of a language"):
        outcome("Paris.", language="French")


def test_every_check_is_a_criterion_of_its_own():
    made = rated({"12": ["12", "13, or so"], None: ["12"]}, number="reference", max_commas=0)
    assert set(made["annotator"]) == {"rule:verifier"}
    assert made.height == 2 * 3
    known = made.filter(pl.col("criterion") == "number")["rating"].to_list()
    assert sorted(known, key=str) == [0.0, 1.0, None]


def test_it_agrees_with_exact_match():
    tables_ = world({"12": ["12", "112", "not 12"], "Paris": ["It is Paris.", "Lyon"]})
    ours = verifier(*tables_, checks={"exact_match": "reference"})
    theirs = exact_match(*tables_)
    both = ours.join(theirs, on="completion_id", suffix="_other")
    assert both.height == 5
    assert both["rating"].to_list() == both["rating_other"].to_list()


def test_order_of_rows_and_shards_do_not_matter():
    replies = {'{"max_words": 1}': ["a", "a b"], '{"keywords": ["a"]}': ["b", "a c"], None: ["d"]}
    prompts, completions = world(replies)
    checks = {"instructions": "reference", "min_words": 2}
    whole = verifier(prompts, completions, checks=checks)
    shuffled = Completions(completions.sample(fraction=1.0, shuffle=True, seed=3))
    assert verifier(prompts, shuffled, checks=checks).equals(whole)
    parts = [
        verifier(
            Prompts(prompts.filter(pl.col("prompt_id") == each)),
            Completions(completions.filter(pl.col("prompt_id") == each)),
            checks=checks,
        )
        for each in prompts["prompt_id"]
    ]
    assert (
        pl.concat(parts)
        .sort("completion_id", "criterion")
        .equals(whole.sort("completion_id", "criterion"))
    )


def test_no_completions_give_no_ratings():
    assert rated({}, max_words=3).is_empty()


ANY = {"pattern": "a|b", "max_words": 3, "is_json": True, "keywords": ["a"], "json_schema": SCHEMA}


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=80))
def test_any_text_is_rated_0_or_1(text: str):
    assert set(rated({None: [text]}, **ANY)["rating"]) <= {0.0, 1.0}
