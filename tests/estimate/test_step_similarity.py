import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate.step_similarity import step_similarity
from prefdata.export.tree import tree
from prefdata.stage import Model
from tests.export.trees import planted_tree, strengths_of

MODEL = Model("embedder", "e", "e")
VALUES = {"aa": 1.0, "ab": 0.4, "bb": 0.4, "ba": 0.0, "a": 2.0}


def vector_of(text):
    """A direction of each text's own, drawn from its letters."""
    return np.random.default_rng(list(text.encode())).normal(size=6)


def run(made, strengths, vector=vector_of, **options):
    frames = (made[name] for name in ("prompts", "completions", "samples"))
    running = step_similarity(*frames, strengths, model=MODEL, **options)
    asked = next(running)
    vectors = [vector(turns[0]["content"]) for turns in asked["messages"].to_list()]
    answers = tables.empty("responses").clear(asked.height).with_columns(
        asked["request_id"],
        vector=pl.Series([None if each is None else list(each) for each in vectors],
                         dtype=pl.List(pl.Float64)),
    )  # fmt: skip
    with pytest.raises(StopIteration) as stopped:
        running.send(answers.unique("request_id"))
    return tables.check("scores", stopped.value.value, where="test")


@pytest.fixture
def planted():
    made, ids = planted_tree()
    return made, ids, strengths_of(made, {ids[name]: value for name, value in VALUES.items()})


def test_each_step_is_compared_with_the_best_ones_at_its_place(planted):
    made, ids, strengths = planted
    found = dict(run(made, strengths).select("subject_id", "value").rows())
    step = {"a": "2 + 2 = 4.", "b": "2 + 2 = 5.", "aa": "\n4 + 2 = 6.", "ab": "\n4 + 2 = 7.",
            "ba": "\n5 + 2 = 7.", "bb": "\n5 - 1 + 2 = 6."}  # fmt: skip
    for name, id in ids.items():
        one, other = vector_of(step[name]), vector_of(step["aa" if len(name) == 2 else "a"])
        cosine = one @ other / np.sqrt(one @ one * (other @ other))
        assert found[id] == pytest.approx(cosine)
    assert found[ids["a"]] == found[ids["aa"]] == pytest.approx(1.0, abs=1e-9)


def test_the_tree_has_a_number_for_each_step_of_each_response(planted):
    made, ids, strengths = planted
    scores = run(made, strengths)
    known = dict(scores.select("subject_id", "value").rows())
    frames = [made[name] for name in ("prompts", "completions", "samples")]
    [row] = tree(*frames, strengths, scores, similarity="step_similarity").rows(named=True)
    named = {id: name for name, id in ids.items()}
    for id, similar, steps, shared in zip(
        row["completion_ids"], row["step_similarity"], row["responses"], row["branch"], strict=True
    ):
        name = named[id]
        assert similar == [known[ids[name[0]]], known[ids[name]]]
        assert len(similar) == len(steps)
        assert similar[:shared] == pytest.approx([1.0] * shared)
    with pytest.raises(RecipeError, match="did you mean 'step_similarity'"):
        tree(*frames, strengths, scores, similarity="step_similarty")


def test_what_has_no_vector_has_no_number(planted):
    made, ids, strengths = planted
    lost = "\n4 + 2 = 6."  # the best one's last step: nothing of that depth can be compared
    scores = run(made, strengths, lambda text: None if text == lost else vector_of(text))
    assert set(scores["subject_id"]) == {ids["a"], ids["b"]}
    frames = [made[name] for name in ("prompts", "completions", "samples")]
    [row] = tree(*frames, strengths, scores, similarity="step_similarity").rows(named=True)
    assert all(first is not None and second is None for first, second in row["step_similarity"])


def test_a_longer_solution_ends_beside_the_best_ones_last_step():
    asked = [{"role": "user", "content": "?"}]
    [prompt] = tables.prompt_ids([asked])
    texts = ["one", "onetwo", "other", "otherstep", "othersteptwo"]
    said = [[{"role": "assistant", "content": text}] for text in texts]
    ids = tables.completion_ids([prompt] * 5, said).to_list()
    parents = [None, ids[0], None, ids[2], ids[3]]
    frames = {
        "prompts": pl.DataFrame({"prompt_id": [prompt], "prompt": [asked], "source": "s"}),
        "completions": pl.DataFrame(
            {"completion_id": ids, "prompt_id": prompt, "completion": said}
        ),
        "samples": pl.DataFrame({"completion_id": ids, "generator": "g", "draw": 0,
                                 "prompt_id": prompt, "parent_id": parents}),
    }  # fmt: skip
    made = {name: tables.check(name, frame, where="test") for name, frame in frames.items()}
    strengths = strengths_of(made, {ids[1]: 1.0, ids[4]: 0.0})
    found = dict(run(made, strengths).select("subject_id", "value").rows())
    assert found[ids[4]] == pytest.approx(1.0)  # "two" beside "two"
    assert found[ids[3]] < 0.999
