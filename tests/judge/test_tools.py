"""Tools compute what they are asked, within bounds, and claim nothing that they cannot tell."""

import ast
import calendar as months
import json
import subprocess
import sys
import time
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.judge import tools
from prefdata.judge.toolbox import Call, run

TARA = pl.read_parquet(Path(__file__).parents[1] / "data" / "tara_tools.parquet")
OPERATION = {"week_day": "weekday", "day_difference": "days", "target_day": "add"}


def say(tool: str, question: str, claimed: str = "", **facts: str) -> dict[str, Any]:
    return tools.result({"tool": tool, "input": question, "claimed": claimed}, facts)


def expressions(depth: int = 4) -> st.SearchStrategy[tuple[str, Fraction]]:
    """A fully bracketed expression and its value, by the arithmetic of `fractions`."""
    numbers = st.integers(0, 99).map(lambda n: (str(n), Fraction(n)))
    if not depth:
        return numbers
    inner = expressions(depth - 1)

    def both(left: tuple[str, Fraction], sign: str, right: tuple[str, Fraction]):
        (a, x), (b, y) = left, right
        if sign == "/" and y == 0:
            sign = "+"
        value = {"+": x + y, "-": x - y, "*": x * y}.get(sign) if sign != "/" else x / y
        return f"({a} {sign} {b})", value

    return numbers | st.builds(both, inner, st.sampled_from("+-*/"), inner)


@given(expressions())
def test_a_bracketed_expression_has_the_value_that_fractions_give(known: tuple[str, Fraction]):
    text, value = known
    assert tools.calculated(text)[0] == value


@given(st.lists(st.tuples(st.sampled_from("+-*/^"), st.integers(1, 9)), max_size=6))
def test_precedence_is_that_of_python(rest: list[tuple[str, int]]):
    text = "3" + "".join(f"{sign}{n % 3 + 1 if sign == '^' else n}" for sign, n in rest)
    said = say("calculator", text)
    if said["error"]:
        assert "bits" in said["error"]
    else:
        tree = ast.parse(text.replace("^", "**"), mode="eval").body
        assert tools.calculated(text)[0] == walked(tree)


def walked(tree: ast.expr) -> Fraction:
    """The value of a tree that Python's own grammar has made."""
    if isinstance(tree, ast.Constant):
        return Fraction(str(tree.value))
    assert isinstance(tree, ast.BinOp)
    x, y = walked(tree.left), walked(tree.right)
    match tree.op:
        case ast.Add():
            return x + y
        case ast.Sub():
            return x - y
        case ast.Mult():
            return x * y
        case ast.Div():
            return x / y
        case _:
            return x ** int(y)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-2^2", "-4"), ("2^3^2", "512"), ("2^-1", "0.5"), ("2*-3", "-6"), ("--3", "3"),
        ("20% of 50", "10"), ("1,000 × 3", "3000"), ("7 ÷ 2", "3.5"), ("5 − 8", "-3"),
        ("1/3", "about 0.333333333333"), (".5 + .25", "0.75"), ("50%", "0.5"), ("3 x 4", "12"),
    ],
)  # fmt: skip
def test_expressions_as_people_write_them(text: str, value: str):
    assert say("calculator", text)["observation"] == value


