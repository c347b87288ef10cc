import json
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata import tables as t
from prefdata.errors import TableError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MESSAGES = st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), min_size=1, max_size=3)


def vote(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "completion_a": "aa",
        "completion_b": "bb",
        "annotator": "human:u1",
        "criterion": "helpfulness",
        "draw": 0,
        "a_first": True,
        "preference": 1.0,
    }
    return row | changes


@pytest.mark.parametrize("name", [*t.TABLES, "requests", "responses"])
def test_an_empty_table_is_canonical(name: str):
    assert t.check(name, t.empty(name), where="test").equals(t.empty(name))


@pytest.mark.parametrize("name", t.TABLES)
def test_schemas_name_a_key_and_describe_each_column(name: str):
    stated = t.schema(name)
    assert stated.key
    assert set(stated.key) <= set(stated.columns)
    assert all(column.description for column in stated.columns.values())
    for _, table, column in t.references(name):
        assert column in t.schema(table).columns
        assert t.TABLES.index(table) <= t.TABLES.index(name), "a row refers to earlier tables only"


def test_schemas_are_valid_json_schema():
    from jsonschema import Draft202012Validator

    for name in [*t.TABLES, "pairwise", "listwise", "binary"]:
        text = t.files("prefdata.schemas").joinpath(f"{name}.json").read_text()
        Draft202012Validator.check_schema(json.loads(text))


def test_check_fills_nullable_columns_and_sorts_by_key():
    frame = pl.DataFrame([vote(completion_b="cc"), vote()])
    checked = t.check("votes", frame, where="test")
    assert checked.columns == list(t.schema("votes").columns)
    assert checked["completion_b"].to_list() == ["bb", "cc"]
    assert checked["prompt_id"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference": 1.5}, "preference: is at most 1"),
        ({"preference": float("nan")}, "preference: is finite"),
        ({"draw": -1}, "draw: is at least 0"),
        ({"annotator": "u1"}, "annotator: matches"),
        ({"annotator": None}, "annotator: is not null"),
        ({"completion_a": "zz"}, "completion_a is the smaller id"),
        ({"preference": None}, "unscored says why preference is null"),
        ({"unscored": "tired"}, "unscored says why preference is null"),
        ({"winner": "a"}, "unknown column 'winner'"),
        ({"draw": "first"}, "another type"),
    ],
)
def test_check_refuses_with_place_column_and_rule(changes: dict[str, object], message: str):
    with pytest.raises(TableError, match=message) as refused:
        t.check("votes", pl.DataFrame([vote(**changes)]), where="annotate.pairwise")
    assert str(refused.value).startswith("annotate.pairwise: table votes")


def test_check_refuses_a_missing_column():
    with pytest.raises(TableError, match="lacks the column 'annotator'"):
        t.check("votes", pl.DataFrame([vote()]).drop("annotator"), where="test")


def test_check_refuses_a_repeated_key_even_where_it_holds_nulls():
    frame = pl.DataFrame([vote(a_first=None), vote(a_first=None, preference=0.0)])
    with pytest.raises(TableError, match=r"key .* appears once; 2 rows"):
        t.check("votes", frame, where="test")


def test_union_keeps_equal_rows_once_and_refuses_two_contents_of_a_key():
    one, other = pl.DataFrame([vote()]), pl.DataFrame([vote(draw=1)])
    assert t.union("votes", one, other, one, where="test").height == 2
    with pytest.raises(TableError, match="appears once"):
        t.union("votes", one, pl.DataFrame([vote(preference=0.0)]), where="test")


def test_union_compares_conversations():
    prompt = {"prompt_id": "p", "prompt": [{"role": "user", "content": "hi"}], "source": "s"}
    same = t.union("prompts", pl.DataFrame([prompt]), pl.DataFrame([prompt]), where="test")
    assert same.height == 1


@given(MESSAGES, MESSAGES)
def test_prompt_ids_are_equal_exactly_where_the_messages_are(one, other):
    ids = t.prompt_ids([one, other]).to_list()
    assert (ids[0] == ids[1]) == (one == other)
    assert all(len(id) == 20 and int(id, 16) >= 0 for id in ids)


