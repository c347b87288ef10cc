"""What is found in two public sets is what `docs/check.md` says of them."""

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from prefdata.check import of_frames, run

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "check.md"


def findings(name: str, frame: pl.DataFrame):
    return {each.check: each for each in run(of_frames(name, {"train": frame})).findings}


def test_hh_rlhf(shared: Callable[[str], pl.DataFrame]):
    frame = shared("hh_rlhf_harmless_test_pairs.parquet")
    found = findings("hh", frame)
    empty = frame.filter(pl.any_horizontal(pl.col("chosen", "rejected").str.strip_chars() == ""))
    assert found["malformed"].n == empty.height == 4
    speaks = frame.filter(
        pl.any_horizontal(pl.col("chosen", "rejected").str.contains(r"(?m)^Human:"))
    )
    assert found["leftovers"].n >= speaks.height > 0
    longer = frame.filter(pl.col("chosen").str.len_chars() > pl.col("rejected").str.len_chars())
    assert found["length_bias"].n == longer.height
    assert {name for name, each in found.items() if each.level == "error"} == {
        "malformed",
        "leftovers",
    }


def test_whole_conversations_are_parted_without_losing_a_letter(
    shared: Callable[[str], pl.DataFrame],
):
    frame = shared("hh_rlhf_harmless_test_pairs.parquet")
    whole = frame.select(chosen="chosen_full", rejected="rejected_full").with_columns(
        pl.all().str.strip_chars()
    )
    parted = pl.concat(part.rows for part in of_frames("hh", {"train": whole}).parts())
    both = parted.with_columns(
        joined=pl.col("prompt_text") + pl.col("chosen_text"), given=whole["chosen"]
    )
    assert both.filter(pl.col("joined") != pl.col("given")).is_empty()


def test_hhh_alignment(shared: Callable[[str], pl.DataFrame]):
    found = findings("hhh", shared("hhh_alignment_pairs.parquet"))
    alarmed = {name for name, each in found.items() if each.level in ("error", "warning")}
    assert alarmed == {"refusals", "boilerplate"}


def figures(text: str) -> set[float]:
    return {float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("HH-RLHF", "hh_rlhf_harmless_test_pairs"),
        ("HHH alignment", "hhh_alignment_pairs"),
    ],
)
def test_the_documentation_says_what_is_found_and_leaves_out_no_alarm(
    shared: Callable[[str], pl.DataFrame], heading: str, name: str
):
    frame = shared(f"{name}.parquet")
    report = run(of_frames(name, {"train": frame}))
    found = {each.check: each for each in report.findings}
    part = DOCUMENTATION.read_text("utf-8").partition(f"**{heading}: ")[2].partition("**HHH")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.M))
    assert figures(part.partition(" pairs.**")[0]) == {frame.height}
    assert ("Does not pass." in part.partition("\n")[0]) == (not report.passes())
    alarmed = {check for check, each in found.items() if each.level in ("error", "warning")}
    assert alarmed <= rows.keys()
    for check, said in rows.items():
        each = found[check]
        told = figures(each.says) | {each.n, each.of}
        assert figures(said) <= told, check