HOSTILE = [
    "9**9**9", "9^9^9^9", "2^100000", "(2^4000)^2", "1/(1/2^4000)^2", "(" * 190 + "1", "-" * 199,
    "(" * 30 + "1" + ")" * 30, "9" * 199 + "^9^9", "9" * 100_000, "1e999999", "0x10", "1_000",
    "٣ + 4", "３+4", "²", "½", "1;2", "__import__('os').system('true')", "().__class__",
    "lambda: 1", "3x4",
    "[1]*9**9", "'a'*9", "1 if 1 else 2", "a:=1", "10//3", "5 5", "1,00", "", " ", "()", "1+", ")",
    "(1", "1/0", "0^-1", "2^0.5", "1" + "+1" * 99 + "!", "\x00", "1\n+\n", "nan", "inf", "{}",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
def test_hostile_expressions_are_refused_at_once_with_a_reason(text: str):
    before = time.process_time()
    said = say("calculator", text, "1")
    assert said["error"]
    assert said["observation"] is said["verdict"] is None
    assert time.process_time() - before < 0.5, "no such input costs real work"


@given(st.sampled_from(sorted(tools.TOOLS)), st.text(max_size=300), st.text(max_size=300))
def test_any_text_gives_a_result_or_a_reason(tool: str, question: str, claimed: str):
    said = say(tool, question, claimed)
    assert (said["observation"] is None) != (said["error"] is None)
    assert said["verdict"] is None or said["error"] is None
    json.dumps(said)


@given(st.text("0123456789+-*/^%(). ", max_size=200))
def test_any_arithmetic_is_bounded(text: str):
    said = say("calculator", text)
    assert len(said["observation"] or "") < 1300


@pytest.mark.parametrize(
    ("value", "claimed", "verdict"),
    [
        ("3/4*8", "6", "supports"), ("3/4*8", "$6.00", "supports"), ("3/4*8", "7", "contradicts"),
        ("3*400", "1,200 grapes", "supports"), ("3*400", "1200", "supports"),
        ("1/3*1", "0.33", "supports"), ("1/3*1", "0.34", "contradicts"),
        ("1/3*1", "1/3", "supports"),
        ("10/4", "3", None), ("10/4", "2", None), ("10/4", "4", "contradicts"),
        ("1-2", "-1", "supports"), ("1-2", "1", "contradicts"), ("1/5*1", "20%", "supports"),
        ("10*2", "20%", "supports"), ("1/5*1", "30 %", "contradicts"),
        ("3*2", "6 or 7", None), ("3*2", "not 6", None), ("3*2", "more than 6", None),
        ("3*2", "about 6", None), ("3*2", "6 thousand", None), ("3*2", "6k", None),
        ("3*2", "six", None), ("3*2", "", None), ("3*2", "1,0000", None), ("3*2", "6,5", None),
        ("3*2", "2 and 3", None), ("3*2", "6/0", None), ("6", "6", None), ("(6)", "7", None),
    ],
)  # fmt: skip
def test_a_claim_is_the_value_or_not_or_cannot_be_told(
    value: str, claimed: str, verdict: str | None
):
    assert say("calculator", value, claimed)["verdict"] == verdict


@given(st.dates(date(1, 1, 1), date(9998, 12, 31)), st.integers(-365, 365), st.data())
def test_dates_are_those_of_the_standard_library(day: date, n: int, data: st.DataObject):
    name = months.day_name[day.weekday()]
    assert say("calendar", f"weekday {day}", f"a {name}.")["verdict"] == "supports"
    assert say("calendar", f"weekday {day}", f"{name[:5]}.")["verdict"] in ("supports", None)
    other = data.draw(st.sampled_from([each for each in months.day_name if each != name]))
    assert say("calendar", f"weekday {day}", other)["verdict"] == "contradicts"
    if day.year > 2:
        later = day + timedelta(n)
        assert say("calendar", f"add {day} {n}", str(later))["verdict"] == "supports"
        assert say("calendar", f"days {day}, {later}", str(abs(n)))["verdict"] == "supports"
        assert say("calendar", f"days {later} {day}", str(abs(n) + 1))["verdict"] == "contradicts"


@pytest.mark.parametrize(
    "question",
    ["weekday 2015-02-30", "weekday 0000-01-01", "weekday 2015-2-3", "weekday ٢٠١٥-01-01",
     "weekday",
     "add 9999-12-31 1", "add 2015-01-01 99999999999", "add 2015-01-01 1.5", "days 2015-01-01",
     "sleep 9999", "weekday 2015-01-01; weekday"],
)  # fmt: skip
def test_what_is_no_date_is_refused(question: str):
    assert say("calendar", question, "Monday")["error"]


def test_a_long_abbreviation_of_a_weekday_is_that_day():
    assert say("calendar", "weekday 2024-02-29", "Thurs.")["verdict"] == "supports"
    assert say("calendar", "weekday 2024-03-01", "Thurs.")["verdict"] == "contradicts"


@pytest.mark.parametrize("claimed", ["Monday or Tuesday", "not Tuesday", "midweek", "Tue", ""])
def test_a_claim_of_no_single_weekday_cannot_be_told(claimed: str):
    assert say("calendar", "weekday 2015-03-24", claimed)["verdict"] is None


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("3 km to m", "3000"), ("1 mi to km", "1.609344"), ("1 lb to g", "453.59237"),
        ("1 gallon to l", "3.785411784"), ("100 °F to °C", "about 37.777777777778"),
        ("0 C to K", "273.15"), ("-40 F to C", "-40"), ("2 hours in minutes", "120"),
        ("1 acre to m2", "4046.8564224"), ("90 km/h to m/s", "25"), ("1 GiB to MiB", "1024"),
        ("12 inches to feet", "1"), ("1 knot to km/h", "1.852"), ("16 oz to lbs", "1"),
    ],
)  # fmt: skip
def test_units_are_those_of_their_definitions(question: str, value: str):
    assert say("unit", question)["observation"] == value


