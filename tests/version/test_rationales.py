"""Rationales on the card, the page and the terminal: how many hold, and what they say."""

from typing import Any

import polars as pl
import pytest

from prefdata import tables, version
from prefdata.screen.preview import show_json
from prefdata.version import find
from prefdata.version.page import page
from prefdata.version.rationales import LONGEST, kept
from tests.version.test_page import MANIFEST, read

EVIL = "[CHOSEN] is <b>right</b> | [x](y) `code`, as nobody else says so well and so long."


@pytest.fixture
def frames(world: Any) -> dict[str, pl.DataFrame]:
    made = world(6)
    ids = made["pairs"].sort("pair_id")["pair_id"].to_list()
    texts = [(ids[0], "general", "[CHOSEN] is right. " * 60), (ids[1], "general", EVIL)]
    rows = pl.DataFrame(texts, ["pair_id", "kind", "rationale"], orient="row")
    rows = rows.with_columns(annotator=pl.lit("llm:m/rationale"))
    shares = [
        ("kept_rationales", "general", 2 / 6, 0.1, 0.7),
        ("recovery", "general", 0.8, 0.5, 0.9),
        ("recovery_without", "general", 0.55, 0.4, 0.7),
        ("rationale_words", "general", 41.5, None, None),
        ("kept_rationales", "specific", 0.0, None, None),
    ]
    measures = pl.DataFrame(shares, ["measure", "subject", "value", "low", "high"], orient="row")
    return {
        **made,
        "rationales": tables.check("rationales", rows, where="test"),
        "measures": tables.check("measures", measures.with_columns(n=6), where="test"),
    }


def test_each_kind_has_its_figures_and_its_shortest_text(frames: dict[str, pl.DataFrame]):
    general, specific = kept(frames)
    assert general.figures == (
        *(2, 2, "0.3333 (0.1 to 0.7)", "0.8 (0.5 to 0.9)", "0.55 (0.4 to 0.7)", "41.5"),
    )
    assert general.example == EVIL
    assert specific == ("specific", (0, 0, "0", "", "", ""), None)
    assert kept({"pairs": frames["pairs"]}) == []
    long = {**frames, "rationales": frames["rationales"].filter(pl.col("rationale") != EVIL)}
    assert len(str(kept(long)[0].example)) <= LONGEST


def test_they_are_on_the_page_and_beside_their_pair_and_are_no_markup(
    frames: dict[str, pl.DataFrame],
):
    text = page(MANIFEST, frames)
    seen = read(text)
    assert "<b>right</b>" not in text
    assert seen.text.count(EVIL) == 2  # as the example, and with its pair
    assert "general, by llm:m/rationale" in seen.text
    bare = {name: frame for name, frame in frames.items() if name not in ("rationales", "measures")}
    assert "Rationales" not in page(MANIFEST, bare)
    assert "Why " not in read(page(MANIFEST, bare)).text.partition("Pairs")[2]


def test_the_card_and_the_terminal_tell_them(tmp_path: Any, frames: dict[str, pl.DataFrame]):
    written = version.write(
        tmp_path, "mini", tables=frames, exports={}, resolved={}, recipe_text=""
    )
    section = (written.path / "README.md").read_text().partition("## Rationales")[2]
    section = section.partition("\n## ")[0]
    assert "| general | 2 | 2 | 0.3333 (0.1 to 0.7) | 0.8 (0.5 to 0.9) |" in section
    assert "\\<b\\>right\\</b\\> | \\[x\\](y) \\`code\\`" in section
    shown = show_json(find(tmp_path, "mini"), 100)["pairs"]
    print(shown, frames["rationales"])
    told = [each["rationales"] for each in shown]
    assert sorted(map(len, told)) == [0] * (frames["pairs"].height - 2) + [1, 1]
