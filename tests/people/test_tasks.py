"""What is asked of whom: the order of the sides, overlap, gold questions, hidden votes."""

import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.judge import load
from prefdata.people.form import form_of
from prefdata.people.label_studio import tasks as for_label_studio
from prefdata.people.rows import files
from prefdata.people.tasks import READ, Choice, Task, make_tasks
from tests.conftest import make_world

FORM = form_of(load("helpfulness"), "pairwise")
Tables = dict[str, pl.DataFrame]


def world(n: int = 60, annotator: str = "human") -> Tables:
    """Prompts with three completions each; the first pair of each prompt is assigned."""
    made = {name: tables.empty(name) for name in READ} | make_world(n)
    made["pairs"] = tables.empty("pairs")
    sides = (
        made["completions"]
        .sort("prompt_id", "completion_id")
        .group_by("prompt_id", maintain_order=True)
        .agg(pl.col("completion_id").first().alias("a"), pl.col("completion_id").last().alias("b"))
    )
    made["assignments"] = sides.select(
        completion_a="a", completion_b="b", annotator=pl.lit(annotator),
        priority=pl.int_range(pl.len()).reverse() + 1, reason=pl.lit("random"),
        gain=pl.lit(None, pl.Float64), cost=pl.lit(None, pl.Float64),
    )  # fmt: skip
    return made


def voted(made: Tables, annotator: str, preference: float) -> pl.DataFrame:
    """Votes of somebody on the first and the middle completion of each prompt."""
    sides = (
        made["completions"]
        .sort("prompt_id", "completion_id")
        .group_by("prompt_id", maintain_order=True)
        .agg(pl.col("completion_id").alias("ids"))
    )
    rows = sides.select(
        completion_a=pl.col("ids").list.get(0), completion_b=pl.col("ids").list.get(1),
        annotator=pl.lit(annotator), criterion=pl.lit("helpfulness"), draw=pl.lit(0),
        a_first=pl.lit(True), prompt_id="prompt_id", preference=pl.lit(preference),
    )  # fmt: skip
    return tables.check("votes", rows, where="a test")


def asked(made: Tables, choice: Choice | None = None) -> list[Task]:
    return make_tasks(made, FORM, choice or Choice(), {})


def test_the_queue_is_asked_by_priority_and_up_to_the_limit():
    made = world()
    queue = made["assignments"].sort("priority").select("completion_a", "completion_b").rows()
    assert [(t.completion_a, t.completion_b) for t in asked(made)] == queue
    assert len(asked(made, Choice(limit=7))) == 7


def test_rows_that_are_for_models_are_not_asked_of_people():
    with pytest.raises(RecipeError, match="no assignments for people and no pairs"):
        asked(world(annotator="llm"))


def test_the_first_side_is_drawn_by_lot_and_only_the_seed_changes_it():
    made = world(400)
    first = [task.a_first for task in asked(made)]
    assert 160 < sum(bool(each) for each in first) < 240  # four deviations of fair coins
    assert [task.a_first for task in asked(made)] == first
    assert [task.a_first for task in asked(made, Choice(seed=1))] != first
    shuffled = made | {"assignments": made["assignments"].sample(fraction=1, shuffle=True, seed=3)}
    assert asked(shuffled) == asked(made)


def test_a_task_shows_the_texts_of_its_completions_in_its_order():
    made = world()
    texts = dict(made["completions"].select("completion_id", "completion").rows())
    for task in asked(made):
        ids = [task.completion_a, task.completion_b]
        shown = ids if task.a_first else ids[::-1]
        assert list(task.texts) == [texts[id][0]["content"] for id in shown]


def test_each_task_goes_to_as_many_as_overlap_says_half_of_them_with_sides_turned():
    people = ("anna", "bert", "carl")
    tasks = asked(world(), Choice(annotators=people, overlap=2))
    frame = pl.DataFrame({"who": [t.annotator for t in tasks], "about": [t.subject for t in tasks],
                          "a_first": [t.a_first for t in tasks]})  # fmt: skip
    by_pair = frame.group_by("about").agg(pl.col("who").n_unique(), pl.col("a_first").n_unique())
    assert by_pair.select("who", "a_first").unique().rows() == [(2, 2)]
    assert frame["who"].value_counts()["count"].to_list() == [40, 40, 40]
    with pytest.raises(RecipeError, match="overlap = 4 annotators a task, but only 3 are named"):
        asked(world(), Choice(annotators=people, overlap=4))


