import json

import polars as pl
import pytest
from rich.console import Console

from prefdata import tables, version
from prefdata.errors import VersionError
from prefdata.export.pairwise import pairwise
from prefdata.screen.story import draw_story
from prefdata.version.story import anywhere, story

FLOWS = [
    ("annotate.pairwise", "votes", 18, 18),
    ("pair.all_pairs", "pairs", 18, 18),
    ("select.margin", "pairs", 18, 17),
    ("select.distinct", "pairs", 17, 17),
]
STAGES = [
    {"stage": use, "use": use, "table": table, "in": n, "out": out, "dropped": n - out}
    for use, table, n, out in FLOWS
]
WHY = "because \x1b[31mit is [bold]better[/bold]"


@pytest.fixture
def made(tmp_path, world):
    """A version of which one pair was dropped; the votes have reasons, one is unscored."""
    frames = world()
    gone = frames["pairs"][3]
    votes = frames["votes"].with_columns(rationale=pl.lit(WHY))
    more = votes.with_columns(
        annotator=pl.lit("human:u1"), preference=None, rationale=None, unscored=pl.lit("no answer")
    )
    samples = frames["completions"].select(
        "completion_id",
        "prompt_id",
        generator=pl.lit("writer"),
        draw=0,
        finish_reason=pl.lit("stop"),
    )
    scores = frames["pairs"].select(
        subject_id="pair_id", subject=pl.lit("pair"), score=pl.lit("ches"), value=pl.lit(0.25)
    )
    dropped = pl.DataFrame(
        {"table": "pairs", "key": gone["pair_id"], "stage": "select.margin", "reason": "below 0.5"}
    )
    kept = frames["pairs"].filter(pl.col("pair_id") != gone["pair_id"][0])
    given = {
        **frames,
        "pairs": kept,
        "votes": tables.union("votes", votes, more, where="t"),
        "samples": tables.check("samples", samples, where="t"),
        "scores": tables.check("scores", scores, where="t"),
        "dropped": tables.check("dropped", dropped, where="t"),
    }
    written = version.write(
        tmp_path,
        "mini",
        tables=given,
        exports={"pairwise": pairwise(frames["prompts"], frames["completions"], kept)},
        recipe_text="",
        resolved={},
        counts={"stages": STAGES},
    )
    return version.verify(written.path), gone


def drawn(said, width=110, **how):
    console = Console(width=width, force_terminal=False, file=None, record=True, color_system=None)
    with console.capture() as captured:
        draw_story(said, console, **how)
    return captured.get()


def test_a_kept_pair_tells_everything(made):
    found, _ = made
    row = found.table("pairs")[0].to_dicts()[0]
    said = story(found, row["pair_id"])
    assert (said["kind"], said["fate"]) == ("pair", "kept")
    assert said["prompts"][0]["prompt_id"] == row["prompt_id"]
    sides = {each["side"]: each for each in said["completions"]}
    assert sides["chosen"]["completion_id"] == row["chosen_id"]
    assert sides["rejected"]["completion_id"] == row["rejected_id"]
    assert [each["generator"] for each in sides["chosen"]["samples"]] == ["writer"]
    assert (
        sides["chosen"]["strengths"][0]["strength"] > sides["rejected"]["strengths"][0]["strength"]
    )
    by = {vote["annotator"]: vote for vote in said["votes"]}
    assert by["llm:judge/helpfulness"]["says"] == "chosen"
    assert by["llm:judge/helpfulness"]["rationale"] == WHY
    assert by["human:u1"]["says"] == "unscored"
    assert said["scores"][0]["value"] == 0.25
    fates = {each["stage"]: each["fate"] for each in said["stages"]}
    assert fates == {
        "pair.all_pairs": "made",
        "select.margin": "passed",
        "select.distinct": "passed",
    }
    assert said["exports"] == [{"view": "pairwise", "split": "train", "rows": 1}]
    assert "select.margin kept it, with 17 of 18 pairs" in said["because"]


