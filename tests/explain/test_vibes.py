import json
import random
import re

import numpy as np
import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.explain import _predict
from prefdata.explain.vibes import vibes
from prefdata.tables import Completions, Prompts, Samples
from tests.explain.planted import MODEL, blocks, labelled, listed, rule, run

JUDGE = judges.load("principles")
# Of the first generator; liked; like the first; of a place; of nothing.
MORE, LIKED, COPY, PLACE, *NOISE = AXES = ["more", "liked", "copy", "place", "noise1", "noise2"]


def world(n=600, *, shift=True, liking=1.5, seed=0):
    draw = np.random.default_rng(seed)
    apart = draw.choice([1, 0, -1], (n, len(AXES)), p=[0.4, 0.2, 0.4])
    if shift:
        apart[:, 0] = draw.choice([1, 0, -1], n, p=[0.75, 0.15, 0.10])
    apart[:, 2] = np.where(draw.random(n) < 0.95, apart[:, 0], apart[:, 2])
    asked = [[{"role": "user", "content": f"question {seed} {at}"}] for at in range(n)]
    prompts = pl.DataFrame(
        {"prompt_id": tables.prompt_ids(asked), "prompt": asked, "source": "test"}
    )
    texts = [
        f"{at} {side} " + " ".join(a for a, d in zip(AXES, row, strict=True) if d == (1, -1)[side])
        for at, row in enumerate(apart)
        for side in (0, 1)
    ]
    owners = [each for each in prompts["prompt_id"] for _ in (0, 1)]
    said = [[{"role": "assistant", "content": text}] for text in texts]
    ids = tables.completion_ids(owners, said)
    completions = pl.DataFrame({"completion_id": ids, "prompt_id": owners, "completion": said})
    samples = pl.DataFrame(
        {"completion_id": ids, "generator": ["g1", "g2"] * n, "draw": 0, "prompt_id": owners}
    )
    one = draw.random(n) < 1 / (1 + np.exp(-liking * apart[:, 1]))
    return (
        tables.typed(Prompts, prompts),
        tables.typed(Completions, completions),
        tables.typed(Samples, samples),
        labelled(prompts, ids, one),
    )


def proposes_axes(request):
    return "axes" in json.loads(request["options"])["schema"]["properties"]


def votes(request):
    _, a, b = blocks(request)
    said = {}
    for number, text in listed(request).items():
        word = text.removesuffix(".").split()[-1]
        one, other = word in a, word in b
        said[number] = ("tie" if one else "N/A") if one == other else "A" if one else "B"
        if word == PLACE:
            said[number] = "A"
    return json.dumps(said)


def reply(request):
    if proposes_axes(request):
        mine = random.Random(request["request_id"]).sample(AXES, 5)
        return json.dumps({"axes": [rule(each) for each in mine]})
    return votes(request)


def found(given, said=reply, heard=None, **options):
    options = {"one": "g1", "other": "g2", "judge": JUDGE, "model": MODEL, **options}
    made = run(vibes(*given, **{"permutations": 39, **options}), said, heard)
    names = ("principles", "votes", "measures", "dropped")
    return {
        name: tables.check(name, frame, where="vibes")
        for name, frame in zip(names, made, strict=True)
    }


def who(word):
    return f"principle:{tables.digest('principle', rule(word))}/m"


def number(made, measure, subject="vibes"):
    return made["measures"].filter(measure=measure, subject=subject)["value"].item()


def kept(made):
    return {text.removesuffix(".").split()[-1] for text in made["principles"]["principle"]}


@pytest.fixture(scope="module")
def planted():
    return found(world())


def test_axes_that_tell_something_stay_and_no_others(planted):
    assert kept(planted) - {COPY} in ({MORE, LIKED}, {LIKED})
    # Of two that go together one stays.
    assert len(kept(planted) & {MORE, COPY}) == 1
    reasons = dict(planted["dropped"].select("key", "reason").rows())
    for word in (PLACE, *NOISE):
        said = reasons[tables.digest("principle", rule(word))]
        assert said.startswith("tells neither")
    assert sum("goes along with" in each for each in reasons.values()) == 1


def test_what_they_predict_is_what_was_planted(planted):
    """An axis with 0.75, 0.15, 0.10 finds the generator 0.75 + 0.15 / 2 of the time."""
    assert number(planted, "vibes_source_accuracy") == pytest.approx(0.825, abs=0.05)
    p = 1 / (1 + np.exp(-1.5))
    expected = 0.8 * p + 0.2 / 2
    assert number(planted, "vibes_preferred_accuracy") == pytest.approx(expected, abs=0.06)
    for kind in ("source", "preferred"):
        at = f"vibes_{kind}"
        assert number(planted, f"{at}_accuracy") > number(planted, f"{at}_null")
        assert number(planted, f"{at}_p") == 1 / 40
    first = who((kept(planted) & {MORE, COPY}).pop())
    assert number(planted, "vibe_separation", first) > 0.5
    assert abs(number(planted, "vibe_separation", who(LIKED))) < 0.2
    weight = planted["measures"].filter(measure="vibe_preferred_weight", subject=who(LIKED))
    assert weight["low"].item() < 1.5 < weight["high"].item()
    assert abs(number(planted, "vibe_preferred_weight", first)) < 0.5


