"""How the command line writes: consoles, numbers, and text that cannot take over a terminal.

Results go to standard output, progress and logs to standard error. Whatever a model, a file or a
user wrote is data: `safe` shows its control characters instead of obeying them, and `text` draws
it as `rich.text.Text`, which knows no markup.
"""

import json
import os
import sys
import textwrap
import unicodedata
from collections.abc import Mapping
from math import isfinite
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefdata.finding import Level

LEVELS: Mapping[Level, str] = {
    "ok": "green", "absent": "dim", "skipped": "dim", "warning": "yellow", "error": "bold red",
}  # fmt: skip
EVERY = 5.0  # seconds between two lines of what goes on, where nobody looks at a terminal
WIDE = 160  # where nobody looks at a terminal, lines are folded late: for grep, not for eyes
_JOINERS = "\u200c\u200d"  # scripts and emoji need them; they reorder and hide nothing
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def safe(written: str, *, lines: bool = False) -> str:
    """Text with every character that a terminal obeys or hides written out, such as `\\x1b`.

    These are control and escape sequences, overrides of the reading direction and invisible
    characters. Tabs become spaces; line breaks stay where `lines` says so, else become spaces.
    """
    if written.isascii() and written.isprintable():
        return written
    plain = written.replace("\r\n", "\n").expandtabs(4)
    return "".join(_shown(character, lines) for character in plain)


def _shown(character: str, lines: bool) -> str:
    if character == "\n":
        return "\n" if lines else " "
    if character in _JOINERS or unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def text(written: str, style: str = "", *, lines: bool = False) -> Text:
    """What somebody wrote, to be drawn as it is."""
    return Text(safe(written, lines=lines), style=style)


def out() -> Console:
    return _console(error=False)


def err() -> Console:
    return _console(error=True)


def _console(*, error: bool) -> Console:
    """Plain where the stream is no terminal; without colour where NO_COLOR is set."""
    stream = sys.stderr if error else sys.stdout
    if stream.isatty():
        return Console(file=stream, highlight=False)
    width = None if "COLUMNS" in os.environ else WIDE
    return Console(file=stream, highlight=False, width=width, force_terminal=False, soft_wrap=True)


def table(*columns: str, title: str = "") -> Table:
    """A table without lines; a column whose name ends in "#" holds numbers."""
    made = Table(box=None, title=title, title_justify="left", pad_edge=False, header_style="dim")
    for name in columns:
        number = name.endswith("#")
        made.add_column(
            name.removesuffix("#"),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    return made


def count(number: float) -> str:
    """1234567 as "1,234,567"."""
    return f"{number:,.0f}"


def brief(number: float) -> str:
    """1234567 as "1.2M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 99.95 else f"{scaled:.1f}{unit}"
    return f"{number:.0f}"


def dollars(amount: float) -> str:
    """An amount of USD, to the cent, or finer where it is less than ten cents."""
    if amount == 0 or amount >= 0.1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.0001 else "<$0.0001"


def duration(seconds: float) -> str:
    """3671 seconds as "1h 01m"."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def moment(stamp: str) -> str:
    """A time stamp of ISO 8601, to the minute."""
    return stamp[:16].replace("T", " ")


def size(n_bytes: float) -> str:
    return f"{brief(n_bytes)}B"


def rows(by_table: Mapping[str, int]) -> str:
    """Rows by table as "3 prompts, 1 pair"."""
    said = [(name, n) for name, n in by_table.items() if n or name != "dropped"]
    return ", ".join(f"{count(n)} {_one(name) if n == 1 else name}" for name, n in said)


def _one(plural: str) -> str:
    return "dropped" if plural == "dropped" else plural.removesuffix("s")


def reasons(by_reason: Mapping[str, int]) -> str:
    """Counts by reason, the largest first."""
    ordered = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count(n)}" for reason, n in ordered)


def one_line(answer: Any) -> str:
    """JSON of a line, in ASCII; what is no finite number is null."""
    return json.dumps(_finite(answer), default=str, allow_nan=False)


def print_json(answer: Any) -> None:
    """One JSON object on one line, in ASCII, so that no terminal obeys what is in it.

    Where nobody reads on, as after `| head`, the program ends without a word, as with a console.
    """
    try:
        sys.stdout.write(one_line(answer) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _finite(answer: Any) -> Any:
    """JSON knows no infinity and no NaN: they are null."""
    if isinstance(answer, float):
        return answer if isfinite(answer) else None
    if isinstance(answer, Mapping):
        return {key: _finite(value) for key, value in cast(Mapping[str, Any], answer).items()}
    if isinstance(answer, list | tuple):
        return [_finite(value) for value in cast(list[Any], answer)]
    return answer


def complain(message: str, label: str = "error", style: str = "bold red") -> None:
    """A short message on standard error, folded between words, so that a path can be copied."""
    on = err()
    said = safe(f"{label}: {message}", lines=True)
    if on.is_terminal:
        keep: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
        folded = [textwrap.fill(line, on.width, **keep) for line in said.splitlines()]
        said = "\n".join(folded)
    drawn = Text(said)
    drawn.stylize(style, 0, len(label) + 1)
    on.print(drawn, soft_wrap=True)
