"""The page of scores: complete, self-contained, readable as text, and safe to open."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables, version
from prefdata.version.page import BINS, bins, counts, distributions, page

MANIFEST = {"name": "mini", "id": "0123456789ab", "description": "Small & <b>planted</b>."}


def scores_of(ids: Any, values: Any, score: str = "ln_ches", **more: Any) -> pl.DataFrame:
    frame = pl.DataFrame({"subject_id": ids, "value": values}).with_columns(
        score=pl.lit(score), **{"subject": pl.lit("pair"), "model": pl.lit("target"), **more}
    )
    return tables.check("scores", frame, where="test")


class Reader(HTMLParser):
    """Opens and closes what it reads, and keeps what is seen."""

    VOID = frozenset({"meta", "rect", "line", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += f" {data}"


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture
def frames(world: Any) -> dict[str, pl.DataFrame]:
    """Two scores of pairs, of which the higher third was dropped."""
    made = world(40)
    ids = made["pairs"]["pair_id"].sort()
    value = np.random.default_rng(0).normal(size=len(ids))
    scores = pl.concat([scores_of(ids, value), scores_of(ids, 3 * value, "ches")])
    kept = ids.filter(pl.Series(value < np.quantile(value, 2 / 3)))
    pairs = made["pairs"].filter(pl.col("pair_id").is_in(kept.implode()))
    return {**made, "pairs": pairs, "scores": scores}


def test_every_value_is_in_a_bar_of_its_own_fate(frames: dict[str, pl.DataFrame]):
    found = distributions(frames)
    assert [each.score for each in found] == ["ches", "ln_ches"]
    for each in found:
        assert (len(each.kept), len(each.dropped)) == (80, 40)
        assert each.kept.max() < each.dropped.min()
        edges = bins(np.concatenate([each.kept, each.dropped]))
        assert counts(each.kept, edges).sum() == 80
        assert counts(each.dropped, edges).sum() == 40
    reader = read(page(MANIFEST, frames))
    bars = [at for tag, at in reader.tags if tag == "rect"]
    kept, dropped = (
        sum(float(at["height"] or 0) for at in bars if at["class"] == kind)
        for kind in ("kept", "dropped")
    )
    assert kept / dropped == pytest.approx(2, rel=0.02)


def test_what_is_drawn_is_also_said(frames: dict[str, pl.DataFrame]):
    reader = read(page(MANIFEST, frames))
    drawn = [at for tag, at in reader.tags if tag == "svg"]
    assert len(drawn) == 2
    assert all("80 rows in this version, 40 dropped" in (at["aria-label"] or "") for at in drawn)
    each = distributions(frames)[1]
    for values in (each.kept, each.dropped):
        for share in (0.05, 0.5, 0.95):
            assert f"{np.quantile(values, share):.4g}" in reader.text
    assert "in this version" in reader.text
    assert "dropped" in reader.text


def test_large_numbers_are_written_as_people_write_them():
    text = read(page(MANIFEST, {"scores": scores_of(["a", "b"], [-115_123.4, -115_123.4])})).text
    assert "-115,123" in text
    assert "e+" not in text


def test_nothing_is_fetched_run_or_needs_a_pointer(frames: dict[str, pl.DataFrame]):
    text = page(MANIFEST, frames)
    reader = read(text)
    assert {"script", "link", "img", "iframe"}.isdisjoint(tag for tag, _ in reader.tags)
    assert not re.search(r"https?:|//|url\(|@import|:hover|onclick", text)
    assert "prefers-color-scheme: dark" in text
    assert "color-scheme: light dark" in text
    for tag, at in reader.tags:
        assert not {"href", "src"} & at.keys(), tag
        assert not [name for name in at if name.startswith("on")]


def test_names_cannot_become_markup(frames: dict[str, pl.DataFrame]):
    evil = '"><script>alert(1)</script>\x1b[2J'
    scores = frames["scores"].with_columns(score=pl.lit(evil), model=pl.lit(evil))
    made = {**frames, "scores": scores.unique(["subject_id", "score"])}
    text = page({**MANIFEST, "description": evil, "name": evil}, made)
    assert "<script>" not in text
    assert "\x1b" not in text
    read(text)


@pytest.mark.parametrize(
    "values", [[0.0], [2.5] * 300, [1.0, 2.0], [1e300, -1e300], [0.0] * 299 + [1e9]]
)
def test_odd_values_have_a_picture_too(values: list[float]):
    frames = {"scores": scores_of([f"p{at}" for at in range(len(values))], values)}
    [each] = distributions(frames)
    assert len(each.dropped) == len(values)
    edges = bins(each.dropped)
    assert (np.diff(edges) > 0).all()
    assert counts(each.dropped, edges).sum() == len(values)
    assert "nan" not in page(MANIFEST, frames)


def test_outliers_do_not_squeeze_the_rest():
    values = np.r_[np.random.default_rng(1).normal(size=2000), 1e6]
    edges = bins(values)
    assert edges[-1] < 10
    assert counts(values, edges).sum() == 2001
    assert len(edges) == BINS + 1
    frames = {"scores": scores_of([f"p{at}" for at in range(2001)], values)}
    assert "≥ " in read(page(MANIFEST, frames)).text


def test_a_version_with_scores_has_its_page_and_one_without_has_none(
    frames: dict[str, pl.DataFrame], tmp_path: Any
):
    how: dict[str, Any] = {"exports": {}, "recipe_text": "", "resolved": {}}
    written = version.write(tmp_path, "mini", tables=frames, **how)
    assert "<svg" in (written.path / "report.html").read_text()
    assert "report.html" in (written.path / "README.md").read_text()
    version.verify(written.path)
    bare = {name: frame for name, frame in frames.items() if name != "scores"}
    plain = version.write(tmp_path, "plain", tables=bare, **how)
    assert not (plain.path / "report.html").exists()
    version.verify(plain.path)


def test_a_constitution_is_a_table_and_no_text_of_it_is_markup():
    row = {"principle_id": "p1", "principle": "<script>alert(1)</script>", "for": 2, "against": 1,
           "abstain": 0, "invalid": 0, "agreement": 2 / 3, "accuracy": 2 / 3, "relevance": 1.0,
           "rank": 1}  # fmt: skip
    rules = tables.check("principles", pl.DataFrame([row]), where="test")
    seen = read(page(MANIFEST, {"principles": rules}))
    assert "<script>alert(1)</script>" in seen.text
    assert "script" not in {tag for tag, _ in seen.tags}
    assert "0.6667 (0.2077 to 0.9385)" in seen.text
    assert "scored and then dropped" not in seen.text