def test_votes_are_told_by_side_whichever_is_a(made):
    found, _ = made
    for row in found.table("pairs").to_dicts():
        said = story(found, row["pair_id"])
        llm = next(v for v in said["votes"] if v["annotator"].startswith("llm"))
        assert llm["says"] == "chosen"
        a_is_chosen = llm["completion_a"] == row["chosen_id"]
        assert llm["shown_first"] == ("chosen" if a_is_chosen else "rejected")


def test_a_dropped_pair_is_found_again_with_its_texts_and_the_reason(made):
    found, gone = made
    said = story(found, gone["pair_id"][0])
    assert said["fate"] == "dropped"
    assert {each["completion_id"] for each in said["completions"]} == {
        gone["chosen_id"][0],
        gone["rejected_id"][0],
    }
    assert {vote["says"] for vote in said["votes"]} <= {"a", "b", "unscored"}
    assert [each["fate"] for each in said["stages"]] == ["made", "dropped"]
    assert said["because"] == ["select.margin dropped it: below 0.5"]
    assert said["exports"] == []


def test_a_dropped_pair_of_one_annotator_without_votes_left_is_still_told(made, tmp_path):
    found, gone = made
    frames = {name: found.table(name) for name in found.manifest["tables"]}
    frames["votes"] = frames["votes"].clear()
    written = version.write(
        tmp_path, "bare", tables=frames, exports={}, recipe_text="", resolved={}
    )
    said = story(version.verify(written.path), gone["pair_id"][0])
    assert len(said["completions"]) == 2
    assert said["because"] == ["select.margin dropped it: below 0.5"]


def test_a_completion_and_a_prompt_have_stories(made):
    found, gone = made
    said = story(found, gone["chosen_id"][0])
    assert said["kind"] == "completion"
    assert all(gone["chosen_id"][0] in (p["chosen_id"], p["rejected_id"]) for p in said["pairs"])
    told = story(found, gone["prompt_id"][0])
    assert told["kind"] == "prompt"
    assert len(told["completions"]) == 3
    assert len(told["pairs"]) == 2
    assert [row["key"] for row in told["dropped"]] == [gone["pair_id"][0]]
    assert any("select.margin dropped its pairs" in line for line in told["because"])


def test_the_start_of_an_id_is_enough_if_it_is_one(made, tmp_path):
    found, gone = made
    id = gone["pair_id"][0]
    assert story(found, id[:12]) == story(found, id)
    assert anywhere(tmp_path, id[:12]) == story(found, id)
    with pytest.raises(VersionError, match="too short"):
        story(found, id[:3])
    with pytest.raises(VersionError, match=r"no prompt, completion or pair 'zzzz'"):
        story(found, "zzzz")
    with pytest.raises(VersionError, match="none of the 1 versions"):
        anywhere(tmp_path, "zzzz")


def test_it_is_json_and_draws_on_one_screen_without_obeying_texts(made):
    found, gone = made
    for id in (found.table("pairs")["pair_id"][0], gone["pair_id"][0], gone["prompt_id"][0]):
        said = story(found, id)
        assert json.loads(json.dumps(said)) == said
        for width in (60, 110):
            text = drawn(said, width)
            assert "\x1b" not in text
            assert id in text
    text = drawn(story(found, found.table("pairs")["pair_id"][0]))
    assert len(text.splitlines()) <= 40
    for wanted in (
        "question",
        "chosen",
        "rejected",
        "writer",
        "[bold]better",
        "no answer",
        "ches 0.25",
    ):
        assert wanted in text


def test_whole_cuts_nothing_off(made, tmp_path):
    found, _ = made
    said = story(found, found.table("pairs")["pair_id"][0])
    long = " ".join(f"word{at}" for at in range(3000))
    said["completions"][0]["completion"][0]["content"] = long
    said["votes"] = said["votes"] * 20
    short, whole = drawn(said), drawn(said, whole=True)
    assert "word2999" not in short
    assert "word2999" in whole
    assert "more votes: --full" in short
    assert whole.count("no answer") == 20