def test_what_enough_people_have_answered_is_not_asked_again():
    made = world()
    done = asked(made)[0].subject
    left = make_tasks(made, FORM, Choice(), {done: 1})
    assert [task.subject for task in left] == [task.subject for task in asked(made)[1:]]
    assert len(make_tasks(made, FORM, Choice(overlap=2), {done: 1})) == 60


def test_gold_questions_stand_among_the_others_and_look_like_them():
    made = world()
    made["votes"] = voted(made, "human:expert", 0.0)
    tasks = asked(made, Choice(gold=0.2, gold_by="human:expert"))
    gold = [at for at, task in enumerate(tasks) if task.gold is not None]
    assert len(tasks) == 72
    assert len(gold) == 12
    assert {tasks[at].gold for at in gold} == {0.0}
    assert max(b - a for a, b in zip([0, *gold], [*gold, 72], strict=True)) <= 13
    known = made["votes"].select("completion_a", "completion_b").rows()
    assert all((tasks[at].completion_a, tasks[at].completion_b) in known for at in gold)
    for tool in ("csv", "jsonl"):
        assert "gold" not in str(files(tool, FORM, tasks))
    keys = {tuple(each["data"]) for each in for_label_studio(FORM, tasks)}
    assert len(keys) == 1, "a gold question has the same keys as any other"


def test_gold_needs_somebody_who_is_right():
    made = world()
    with pytest.raises(RecipeError, match="--gold-by"):
        asked(made, Choice(gold=0.1))
    made["votes"] = voted(made, "human:expert", 1.0)
    with pytest.raises(RecipeError, match=r"'human:expret' has answered nothing.*human:expert"):
        asked(made, Choice(gold=0.1, gold_by="human:expret"))


def test_what_models_voted_is_hidden_unless_it_is_asked_for():
    made = world()
    pairs = voted(made, "llm:m/j", 0.25)
    made["votes"] = pairs
    two = pairs.select("completion_a", "completion_b")
    made["assignments"] = two.with_columns(
        annotator=pl.lit("human"), priority=pl.int_range(pl.len()) + 1, reason=pl.lit("random"),
        gain=pl.lit(None, pl.Float64), cost=pl.lit(None, pl.Float64),
    )  # fmt: skip
    assert {task.hint for task in asked(made)} == {None}
    assert "hint" not in str(files("csv", FORM, asked(made)))
    for task in asked(made, Choice(hints=True)):
        share = "25% and the second 75%" if task.a_first else "75% and the second 25%"
        assert task.hint == f"1 votes of models give the first {share}"


def test_a_version_without_a_queue_asks_about_its_pairs_the_least_sure_first():
    made = world()
    queue = made.pop("assignments")
    pairs = queue.select(
        pair_id=tables.pair_ids(queue["completion_a"], queue["completion_b"]),
        prompt_id=pl.lit(None, pl.String), chosen_id="completion_b", rejected_id="completion_a",
        margin=pl.lit(None, pl.Float64), soft_label=1 - pl.col("priority") / 200, n_votes=pl.lit(1),
    )  # fmt: skip
    made |= {"assignments": tables.empty("assignments"), "pairs": pairs}
    least_sure = queue.sort("priority", descending=True)
    assert [task.completion_a for task in asked(made)] == least_sure["completion_a"].to_list()


def test_a_judge_of_another_kind_has_no_place_in_a_layout():
    with pytest.raises(RecipeError, match="is a pointwise judge"):
        form_of(load("helpfulness-rating"), "pairwise")


def test_instructions_hold_the_rubric():
    told = "\n".join(FORM.instructions)
    assert load("helpfulness").criteria[0].definition.strip() in told
    graded = form_of(load("coding-rubric"), "rating")
    for criterion in load("coding-rubric").criteria:
        for value, level in zip(criterion.scale.values, criterion.scale.levels, strict=True):
            assert f"{value} = {level}" in graded.instructions
    (question,) = [q for q in graded.questions if q.criterion == "security"]
    assert [each.worth for each in question.answers][:5] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [each.value for each in question.answers][5:] == ["N/A", "cannot tell"]


def test_names_of_files_stay_in_their_folder():
    task = asked(world(1), Choice(annotators=("../../etc/passwd",)))
    assert list(files("csv", FORM, task)) == ["_.._etc_passwd.csv", "INSTRUCTIONS.md"]
