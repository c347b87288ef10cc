import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.sources import Sources, read
from prefdata.tables import Completions, Principles, Prompts, Samples, Votes
from prefdata.version.annotated_pairs import DEFAULT_ID, write
from tests.explain.planted import world

World = dict[str, pl.DataFrame]
RULE = "Select the reply that says word01."


def voted(*rows: tuple[Any, ...]) -> Votes:
    names = ("completion_a", "completion_b", "prompt_id", "annotator", "criterion", "draw",
             "a_first", "preference", "rationale", "unscored")  # fmt: skip
    dtypes = tables.schema("votes").dtypes
    frame = pl.DataFrame(rows, {name: dtypes[name] for name in names}, orient="row")
    return tables.typed(Votes, frame)


@pytest.fixture
def frames() -> World:
    """Votes of all kinds: both orders, draws, ties, soft ones, abstentions, failures, criteria."""
    prompts, completions, pairs = world(6, {})
    long = [{"role": "system", "content": "be brief"}, {"role": "user", "content": 'say "é"\n'}]
    one = tables.prompt_ids([long])
    said = [[{"role": "assistant", "content": text}] for text in ("yes", "no\u2028way")]
    more = pl.DataFrame(
        {
            "completion_id": tables.completion_ids([one[0]] * 2, said),
            "prompt_id": [one[0]] * 2,
            "completion": said,
        }
    )
    about = {"source": "more", "group": "g", "user": "u", "reference": "yes", "tags": ["x", "y"]}
    fresh = pl.DataFrame({"prompt_id": one, "prompt": [long], **{k: [v] for k, v in about.items()}})
    prompts = tables.union("prompts", prompts, fresh, where="test")
    completions = tables.union("completions", completions, more, where="test")
    two = completions.sort("completion_id").group_by("prompt_id", maintain_order=True).agg(
        a=pl.col("completion_id").first(), b=pl.col("completion_id").last()
    )  # fmt: skip
    principle = tables.digest("principle", RULE)
    rows: list[tuple[Any, ...]] = []
    for prompt_id, a, b in two.sort("prompt_id").rows():
        key = (a, b, prompt_id)
        rows += [
            (*key, "human:u1", "overall", 0, None, 1.0, "why", None),
            (*key, "human:u1", "tone", 0, None, 0.0, None, None),
            (*key, "llm:m/j", "overall", 0, True, 1.0, None, None),
            (*key, "llm:m/j", "overall", 0, False, 0.0, None, None),
            (*key, "llm:m/j", "overall", 1, True, 0.3, None, None),
            (*key, f"principle:{principle}/m", "principle", 0, True, None, None, "not applicable"),
            (*key, "reward:r", "overall", 0, None, 0.5, None, None),
            (*key, "rule:x", "overall", 0, False, None, "???", "no verdict"),
        ]
    drawn = completions.head(5).select("completion_id", "prompt_id", generator=pl.lit("g"), draw=0)
    rule = pl.DataFrame(
        {"principle_id": [principle], "principle": [RULE], "for": [0], "against": [0],
         "abstain": [7], "invalid": [0], "agreement": [0.0], "accuracy": [None],
         "relevance": [0.0], "rank": [1]}
    )  # fmt: skip
    return {
        "prompts": tables.typed(Prompts, prompts),
        "completions": tables.typed(Completions, completions),
        "samples": tables.typed(Samples, drawn),
        "votes": voted(*rows),
        "pairs": pairs,
        "principles": tables.typed(Principles, rule),
    }


def reread(path: Path) -> World:
    found = read(Sources.model_validate({"votes": path.name}), path.parent)
    assert found.quarantined.is_empty()
    return found.tables


def test_every_vote_comes_back_as_it_was(tmp_path: Path, frames: World):
    assert write(tmp_path / "ap.json", frames, "mini@1") == 7
    back = reread(tmp_path / "ap.json")
    assert back["votes"].equals(frames["votes"])
    assert back["completions"].equals(frames["completions"])
    assert back["samples"].equals(frames["samples"])
    assert back["prompts"].drop("source").equals(frames["prompts"].drop("source"))
    assert back["principles"].equals(frames["principles"])


def test_what_was_read_is_written_as_it_was(tmp_path: Path, frames: World):
    """Texts of principles, their counts and their order among it."""
    more = pl.DataFrame({"principle": ["Select the reply | “twice”.", "Nobody votes by this."],
                         "for": [3, 0], "against": [1, 0], "abstain": [3, 0], "invalid": [0, 0],
                         "rank": [2, 3]})  # fmt: skip
    ids = [tables.digest("principle", text) for text in more["principle"]]
    told = pl.Series([4, 0])
    more = more.with_columns(
        pl.Series("principle_id", ids), agreement=pl.Series([3 / 7, None]),
        accuracy=pl.Series([0.75, None]), relevance=told / pl.Series([7, None]),
    )  # fmt: skip
    rules = tables.union("principles", frames["principles"], more, where="test")
    frames["principles"] = tables.typed(Principles, rules)
    write(tmp_path / "ap.json", frames, "mini@1")
    back = reread(tmp_path / "ap.json")
    assert back["principles"].sort("rank").equals(frames["principles"].sort("rank"))
    label = {"pairs": frames["pairs"], "prompts": frames["prompts"]}  # not in the file as such
    write(tmp_path / "again.json", {**back, **label}, "mini@1")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "ap.json").read_text()