def test_units_of_two_kinds_are_not_compared():
    assert say("unit", "3 mi to kg")["error"] == "mi measures length, and kg measures mass"
    assert "no unit 'parsec'" in say("unit", "3 parsec to km")["error"]


def test_facts_are_looked_up_as_they_stand():
    facts = {"Capital of France": "Paris", "Bones": "206"}
    call = {"tool": "lookup", "input": "capital of  france", "claimed": "It is Paris!"}
    assert tools.result(call, facts)["verdict"] == "supports"
    assert tools.result({**call, "claimed": "Lyon"}, facts)["verdict"] is None
    assert tools.result({**call, "claimed": "not Paris"}, facts)["verdict"] is None
    assert (
        tools.result({**call, "input": "bones", "claimed": "207"}, facts)["verdict"]
        == "contradicts"
    )
    assert tools.result({**call, "input": "moons"}, facts)["error"] == "the facts do not say"


@pytest.mark.parametrize(
    ("printed", "claimed", "verdict"),
    [
        ("42", "It is 42.", "supports"), ("42", "41", "contradicts"), ("42", "about 42", None),
        ("0.30000000000000004", "0.3", "supports"), ("yes", "Yes!", "supports"),
        ("yes", "no", None), ("[1, 2]", "1, 2", "supports"), ("?", "!", None),
    ],
)  # fmt: skip
def test_what_a_program_printed_is_compared_with_the_claim(
    printed: str, claimed: str, verdict: str | None
):
    assert say("code", printed, claimed) == {
        "observation": printed, "verdict": verdict, "error": None
    }  # fmt: skip


def test_every_published_answer_on_dates_is_told_right_from_wrong():
    rows = TARA.filter(pl.col("action") != "calculator").to_dicts()
    assert sum("week_day" in row["action"] for row in rows) == 168
    calls: list[Call] = []
    for row in rows:
        question = f"{OPERATION[row['action'].partition('.')[2]]} {row['input']}"
        for side in ("right", "wrong"):
            calls.append(Call("calendar", question, row[side].rpartition(" is ")[2]))
    told = run(calls)
    verdicts = [told[call].verdict for call in calls]
    assert verdicts == ["supports", "contradicts"] * len(rows)
    assert [told[c].observation for c in calls[::2]] == [row["observation"] for row in rows]


def test_nothing_of_the_package_or_the_environment_is_in_the_process_of_the_tools():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, tools.__file__],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"polars", "numpy", "prefdata", "socket", "urllib"} & set(
        ast.literal_eval(ran.stdout)
    )
