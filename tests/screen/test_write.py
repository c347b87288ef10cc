"""Nothing that a model, a file or a user wrote reaches a terminal as a command."""

import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from prefdata.screen import write

HOSTILE = [
    "\x1b[2J\x1b[H cleared",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x9b31m red in one byte",
    "over\rwritten",
    "back\x08\x08space",
    "\u202egnp.exe",
    "\u2066isolated\u2069",
    "zero\u200bwidth\ufeff",
    "tag \U000e0041\U000e0042",
    "[bold red]markup[/] [link=http://evil.example]x[/link]",
    "[/nothing closed]",
    "null \x00 and delete \x7f",
    "line\u2028and paragraph\u2029separators",
]


def drawn(text: str, width: int = 80) -> str:
    """What a terminal without colours is sent."""
    into = io.StringIO()
    console = Console(file=into, width=width, force_terminal=True, color_system=None)
    console.print(write.text(text, lines=True))
    return into.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_not_obeyed(text: str):
    sent = drawn(text)
    assert not [
        c for c in sent if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")
    ]
    if "[" in text and "\x1b" not in text:
        assert sent.strip() == text  # markup is text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_no_text_at_all_sends_a_control_character(text: str):
    allowed = "\n\u200c\u200d"
    unseen = ("Cc", "Cf", "Cn", "Co", "Zl", "Zp")
    sent = write.safe(text, lines=True)
    assert not [c for c in sent if c not in allowed and unicodedata.category(c) in unseen]
    assert "\n" not in write.safe(text)


@pytest.mark.parametrize("text", ["plain", "Zoë, 東京, 👩‍👩‍👧, नमस्ते, שלום", "tilde ~ [x]", ""])
def test_readable_text_stays_as_it_is(text: str):
    assert write.safe(text) == text


def test_different_hidden_characters_are_told_apart():
    assert write.safe("a\u200bb") == "a\\u200bb"
    assert write.safe("\x1b") == "\\x1b"
    assert write.safe("\U000e0041") == "\\U000e0041"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (3599.7, "1h 00m"),
        (7322, "2h 02m"),
    ],
)
def test_durations_carry(seconds: float, said: str):
    assert write.duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (999, "999"), (999.6, "1.0k"), (1234, "1.2k"), (99_960, "100k"), (2.5e6, "2.5M")],
)
def test_brief_numbers_carry(number: float, said: str):
    assert write.brief(number) == said


def test_small_amounts_are_not_nothing():
    said = [write.dollars(amount) for amount in (0, 0.00001, 0.0123, 12.3, 1234.5)]
    assert said == ["$0.00", "<$0.0001", "$0.0123", "$12.30", "$1,234.50"]


@pytest.mark.parametrize("text", HOSTILE)
def test_json_is_ascii_on_one_line_and_comes_back(text: str, capsys: pytest.CaptureFixture[str]):
    write.print_json({"error": text})
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert json.loads(line) == {"error": text}