@given(st.lists(MESSAGES, min_size=2, max_size=5), st.randoms())
def test_ids_do_not_depend_on_row_order(prompts, random):
    shuffled = list(range(len(prompts)))
    random.shuffle(shuffled)
    ids = t.prompt_ids(prompts).to_list()
    assert t.prompt_ids([prompts[i] for i in shuffled]).to_list() == [ids[i] for i in shuffled]


def test_ids_do_not_depend_on_the_process():
    code = (
        "from prefdata import tables as t;"
        "print(t.prompt_ids([[{'role': 'user', 'content': 'Grüße'}]])[0])"
    )
    seeds = ("0", "1")
    ran = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": s}
        ).stdout
        for s in seeds
    ]
    here = t.prompt_ids([[{"role": "user", "content": "Grüße"}]])[0]
    assert [line.strip() for line in ran] == [here, here]


def test_the_digest_is_the_one_that_published_ids_were_made_with():
    # BLAKE2b of the compact JSON, computed with coreutils: printf '%s' '["prompt",[["user","hi"]]]'
    # | b2sum -l 80. If this changes, every id and every ledger in the world changes.
    assert t.prompt_ids([[{"role": "user", "content": "hi"}]])[0] == "ab560f70e12bac83f006"


def test_a_pair_has_one_id_in_either_order_and_another_for_each_annotator():
    assert t.pair_ids(["x"], ["y"]).equals(t.pair_ids(["y"], ["x"]))
    assert t.pair_ids(["x"], ["y"])[0] != t.pair_ids(["x"], ["y"], "human:u1")[0]


def test_a_completion_id_fixes_its_prompt():
    said = [{"role": "assistant", "content": "yes"}]
    one, other = t.completion_ids(["p1", "p2"], [said, said])
    assert one != other


def test_said_wraps_a_text_as_one_message():
    frame = pl.DataFrame({"prompt": ["hi"]}).select(t.said("user", "prompt"))
    assert frame["prompt"].to_list() == [[{"role": "user", "content": "hi"}]]
    assert frame.schema["prompt"] == t.schema("prompts").dtypes["prompt"]


@given(st.lists(st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=3)))
def test_conversations_are_what_polars_makes_of_them(turns):
    column = t.conversations("prompt", turns)
    assert column.to_list() == turns
    assert column.equals(pl.Series("prompt", turns, t.MESSAGES), check_dtypes=True)


def test_keys_join_composite_keys():
    keys = t.keys("votes", t.check("votes", pl.DataFrame([vote(a_first=None)]), where="test"))
    assert keys.to_list() == ["aa bb human:u1 helpfulness 0 -"]


def test_estimates_are_cut_off_where_machines_differ():
    noise = [5.5e-17, -4.4e-17, 0.0, -0.0]
    rows = pl.DataFrame(
        {
            "completion_id": ["a", "b", "c", "d"],
            "estimator": "e",
            "prompt_id": "p",
            "strength": noise,
        }
    )
    checked = t.check("strengths", rows, where="test")["strength"]
    assert [str(value) for value in checked] == ["0.0"] * 4


TURN = st.fixed_dictionaries({"role": st.text(max_size=3), "content": st.text(max_size=9)})


@given(st.lists(st.lists(TURN, max_size=3), max_size=4))
def test_ids_are_digests_of_the_messages(said):
    turns = [[[turn["role"], turn["content"]] for turn in messages] for messages in said]
    column = pl.Series(said, dtype=t.MESSAGES)
    prompts = [t.digest("prompt", each) for each in turns]
    assert t.prompt_ids(said).to_list() == t.prompt_ids(column).to_list() == prompts
    completions = [t.digest("completion", '"', each) for each in turns]
    for given_as in (said, column):
        assert t.completion_ids(['"'] * len(said), given_as).to_list() == completions
    pairs = t.pair_ids(["b"] * 2, ["a", 'b"'], "human:é")
    assert pairs.to_list() == [t.digest("pair", *each, "human:é") for each in ("ab", ["b", 'b"'])]
    assert t.pair_ids(["a"], ["b"]).to_list() == [t.digest("pair", "a", "b", None)]
