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


def reasons(found):
    return {(r.change, r.reason, r.of): r for r in found.reasons}


def turned(pairs, ids):
    """Pairs of which those of the given ids have the other one chosen."""
    is_turned = pl.col("pair_id").is_in(list(ids))
    return pairs.with_columns(
        chosen_id=pl.when(is_turned).then("rejected_id").otherwise("chosen_id"),
        rejected_id=pl.when(is_turned).then("chosen_id").otherwise("rejected_id"),
    )


def test_a_flip_with_other_votes_is_put_down_to_whose_they_are(differ, world):
    pairs, votes = world()["pairs"], world()["votes"]
    flipped = pairs[2]
    a = min(flipped["chosen_id"][0], flipped["rejected_id"][0])
    b = max(flipped["chosen_id"][0], flipped["rejected_id"][0])
    of_it = (pl.col("completion_a") == a) & (pl.col("completion_b") == b)
    other = votes.with_columns(
        preference=pl.when(of_it).then(1 - pl.col("preference")).otherwise("preference")
    )
    changed = {"pairs": turned(pairs, flipped["pair_id"]), "votes": other}
    found = differ(changed, judges={**JUDGES, "helpfulness": "be very helpful"})
    ((key, reason),) = reasons(found).items()
    assert key == ("flipped", "votes", "llm:judge/helpfulness")
    assert (reason.n, reason.first) == (1, (flipped["pair_id"][0],))
    assert reason.behind == ("judge helpfulness",)


def test_a_judge_is_not_behind_the_votes_of_another(differ, world):
    votes = world()["votes"].with_columns(preference=1 - pl.col("preference"))
    pairs = turned(world()["pairs"], world()["pairs"]["pair_id"])
    found = differ({"pairs": pairs, "votes": votes}, judges={**JUDGES, "honesty": "be frank"})
    ((_, reason),) = reasons(found).items()
    assert reason.behind == ()


def test_a_dropped_pair_is_put_down_to_the_option_of_its_stage(differ, world):
    pairs = world()["pairs"]
    gone = pairs.head(4)
    dropped = gone.select(
        table=pl.lit("pairs"), key="pair_id", stage=pl.lit("select.margin"), reason=pl.lit("low")
    )
    recipe = json.loads(json.dumps(RECIPE))
    recipe["stages"].append({"use": "select.margin", "min_margin": 1.0})
    changed = {"pairs": pairs[4:], "dropped": tables.check("dropped", dropped, where="t")}
    found = differ(changed, recipe=recipe)
    ((key, reason),) = reasons(found).items()
    assert key == ("removed", "dropped", "select.margin")
    assert reason.n == 4
    assert reason.behind == ("option stages.select.margin.min_margin",)


def test_new_prompts_bring_pairs_and_other_completions_lose_them(tmp_path, world):
    def written(n, completions=3):
        made = version.write(
            tmp_path, "w", tables=world(n, completions), exports={}, recipe_text="", resolved={}
        )
        return version.verify(made.path)

    more = reasons(diff(written(6), written(8)))
    assert {key: r.n for key, r in more.items()} == {("added", "prompt", ""): 6}
    less = reasons(diff(written(6), written(6, 2)))
    assert ("removed", "completion", "") in less
    assert less["removed", "completion", ""].n == 12


def test_the_same_votes_with_other_strengths_move_labels(differ, world):
    strengths = world()["strengths"].with_columns(pl.col("strength") * 2)
    pairs = world()["pairs"].with_columns(pl.col("margin") * 2)
    recipe = json.loads(json.dumps(RECIPE))
    recipe["stages"].append({"use": "aggregate.bradley_terry", "prior": 0.5})
    found = differ({"strengths": strengths, "pairs": pairs}, recipe=recipe)
    assert len(found.moved) == found.kept == pairs.height
    ((key, reason),) = reasons(found).items()
    assert key == ("moved", "strengths", "")
    assert reason.behind == ("option stages.aggregate.bradley_terry.prior",)


def test_every_changed_pair_has_one_reason_and_the_order_of_rows_does_not_matter(
    differ, world, shuffled
):
    pairs = world()["pairs"]
    ids = pairs["pair_id"]
    changed = turned(pairs[2:], ids[5:7]).with_columns(
        margin=pl.when(pl.col("pair_id") == ids[9]).then(9.0).otherwise("margin")
    )
    found = differ({"pairs": tables.check("pairs", shuffled(changed, 3), where="t")})
    for change in ("added", "removed", "flipped", "moved"):
        assert sum(r.n for r in found.reasons if r.change == change) == len(getattr(found, change))
    assert (len(found.removed), len(found.flipped), len(found.moved)) == (2, 2, 1)
    assert {r.reason for r in found.reasons} == {"making"}
