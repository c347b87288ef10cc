"""Programs of a judge run in the sandbox; what is no value is a reason for that one alone."""

import pytest

from prefdata.judge import programs
from prefdata.judge.programs import LONGEST_PROGRAM, printed
from prefdata.judge.toolbox import Call, Result, run
from prefdata.judge.tools import LONGEST

pytestmark = pytest.mark.skipif(
    programs.unavailable() is not None, reason=str(programs.unavailable())
)
LIMITS = {
    "hangs": ("while True: pass", "too long"),
    "fails": ("raise ValueError('oh')", "the program fails: ValueError: oh"),
    "ends": ("raise SystemExit(3)", "exit code 3"),
    "says nothing": ("", "prints 0 characters"),
    "says much": (f"print('x' * {LONGEST + 1})", f"prints {LONGEST + 1} characters"),
    "says without end": ("while True: print('x' * 10000)", "prints too much"),
    "holds much": ("x = [b'x' * 2**20 for _ in range(2**20)]", "too much memory"),
    "writes many": ("for at in range(10**6): open(str(at), 'w').close()", "writes too much"),
    "is long": ("#" * (LONGEST_PROGRAM + 1), f"at most {LONGEST_PROGRAM}"),
    "is no text": ("\ud800", "the program fails"),
}


def test_each_program_has_its_value_or_its_reason():
    faulty = [program for program, _ in LIMITS.values()]
    said = printed(["print(6 * 7)", *faulty, "print(sorted({'b', 'a'}))"], 3.0)
    assert said["print(6 * 7)"] == "42"
    assert said["print(sorted({'b', 'a'}))"] == "['a', 'b']"
    for name, (program, why) in LIMITS.items():
        assert why in str(said[program]), name


def test_a_set_has_the_same_order_in_every_run():
    program = "print({'one', 'two', 'three', 'four', 'five'})"
    assert printed([program], 9.0) == printed([program], 9.0)


def test_programs_and_tools_are_run_together():
    right, wrong = Call("code", "print(2**10)", "1024"), Call("code", "print(2**10)", "1000")
    plain = Call("calculator", "2^10", "1024")
    assert run([right, wrong, plain]) == {
        right: Result("1024", "supports", None),
        wrong: Result("1024", "contradicts", None),
        plain: Result("1024", "supports", None),
    }
