import json

import polars as pl
import pytest

from prefdata import tables, version
from prefdata.version.diff import diff

RECIPE = {
    "name": "mini",
    "sources": {"prompts": {"path": "p.jsonl", "digest": "aa"}},
    "models": {"judge": {"label": "one", "identity": "one", "options": {}}},
    "stages": [
        {"use": "annotate.pairwise", "judge": "helpfulness", "orders": "both"},
        {"use": "pair.all_pairs", "min_margin": 0.1},
    ],
}
JUDGES = {"helpfulness": "be helpful", "honesty": "be honest"}


@pytest.fixture
def differ(tmp_path, world):
    def differ(changes=(), recipe=RECIPE, judges=JUDGES):
        sides = []
        for frames, resolved, asked in (
            (world(), RECIPE, JUDGES),
            ({**world(), **dict(changes)}, recipe, judges),
        ):
            written = version.write(
                tmp_path,
                "mini",
                tables=frames,
                exports={},
                recipe_text="",
                resolved=resolved,
                judges=asked,
            )
            sides.append(version.find(tmp_path, f"mini@{written.id}"))
        return diff(*sides)

    return differ


def causes(found):
    return [(cause.kind, cause.where) for cause in found.causes]


def test_a_version_does_not_differ_from_itself(differ, world):
    found = differ()
    assert found.before == found.after
    assert (found.added, found.removed, found.flipped, found.causes) == ((), (), (), ())
    assert found.kept == world()["pairs"].height
    assert "nothing differs" in str(found)


def test_added_removed_and_flipped_pairs(differ, world):
    pairs = world()["pairs"]
    gone, flipped = pairs["pair_id"][0], pairs["pair_id"][5]
    is_flipped = pl.col("pair_id") == flipped
    changed = pairs[1:].with_columns(
        chosen_id=pl.when(is_flipped).then("rejected_id").otherwise("chosen_id"),
        rejected_id=pl.when(is_flipped).then("chosen_id").otherwise("rejected_id"),
    )
    new = pairs[:1].with_columns(pair_id=pl.lit("new"), annotator=pl.lit("human:u"))
    found = differ({"pairs": tables.check("pairs", pl.concat([changed, new]), where="t")})
    assert found.added == ("new",)
    assert found.removed == (gone,)
    assert found.flipped == (flipped,)
    assert found.kept == pairs.height - 2
    assert causes(found) == [("table", "pairs")]


def test_the_judge_is_named_first(differ, world):
    votes = world()["votes"].with_columns(preference=pl.lit(0.5))
    recipe = json.loads(json.dumps(RECIPE))
    recipe["stages"][1]["min_margin"] = 0.2
    recipe["models"]["judge"]["identity"] = "two"
    recipe["sources"]["prompts"]["digest"] = "bb"
    found = differ({"votes": votes}, recipe, {**JUDGES, "helpfulness": "be helpful!"})
    assert causes(found) == [
        ("judge", "helpfulness"),
        ("model", "models.judge.identity"),
        ("source", "sources.prompts.digest"),
        ("option", "stages.pair.all_pairs.min_margin"),
        ("table", "votes"),
    ]
    assert (found.causes[3].before, found.causes[3].after) == (0.1, 0.2)


def test_a_judge_that_came_and_one_that_went(differ):
    found = differ(judges={"helpfulness": "be helpful", "brevity": "be brief"})
    sides = {cause.where: (cause.before is None, cause.after is None) for cause in found.causes}
    assert sides == {"brevity": (True, False), "honesty": (False, True)}
    assert "judge brevity: absent →" in str(found)


def test_one_stage_more_is_no_change_of_those_after_it(differ):
    more = {"use": "select.margin", "min_margin": 1.0}
    stages = [RECIPE["stages"][0], more, RECIPE["stages"][1]]
    found = differ(recipe={**RECIPE, "stages": stages})
    assert sorted(causes(found)) == [
        ("option", "stages"),
        ("option", "stages.select.margin.min_margin"),
    ]


def test_a_second_stage_of_one_kind_keeps_its_own_options(differ):
    again = {"use": "annotate.pairwise", "judge": "honesty", "orders": "both"}
    found = differ(recipe={**RECIPE, "stages": [*RECIPE["stages"], again]})
    assert ("option", "stages.annotate.pairwise#2.judge") in causes(found)
    assert ("option", "stages.annotate.pairwise.judge") not in causes(found)


def test_it_prints_and_becomes_json(differ, world):
    found = differ({"pairs": world()["pairs"][3:]}, judges={"helpfulness": "x", "honesty": "y"})
    text = str(found)
    assert text.index("removed") < text.index("judge helpfulness") < text.index("table pairs")
    assert found.removed[0] in text
    said = json.loads(json.dumps(found.to_json()))
    assert said["removed"] == list(found.removed)
    assert said["causes"][0]["kind"] == "judge"


def test_what_was_not_asked_is_the_first_cause(tmp_path):
    said = {"tables": {}, "exports": {}, "recipe_text": "", "resolved": {}}
    missing = {"reason": "budget reached", "missing": {"annotate.pairwise": 7}, "go_on": "again"}
    part = version.write(tmp_path, "v", partial=missing, **said)
    whole = version.write(tmp_path, "v", **said)
    found = diff(version.verify(part.path), version.verify(whole.path))
    assert part.id != whole.id
    assert (found.causes[0].kind, found.causes[0].before, found.causes[0].after) == ("limit", 7, 0)
