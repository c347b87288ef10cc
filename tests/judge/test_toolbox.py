"""A tool that hangs, dies or talks nonsense costs one result, with the reason."""

from pathlib import Path

import pytest

from prefdata.judge.toolbox import Call, Result, run

SUM = Call("calculator", "1+1", "2")
FAULTY = """
import json, os, sys, time
facts = json.loads(sys.stdin.readline())
print(flush=True)
for line in sys.stdin:
    asked = json.loads(line)["input"]
    if asked == "hang":
        time.sleep(60)
    if asked == "die":
        os._exit(3)
    if asked == "talk":
        print("no JSON at all", flush=True)
        continue
    if asked == "lie":
        print('{"unknown": 1}', flush=True)
        continue
    if asked == "half":
        sys.stdout.write("{")
        sys.stdout.flush()
        time.sleep(60)
    print(json.dumps({"observation": asked, "verdict": None, "error": None}), flush=True)
"""


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    (tmp_path / "faulty.py").write_text(FAULTY)
    return tmp_path / "faulty.py"


def test_equal_calls_run_once_and_every_call_has_its_result():
    other = Call("calendar", "weekday 2015-03-24", "Monday")
    assert run([SUM, other, SUM]) == {
        SUM: Result("2", "supports", None),
        other: Result("Tuesday", "contradicts", None),
    }
    assert run([]) == {}


@pytest.mark.parametrize(
    ("fault", "why"),
    [("hang", "longer than 3 seconds"), ("half", "longer than 3 seconds"),
     ("die", "without a result"), ("talk", "Expecting value"), ("lie", "unexpected keyword")],
)  # fmt: skip
def test_a_fault_is_a_reason_and_the_others_have_their_results(faulty: Path, fault: str, why: str):
    calls = [Call("x", each, "") for each in ("before", fault, "after")]
    found = run(calls, seconds=3, program=faulty)
    assert why in (found[calls[1]].error or "")
    assert found[calls[1]].observation is found[calls[1]].verdict is None
    assert [found[calls[at]].observation for at in (0, 2)] == ["before", "after"]


def test_a_program_that_is_not_there_is_a_reason(tmp_path: Path):
    assert run([SUM], program=tmp_path / "none.py")[SUM].error


def test_facts_reach_the_tools():
    call = Call("lookup", "bones", "206")
    assert run([call], {"Bones": "206"})[call].verdict == "supports"


def test_a_long_input_is_refused_and_does_not_stop_the_pipe():
    call = Call("calculator", "1+" * 100_000 + "1", "1" * 300_000)
    assert "at most 200 characters" in (run([call])[call].error or "")
