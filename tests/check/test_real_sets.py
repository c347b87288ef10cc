"""What is found in two public sets is what `docs/check.md` says of them."""

from collections.abc import Callable

import polars as pl

from prefdata.check import of_frames, run


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
    parted = of_frames("hh", {"train": whole}).rows
    both = parted.with_columns(
        joined=pl.col("prompt_text") + pl.col("chosen_text"), given=whole["chosen"]
    )
    assert both.filter(pl.col("joined") != pl.col("given")).is_empty()


def test_hhh_alignment(shared: Callable[[str], pl.DataFrame]):
    found = findings("hhh", shared("hhh_alignment_pairs.parquet"))
    alarmed = {name for name, each in found.items() if each.level in ("error", "warning")}
    assert alarmed == {"refusals", "boilerplate"}
