"""A jury file: what it gives, and what it can get wrong, with file and key."""

from pathlib import Path

import pytest

from prefdata import judge as judges
from prefdata.errors import JudgeError
from prefdata.judge import jury as juries
from prefdata.stage import Model

MODELS = {
    "small": Model("small", "small-1", "small@1", {"temperature": 0.0}),
    "large": Model("large", "large-1", "large@1", {"temperature": 0.0}),
    "moody": Model("moody", "large-1@moody", "large@1", {"temperature": 0.9}),
    "again": Model("again", "large-1@again", "large@1", {"temperature": 0.0}),
}
GOOD = """
description = "two of them"

[[members]]
judge = "helpfulness"
model = "small"

[[members]]
judge = "helpfulness"
model = "large"
"""


def load(folder: Path, text: str) -> juries.Jury:
    (folder / "two.toml").write_text(text)
    return juries.load("two.toml", MODELS, folder)


def test_members_stand_in_the_order_of_the_file(tmp_path: Path):
    jury = load(tmp_path, GOOD)
    assert (jury.name, jury.kind, jury.description) == ("two", "pairwise", "two of them")
    assert [each.model.role for each in jury.members] == ["small", "large"]
    assert {each.judge for each in jury.members} == {judges.load("helpfulness")}
    assert [m.annotator for m in jury.members] == [
        "llm:small-1/helpfulness",
        "llm:large-1/helpfulness",
    ]


def test_a_judge_of_ones_own_is_found_beside_the_jury_and_not_beside_the_recipe(tmp_path: Path):
    home = tmp_path / "people"
    home.mkdir()
    (home / "own.toml").write_text(judges.load("helpfulness").to_toml())
    (home / "two.toml").write_text(GOOD.replace('"helpfulness"', '"own.toml"', 1))
    jury = juries.load("people/two.toml", MODELS, tmp_path)
    assert [each.judge.name for each in jury.members] == ["own", "helpfulness"]


@pytest.mark.parametrize("other", ["moody", "small"])
def test_one_judge_may_ask_several_models_and_one_model_in_several_moods(
    tmp_path: Path, other: str
):
    jury = load(tmp_path, GOOD.replace('"small"', f'"{other}"'))
    assert len({each.annotator for each in jury.members}) == 2


MISTAKES = [
    ('model = "small"', 'model = "smal"', ["members.0.model", "'smal'", "did you mean 'small'"]),
    ('"helpfulness"\nmodel = "large"', '"helpfulnes"\nmodel = "large"',
     ["members.1.judge", "'helpfulnes'", "did you mean 'helpfulness'"]),
    ('"helpfulness"', '"nowhere.toml"', ["members.0.judge", "nowhere.toml", "no such judge file"]),
    ('"helpfulness"', '"helpfulness-rating"',
     ["members", "'helpfulness-rating' is pointwise", "'helpfulness' is pairwise"]),
    ('model = "small"', 'model = "large"', ["members.1", "members.0", "would repeat"]),
    ('model = "small"', 'model = "again"', ["members.1", "'again' and 'large'", "would repeat"]),
    ('model = "small"', 'model = "small"\nby = "guess"',
     ["members.0.by", "'verdict' or 'logits', found 'guess'"]),
    ('model = "small"', 'modle = "small"', ["members.0.modle", "no such key", "'model'"]),
    ('model = "small"\n', "", ["members.0.model", "missing"]),
    ('model = "small"', "model = 3", ["members.0.model", "string, found 3"]),
    ("description =", "descripton =", ["descripton", "did you mean 'description'"]),
    ('description = "two of them"\n', "", ["description", "missing"]),
    ('description = "two of them"', 'name = "two"', ["name", "a jury is named by its file"]),
    ("[[members]]", "[[members", ["not TOML", "line"]),
]  # fmt: skip


@pytest.mark.parametrize(("found", "mistake", "said"), MISTAKES, ids=[m[1][:30] for m in MISTAKES])
def test_a_mistake_is_said_with_file_and_key(
    tmp_path: Path, found: str, mistake: str, said: list[str]
):
    assert found in GOOD
    with pytest.raises(JudgeError) as refused:
        load(tmp_path, GOOD.replace(found, mistake, 1))
    for part in ("two.toml", *said):
        assert part in str(refused.value)


def test_the_same_judge_and_model_may_be_asked_in_two_ways(tmp_path: Path):
    jury = load(tmp_path, GOOD.replace('model = "small"', 'model = "large"\nby = "logits"'))
    assert [each.annotator for each in jury.members] == [
        "llm:large-1/helpfulness:logits",
        "llm:large-1/helpfulness",
    ]
    rating = GOOD.replace("helpfulness", "helpfulness-rating")
    with pytest.raises(JudgeError, match=r'members\.1\.by: "logits" is for pairwise judges'):
        load(tmp_path, rating + 'by = "logits"')


def test_one_judge_is_no_jury(tmp_path: Path):
    with pytest.raises(
        JudgeError, match=r"two\.toml: members: a jury has at least two members, found 1;"
    ):
        load(tmp_path, GOOD.rpartition("[[members]]")[0])


def test_a_mistake_in_one_member_is_not_a_jury_of_one(tmp_path: Path):
    for mistake in ('modle = "large"', 'model = "large"\nby = "logit"', "model = 3"):
        with pytest.raises(JudgeError) as refused:
            load(tmp_path, GOOD.replace('model = "large"', mistake))
        assert "members.1" in str(refused.value)
        assert "two members" not in str(refused.value)
    with pytest.raises(JudgeError, match=r"write \[\[members\]\]"):
        load(tmp_path, GOOD.rpartition("[[members]]")[0].replace("[[members]]", "[members]"))
    with pytest.raises(JudgeError, match=r"members\.0: expected a table, found 'helpfulness'"):
        load(tmp_path, GOOD.partition("[[members]]")[0] + 'members = ["helpfulness", "honesty"]')


def test_an_unknown_jury_names_the_nearest(tmp_path: Path):
    with pytest.raises(JudgeError, match="no jury 'tri'; did you mean 'trio'"):
        juries.load("tri", MODELS)
    with pytest.raises(JudgeError, match="there is no such jury file"):
        juries.load("trio.toml", MODELS, tmp_path)


@pytest.mark.parametrize("name", juries.names())
def test_bundled_juries_load_once_their_roles_are_there(name: str):
    seats = ("judge", "judge_1", "judge_2", "judge_3")
    roles = {seat: Model(seat, f"of {seat}", f"{seat}@1") for seat in seats}
    assert len(juries.load(name, roles).members) == 3
    with pytest.raises(JudgeError, match=rf"judges/juries/{name}\.toml: members\.0\.model"):
        juries.load(name, MODELS)
