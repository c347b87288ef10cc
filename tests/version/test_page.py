"""The page of a version: complete, self-contained, readable as text, and safe to open."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables, version
from prefdata.version.distributions import BINS, bins, counts, distributions
from prefdata.version.glance import agreement, first_preferred, longer_preferred
from prefdata.version.page import PAIRS, page

MANIFEST = {"name": "mini", "id": "0123456789ab", "description": "Small & <b>planted</b>."}


def scores_of(ids: Any, values: Any, score: str = "ln_ches", **more: Any) -> pl.DataFrame:
    frame = pl.DataFrame({"subject_id": ids, "value": values}).with_columns(
        score=pl.lit(score), **{"subject": pl.lit("pair"), "model": pl.lit("target"), **more}
    )
    return tables.check("scores", frame, where="test")


class Reader(HTMLParser):
    """Opens and closes what it reads, and keeps what is seen."""

    VOID = frozenset({"meta", "rect", "input", "br", "wbr"})

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
    part = page(MANIFEST, frames).partition("<h2>Scores</h2>")[2].partition("</section>")[0]
    reader = read(part)
    bars = [at for tag, at in reader.tags if tag == "rect"]
    kept, dropped = (
        sum(float(at["height"] or 0) for at in bars if at["class"] == kind)
        for kind in ("kept", "dropped")
    )
    assert kept / dropped == pytest.approx(2, rel=0.02)


def test_what_is_drawn_is_also_said(frames: dict[str, pl.DataFrame]):
    reader = read(page(MANIFEST, frames))
    drawn = [at for tag, at in reader.tags if tag == "svg" and "ches" in (at["aria-label"] or "")]
    assert len(drawn) == 2
    assert all(at.get("aria-label") for tag, at in reader.tags if tag == "svg")
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


def test_a_version_of_votes_pairs_or_scores_has_its_page_and_one_without_has_none(
    frames: dict[str, pl.DataFrame], tmp_path: Any
):
    how: dict[str, Any] = {"exports": {}, "recipe_text": "", "resolved": {}}
    for name in ("mini", "plain"):
        made = frames if name == "mini" else {n: f for n, f in frames.items() if n != "scores"}
        written = version.write(tmp_path, name, tables=made, **how)
        assert "<svg" in (written.path / "report.html").read_text()
        assert "report.html" in (written.path / "README.md").read_text()
        version.verify(written.path)
    bare = version.write(tmp_path, "bare", tables={"prompts": frames["prompts"]}, **how)
    assert not (bare.path / "report.html").exists()
    assert "report.html" not in (bare.path / "README.md").read_text()
    version.verify(bare.path)


def voted(frames: dict[str, pl.DataFrame], seed: int = 0) -> dict[str, pl.DataFrame]:
    """A second annotator who says otherwise in three of ten votes and likes the first place."""
    votes = frames["votes"].sort("completion_a", "completion_b")
    random = np.random.default_rng(seed)
    turned, first = random.random(votes.height) < 0.3, random.random(votes.height) < 0.5
    other = votes.with_columns(
        annotator=pl.lit("human:u1"),
        a_first=pl.Series(first),
        preference=pl.when(pl.Series(turned))
        .then(1 - pl.col("preference"))
        .otherwise("preference"),
        rationale=pl.lit("<b>bold</b> reason"),
    )
    return {**frames, "votes": tables.union("votes", votes, other, where="t")}


def test_agreement_and_bias_are_those_that_counting_by_hand_gives(frames: dict[str, pl.DataFrame]):
    made = voted(frames)
    by: dict[str, dict[tuple[str, str], float]] = {}
    first: dict[str, list[bool]] = {}
    for row in made["votes"].to_dicts():
        key = (row["completion_a"], row["completion_b"])
        by.setdefault(row["annotator"], {})[key] = row["preference"]
        first.setdefault(row["annotator"], []).append((row["preference"] > 0.5) == row["a_first"])
    one, other = by["human:u1"], by["llm:judge/helpfulness"]
    same = sum(one[key] == other[key] for key in one)
    found = agreement(made)
    at = {name: place for place, name in enumerate(found.names)}
    cell = at["human:u1"], at["llm:judge/helpfulness"]
    assert found.n[cell] == len(one)
    assert found.same[cell] == pytest.approx(same / len(one))
    assert found.same[cell[::-1]] == found.same[cell]
    # the label of the pairs is what the planted judge says, on the pairs that are left
    assert found.same[at["label of pairs"], cell[1]] == 1
    assert found.n[at["label of pairs"], cell[1]] == made["pairs"].height
    shares = {each.of: (each.k, each.n) for each in first_preferred(made)}
    assert shares == {who: (sum(hits), len(hits)) for who, hits in first.items()}
    text = read(page(MANIFEST, made)).text
    assert f"{same / len(one):.0%}" in text


def test_length_counts_only_texts_of_unequal_length(frames: dict[str, pl.DataFrame]):
    assert longer_preferred(frames) == []  # "answer 0", "answer 1": all equally long
    completions = frames["completions"].with_columns(
        tables.conversations(
            "completion",
            [[{"role": "assistant", "content": "x" * (1 + at % 3)}] for at in range(120)],
        )
    )
    lengths = {
        row["completion_id"]: len(row["completion"][0]["content"]) for row in completions.to_dicts()
    }
    (share,) = longer_preferred({**frames, "completions": completions})
    hits = [
        (row["preference"] > 0.5) == (lengths[row["completion_a"]] > lengths[row["completion_b"]])
        for row in frames["votes"].to_dicts()
        if lengths[row["completion_a"]] != lengths[row["completion_b"]]
    ]
    assert (share.k, share.n) == (sum(hits), len(hits))


def test_pairs_are_paged_through_without_a_script(frames: dict[str, pl.DataFrame]):
    reader = read(page(MANIFEST, voted(frames)))
    buttons = [at for tag, at in reader.tags if tag == "input"]
    assert len(buttons) == PAIRS
    assert [at["id"] for at in buttons if "checked" in at] == ["pair0"]
    assert len({at["name"] for at in buttons}) == 1
    turns = [at["for"] for tag, at in reader.tags if tag == "label"]
    # every pair but the first is the next of one and every but the last the previous of one
    assert sorted(turns) == sorted(
        [f"pair{at}" for at in range(1, PAIRS)] + [f"pair{at}" for at in range(PAIRS - 1)]
    )
    assert reader.text.count("<b>bold</b> reason") == PAIRS


def test_where_fewer_pairs_are_there_than_are_shown_all_are(frames: dict[str, pl.DataFrame]):
    few = {**frames, "pairs": frames["pairs"].head(PAIRS - 5)}
    reader = read(page(MANIFEST, few))
    assert sum(tag == "input" for tag, _ in reader.tags) == PAIRS - 5


def test_texts_of_models_are_shown_and_never_obeyed(frames: dict[str, pl.DataFrame]):
    evil = "</div></main><script>alert(1)</script><img src=x onerror=alert(1)>\x1b]0;x\x07"
    completions = frames["completions"].with_columns(
        tables.conversations("completion", [[{"role": "assistant", "content": evil}]] * 120)
    )
    votes = frames["votes"].with_columns(rationale=pl.lit(evil), annotator=pl.lit(f"llm:{evil}"))
    dropped = pl.DataFrame({"table": "pairs", "key": "x", "stage": evil, "reason": evil})
    made = {**frames, "completions": completions, "votes": votes, "dropped": dropped}
    text = page(MANIFEST, made)
    reader = read(text)
    assert {"script", "img"}.isdisjoint(tag for tag, _ in reader.tags)
    assert "\x1b" not in text
    assert "alert(1)" in reader.text


def test_the_funnel_noise_and_cost_are_told(frames: dict[str, pl.DataFrame]):
    flow = {"stage": "select.margin", "use": "select.margin", "table": "pairs"}
    spent = {"requests": 7, "cached": 3, "tokens_in": 70, "tokens_out": 90, "cost": 0.0125}
    rate = {"subject": "gold", "value": 0.125, "low": 0.1, "high": 0.15, "n": 80, "note": None}
    manifest = {
        **MANIFEST,
        "counts": {
            "stages": [{**flow, "in": 120, "out": 80, "dropped": 40}],
            "spent": {"annotate.pairwise": spent},
            "requests": {"asked": 4, "cached": 3, "failed": 0},
            "cost": 0.0125,
        },
        "noise": {"flip_rate": [rate]},
    }
    reader = read(page(manifest, frames))
    for wanted in (
        "select.margin: pairs",
        "12.5%",
        "10.0% to 15.0%",
        "$0.0125",
        "Requests: asked 4",
    ):
        assert wanted in reader.text
    said = [at["aria-label"] for tag, at in reader.tags if tag == "svg"]
    assert "select.margin: pairs: 80 kept, 40 dropped" in said


def test_a_page_of_many_pairs_is_small(world: Any):
    made = world(4000)
    long = "word " * 20_000
    completions = made["completions"].with_columns(
        tables.conversations(
            "completion", [[{"role": "assistant", "content": long}]] * made["completions"].height
        )
    )
    assert len(page(MANIFEST, {**made, "completions": completions})) < 1_000_000


def test_a_constitution_is_a_table_and_no_text_of_it_is_markup():
    row = {"principle_id": "p1", "principle": "<script>alert(1)</script>", "for": 2, "against": 1,
           "abstain": 0, "invalid": 0, "agreement": 2 / 3, "accuracy": 2 / 3, "relevance": 1.0,
           "rank": 1}  # fmt: skip
    rules = tables.check("principles", pl.DataFrame([row]), where="test")
    seen = read(page(MANIFEST, {"principles": rules}))
    assert "<script>alert(1)</script>" in seen.text
    assert "script" not in {tag for tag, _ in seen.tags}
    assert "0.6667 0.2077 to 0.9385" in " ".join(seen.text.split())
    assert "scored and then dropped" not in seen.text


def test_long_names_turned_texts_and_many_votes_do_not_spoil_the_page(
    frames: dict[str, pl.DataFrame],
):
    long, turned = "w" * 3000, "\u202eevil\u2066 \x85"
    dropped = pl.DataFrame(
        {"table": "pairs", "key": "x", "stage": long, "reason": f"{turned}{long}"}
    )
    votes = pl.concat(
        frames["votes"].with_columns(draw=pl.lit(at, pl.Int64), rationale=pl.lit(long))
        for at in range(100)
    )
    texts = [[{"role": "assistant", "content": f"\u05e9\u05dc\u05d5\u05dd {turned}"}]] * 120
    completions = frames["completions"].with_columns(tables.conversations("completion", texts))
    made = {**frames, "dropped": dropped, "votes": votes, "completions": completions}
    text = page(MANIFEST, made)
    assert not set(text) & set("\u202e\u2066\x85")
    assert max(map(len, re.findall("w+", text.partition("<h2>Pairs</h2>")[0]))) <= 200
    reader = read(text)
    assert "60 more are in" in reader.text
    assert len(text) < 2_000_000
    own = [at for tag, at in reader.tags if "text" in (at.get("class") or "").split()]
    assert len(own) == 3 * PAIRS
    assert {at.get("dir") for at in own} == {"auto"}