def test_a_place_is_no_axis(planted):
    """Its votes name the first one in both orders, so that no comparison has a score."""
    votes_ = planted["votes"].filter(annotator=who(PLACE))
    assert votes_["preference"].to_list() == votes_["a_first"].cast(pl.Float64).to_list()
    assert number(planted, "vibe_consistency", who(PLACE)) == 0
    assert number(planted, "vibe_consistency", who(LIKED)) == 1


def test_measures_are_of_prompts_that_no_axis_was_found_on(planted):
    heard = []
    given = world()
    prompts = given[0]
    found(given, heard=heard, permutations=19)
    voted = planted["votes"].filter(annotator=who(PLACE))["prompt_id"].unique()
    aside = set(prompts["prompt_id"]) - set(voted)
    assert len(voted) == len(aside) == 300
    text = {p: m[0]["content"] for p, m in prompts.select("prompt_id", "prompt").rows()}
    asked = "\n".join(r["messages"][-1]["content"] for r in heard if proposes_axes(r))
    assert not [p for p in aside if re.search(rf"{text[p]}\n", asked)]
    assert [p for p in voted if re.search(rf"{text[p]}\n", asked)]
    n = planted["measures"].filter(pl.col("measure").str.ends_with("_accuracy"))["n"]
    assert n.to_list() == [300, 300]


def test_a_verdict_that_is_asked_for_again_counts_alike_for_both_sides(planted):
    """A source took B as a tie where the first reply could not be read, and A as A."""

    def second(request):
        again = sum(turn["role"] == "user" for turn in request["messages"]) > 1
        return reply(request) if proposes_axes(request) or again else "well, I like both"

    again = found(world(), second)
    assert again["measures"].equals(planted["measures"])
    assert again["principles"].equals(planted["principles"])


def test_turning_the_generators_turns_what_is_of_them(planted):
    back = found(world(), one="g2", other="g1")
    assert kept(back) == kept(planted)
    for word in kept(back):
        for measure, way in (("vibe_separation", -1), ("vibe_preferred", 1)):
            mine, theirs = (number(each, measure, who(word)) for each in (back, planted))
            assert mine == pytest.approx(way * theirs)
    for kind in ("source", "preferred"):
        at = f"vibes_{kind}_accuracy"
        assert number(back, at) == pytest.approx(number(planted, at))


def test_rows_in_another_order_change_nothing(planted):
    again = found([t.sample(fraction=1, shuffle=True, seed=4) for t in world()])
    assert again["measures"].equals(planted["measures"])
    assert again["principles"].equals(planted["principles"])


def test_nothing_is_found_where_nothing_is():
    assert kept(found(world(200, shift=False, liking=0.0), permutations=19)) == set()

    def first_one(request):
        same = dict.fromkeys(listed(request), "A")
        return reply(request) if proposes_axes(request) else json.dumps(same)

    nobody = found(world(20), lambda _: "hm", permutations=19)
    assert all(table.is_empty() for table in nobody.values())
    made = found(world(100), first_one, permutations=19)
    assert made["principles"].is_empty()
    assert set(made["measures"]["measure"]) == {"vibe_consistency"}


def test_a_copy_in_another_fold_would_know_the_label():
    """40 axes, 100 comparisons, labels at random: one half, and far more with mirrored rows."""
    once, mirrored = [], []
    for seed in range(12):
        x = np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], (100, 40))
        groups = pl.Series([f"g{at:03d}" for at in range(100)])
        fold = _predict.folds_of(groups, 5, seed)
        once.append(_predict.hits(_predict.predicted(x, np.ones((100, 1)), fold, 0.01)).mean())
        # A row with the sides and the label turned is, towards its label, the row itself.
        twice = np.concatenate([x, x])
        fold = np.random.default_rng(seed).permutation(200) % 5
        said = _predict.predicted(twice, np.ones((200, 1)), fold, 0.01)
        mirrored.append(_predict.hits(said).mean())
    assert 0.45 < np.mean(once) < 0.55
    assert np.mean(mirrored) > 0.62


def test_the_axes_that_are_proposed_most_often_are_voted_on():
    def said(request):
        if not proposes_axes(request):
            return reply(request)
        rare = rule(request["request_id"][:5])
        return json.dumps({"axes": [rule(MORE), rule(LIKED).upper(), rare]})

    made = found(world(100), said, max_axes=2, permutations=19)
    named = [*made["principles"]["principle"], *made["dropped"]["reason"]]
    assert len(named) == 2
    assert {each.casefold().rstrip(".").split()[-1] for each in named} == {MORE, LIKED}


def test_mistakes_are_named():
    given = world(4)
    for options, said in (
        ({"one": "g3"}, "no sample is by the generator 'g3'"),
        ({"held_out": 0.0}, "held_out = 0.0"),
        ({"level": 0.0}, "level = 0.0"),
        ({"max_axes": 0}, "max_axes = 0"),
        ({"proposed_from": 0}, "proposed_from = 0"),
        ({"folds": 1}, "folds = 1"),
        ({"judge": judges.load("helpfulness-rating")}, "pointwise judge"),
    ):
        with pytest.raises(RecipeError, match=re.escape(said)):
            found(given, **options)
