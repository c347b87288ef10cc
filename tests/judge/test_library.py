"""What the bundled judges promise as a whole: topics, sources, directions, the papers' scales."""

import re

import pytest

from prefdata import judge as judges
from prefdata.judge import Judge

ALL = [judges.load(name) for name in judges.names()]
TOPICS = {
    "helpfulness": ["helpfulness", "helpfulness-rating"],
    "honesty and truthfulness": ["honesty", "truthfulness"],
    "instruction following": ["instruction-following"],
    "quality whatever the length": ["quality-over-length"],
    "harmlessness": ["harmlessness", "harmlessness-rating"],
    "code": ["coding", "coding-efficiency", "coding-security", "coding-rubric"],
    "mathematics": ["mathematics", "mathematics-rubric"],
    "summaries": ["summarization", "summary-features"],
    "faithfulness to documents": ["faithfulness", "faithfulness-rubric"],
    "conversations": ["multi-turn", "multi-turn-rubric"],
    "a measure in the prompt": ["in-context"],
    "principles": ["principles"],
    "a checklist": ["checklist"],
    "lists": ["ranking", "best"],
    "UltraFeedback": ["ultrafeedback", "ultrafeedback-together", "critique"],
    "HelpSteer2": ["helpsteer"],
    "The Fellowship of the LLMs": [
        "direct", "independent-10", "combined-5", "combined-10", "combined-100", "debate",
    ],
}  # fmt: skip
PLACES = ("criteria", "prompt", "A", "B", "completion", "completions", "verdict")


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("topic", TOPICS)
def test_each_topic_has_its_judges(topic: str):
    assert set(TOPICS[topic]) <= set(judges.names())


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
def test_a_judge_says_where_it_comes_from_and_in_whose_words(judge: Judge):
    assert re.search(r"\b(19|20)\d\d\b", judge.source), "a year"
    assert judge.source.endswith("own words")
    assert judge.description
    assert len(judge.description) <= 90, "one line of a list"
    for criterion in judge.criteria:
        assert criterion.definition.strip()


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
def test_a_judge_is_told_to_obey_no_candidate(judge: Judge):
    asked = " ".join((judge.system + judge.prompt).split()).lower()
    assert "obey nothing" in asked


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
def test_what_requests_have_in_common_comes_first(judge: Judge):
    places = [judge.prompt.find(f"{{{name}}}") for name in PLACES]
    there = [place for place in places if place >= 0]
    assert there == sorted(there), "rubric, prompt, completions, verdict"
    n = 1 if judge.kind == "pointwise" else 2
    texts = [user(f"{at} is said here") for at in range(n + 1)]
    one = judge.render(*texts)
    other = judge.render(*texts[:-1], user("something else"))
    start = one[-1]["content"].index(f"{n} is said here")
    assert one[:-1] == other[:-1]
    assert one[-1]["content"][:start] == other[-1]["content"][:start]


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
def test_a_rubric_names_the_ends_of_a_scale_of_numbers(judge: Judge):
    for criterion in judge.criteria:
        scale = criterion.scale
        if scale.kind != "pointwise":
            continue
        ends = [str(scale.values[0]), str(scale.values[-1])]
        for end in ends:
            assert re.search(rf"\b{end}\b", criterion.rubric), (criterion.name, end)


def test_less_is_better_just_where_the_criterion_names_a_fault():
    less = {
        (judge.name, criterion.name)
        for judge in ALL
        for criterion in judge.criteria
        if judge.name in {name for names in TOPICS.values() for name in names}
        and not criterion.scale.higher_is_better
    }
    assert less == {("helpsteer", "verbosity"), ("summary-features", "hallucination")}


def test_aspects_side_by_side_are_those_of_each_by_itself():
    alone, together = judges.load("ultrafeedback"), judges.load("ultrafeedback-together")
    assert [c.name for c in alone.criteria] == [c.name for c in together.criteria]
    assert [c.scale for c in alone.criteria] == [c.scale for c in together.criteria]
    assert together.kind == "combined"


def test_scales_are_those_of_the_papers():
    for high in (5, 10, 100):
        (criterion,) = judges.load(f"combined-{high}").criteria
        assert criterion.scale.values == tuple(range(1, high + 1))
    features = judges.load("summary-features").criteria
    assert len(features) == 7
    assert {c.scale.values for c in features} == {(0, 1, 2, 3, 4, 5)}
    assert [role.name for role in judges.load("debate").roles] == [
        "general_public", "psychologist", "critic",
    ]  # fmt: skip
    assert judges.load("debate").criteria == judges.load("combined-10").criteria


def test_a_conversation_is_shown_turn_by_turn():
    turns = [*user("hi"), {"role": "assistant", "content": "hello"}, *user("bye")]
    asked = judges.load("multi-turn").render(turns, user("x"), user("y"))[-1]["content"]
    assert "user:\n```\nhi\n```\nassistant:\n```\nhello\n```\nuser:\n```\nbye\n```" in asked


def test_where_several_are_shown_each_stands_under_its_letter():
    asked = judges.load("ranking").render(user("p"), *(user(f"said {at}") for at in range(26)))
    found = re.findall(r"Reply ([A-Z]):\n```\nsaid (\d+)\n```", asked[-1]["content"])
    assert found == [(chr(65 + at), str(at)) for at in range(26)]


ROLE = {"name": "critic", "view": "v"}


@pytest.mark.parametrize(
    ("judge", "changes", "said"),
    [
        ("combined-10", {"roles": [ROLE, ROLE]}, "two roles have the same name"),
        ("helpfulness", {"roles": [ROLE]}, "roles belong to a combined judge"),
        ("ranking", {"criteria": 2}, "a listwise judge has one criterion"),
        ("combined-10", {"prompt": "{criteria} {verdict} {prompt} {A} {B}"}, "{completions} 0"),
        ("ranking", {"kind": "combined"}, "not combined"),
    ],
)
def test_a_judge_of_several_is_sound(judge: str, changes: dict, said: str):
    stated = judges.load(judge).model_dump(mode="json")
    if changes.get("criteria") == 2:
        second = {**stated["criteria"][0], "name": "other"}
        changes = {"criteria": [*stated["criteria"], second]}
    with pytest.raises(ValueError, match=re.escape(said)):
        Judge.model_validate({**stated, **changes})


def test_a_role_changes_the_digest_and_no_role_does_not():
    debate = judges.load("debate")
    assert debate.model_copy(update={"roles": ()}).digest != debate.digest
    fewer = debate.model_copy(update={"roles": debate.roles[:2]})
    assert fewer.digest != debate.digest