def test_order_of_rows_changes_no_byte(tmp_path: Path, frames: World, shuffled: Any):
    write(tmp_path / "one.json", frames, "mini@1")
    mixed = {name: shuffled(frame, 3) for name, frame in frames.items()}
    write(tmp_path / "two.json", mixed, "mini@1")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_its_readers_find_what_they_look_for(tmp_path: Path, frames: World):
    """What `get_votes_dict_from_annotated_pairs_json` of feedback-forensics 0.5.0 takes for given:
    of everybody in `annotators` an annotation with a pref, a description of each principle, texts
    on both sides, the default annotator under the one id that it compares with."""
    write(tmp_path / "ap.json", frames, "mini@1")
    whole = json.loads((tmp_path / "ap.json").read_text())
    assert whole["metadata"]["version"].split(".")[0] == "2"
    assert whole["metadata"]["default_annotator"] == DEFAULT_ID
    assert len({each["id"] for each in whole["comparisons"]}) == 7
    annotated = {id for each in whole["comparisons"] for id in each["annotations"]}
    assert annotated == whole["annotators"].keys()
    assert DEFAULT_ID in annotated
    keys = set().union(*(each["metadata"] for each in whole["comparisons"]))
    assert keys == set(whole["metadata"]["available_metadata_keys_per_comparison"])
    assert {each["type"] for each in whole["annotators"].values()} == {
        "human", "ai", "principle", "unknown",
    }  # fmt: skip
    rules = [a for a in whole["annotators"].values() if a["type"] == "principle"]
    assert [each["description"] for each in rules] == [RULE]
    text = dict(
        frames["completions"]
        .select("completion_id", pl.col("completion").list[0].struct["content"])
        .rows()
    )
    chosen = {text[each] for each in frames["pairs"]["chosen_id"]}
    better: set[str] = set()
    for each in whole["comparisons"]:
        assert each["response_a"]["text"]
        assert each["response_b"]["text"]
        prefs = {id: said["pref"] for id, said in each["annotations"].items()}
        assert prefs.items() >= {"human:u1": "a", "human:u1 on tone": "b"}.items()
        # Two orders that contradict each other and a soft vote: (1 + 0 + 0.3) / 3.
        assert (prefs["llm:m/j"], prefs["reward:r"], prefs["rule:x"]) == ("b", None, None)
        reasons = {i: a.get("no_pref_reason") for i, a in each["annotations"].items()}
        assert (reasons["reward:r"], reasons["rule:x"]) == ("tie", "no verdict")
        assert "not_applicable" in reasons.values()
        if DEFAULT_ID in prefs:
            better.add(each[f"response_{prefs[DEFAULT_ID]}"]["text"])
    assert better == chosen


def test_whom_others_are_compared_with_is_never_guessed(tmp_path: Path, frames: World):
    path = tmp_path / "ap.json"
    write(path, frames, "mini@1", "human:u1 on tone")
    whole = json.loads(path.read_text())
    entry = whole["annotators"][DEFAULT_ID]
    assert (entry["annotator"], entry["criterion"]) == ("human:u1", "tone")
    assert reread(path)["votes"].equals(frames["votes"])
    alone = {name: frame for name, frame in frames.items() if name != "pairs"}
    with pytest.raises(RecipeError, match="human:u1, human:u1 on tone, llm:m/j"):
        write(path, alone, "mini@1")
    with pytest.raises(RecipeError, match="llm:m/j"):
        write(path, alone, "mini@1", "llm:m/jj")
    assert json.loads(path.read_text()) == whole  # a file is there whole or not at all
    assert [each.name for each in tmp_path.iterdir()] == ["ap.json"]
    alone["votes"] = Votes(alone["votes"].filter(pl.col("annotator").is_in(["reward:r"])))
    write(path, alone, "mini@1")
    assert list(json.loads(path.read_text())["annotators"]) == [DEFAULT_ID]


def test_votes_on_answers_to_different_prompts_are_counted(tmp_path: Path, frames: World):
    a, b = sorted(frames["completions"].unique("prompt_id")["completion_id"].head(2))
    joint = voted((a, b, None, "human:u1", "overall", 0, None, 1.0, None, None))
    frames["votes"] = tables.union("votes", frames["votes"], joint, where="test")
    assert write(tmp_path / "ap.json", frames, "mini@1") == 7
    whole = json.loads((tmp_path / "ap.json").read_text())
    assert whole["metadata"]["votes_left_out"] == 1


def test_without_votes_the_file_is_whole_and_empty(tmp_path: Path):
    with pytest.raises(RecipeError, match="nobody but principles"):
        write(tmp_path / "ap.json", {}, "none@1")
