"""Reliability of annotators: planted effects, copies, gold, invariances, LLMBar's votes."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.aggregate.reliability import reliability
from prefdata.errors import ConvergenceError, RecipeError, TableError
from prefdata.tables import Completions, Samples, Votes
from tests.aggregate.planted import preferences_of, score_of

DATA = Path(__file__).parents[1] / "data"


def table(**columns):
    frame = pl.DataFrame(columns)
    if "criterion" not in columns:
        frame = frame.with_columns(criterion=pl.lit("quality"))
    if "a_first" not in columns:
        frame = frame.with_columns(a_first=pl.lit(None, pl.Boolean))
    missing = pl.col("preference").is_null()
    return tables.typed(
        Votes,
        frame.with_columns(draw=pl.lit(0), unscored=pl.when(missing).then(pl.lit("no verdict"))),
    )


def planted(seed, n=150, slopes=(0.3, 0.7, 1.0, 1.4, 1.8) * 4, likes_first=None):
    """Two completions a prompt of normal strengths, voted on once by each annotator, as told."""
    draw = np.random.default_rng(seed)
    slopes = np.array(slopes)
    likes = draw.normal(0, 0.5, len(slopes)) if likes_first is None else np.array(likes_first)
    strength = draw.normal(size=(n, 2))
    first = draw.random((n, len(slopes))) < 0.5
    odds = np.subtract(*strength.T)[:, None] * slopes + np.where(first, likes, -likes)
    won = draw.random(odds.shape) < 1 / (1 + np.exp(-odds))
    item, who = (x.ravel() for x in np.indices(odds.shape))
    votes = table(
        completion_a=[f"p{i:03}/a" for i in item],
        completion_b=[f"p{i:03}/b" for i in item],
        prompt_id=[f"p{i:03}" for i in item],
        annotator=[f"human:{w:02}" for w in who],
        a_first=first.ravel(),
        preference=won.ravel().astype(float),
    )
    return strength, slopes, likes, votes


def simple(rows):
    """Votes from (prompt, annotator, preference for a)."""
    return table(
        completion_a=[f"{p}/a" for p, _, _ in rows],
        completion_b=[f"{p}/b" for p, _, _ in rows],
        prompt_id=[p for p, _, _ in rows],
        annotator=[w for _, w, _ in rows],
        preference=pl.Series([v for _, _, v in rows], dtype=pl.Float64),
    )


def covered(low_seed, high_seed):
    hits = {"discrimination": [], "position_effect": [], "strength": []}
    for seed in range(low_seed, high_seed):
        strength, slopes, likes, votes = planted(seed)
        strengths, scores, _ = reliability(votes)
        for name, truth in (("discrimination", slopes), ("position_effect", likes)):
            value, error = (
                np.array(list(score_of(scores, name, c).values())) for c in ("value", "stderr")
            )
            hits[name].append(np.abs(value - truth) < 1.96 * error)
        strengths = strengths.sort("completion_id")
        truth = (strength - strength.mean(1, keepdims=True)).ravel()
        away = np.abs(strengths["strength"].to_numpy() - truth)
        hits["strength"].append(away < 1.96 * strengths["stderr"].to_numpy())
    return {name: np.mean(found) for name, found in hits.items()}


def test_intervals_cover_what_was_planted():
    assert all(0.9 <= share <= 0.99 for share in covered(0, 12).values())


@pytest.mark.slow
def test_intervals_cover_what_was_planted_over_two_hundred_worlds():
    assert all(0.9 <= share <= 0.99 for share in covered(0, 200).values())


def test_discrimination_is_not_flattened():
    """Means over worlds come out where planted, which a bound on the likelihood misses."""
    found = []
    for seed in range(6):
        _, slopes, _, votes = planted(seed, n=300)
        found.append(
            np.array(list(score_of(reliability(votes)[1], "discrimination").values())) - slopes
        )
    assert abs(np.mean(found)) < 0.06


def test_preference_is_calibrated_on_planted_worlds():
    p, won = [], []
    for seed in range(8):
        strength, _, _, votes = planted(seed, slopes=(0.4, 0.8, 1.2, 1.6))
        p.append(preferences_of(reliability(votes)[1], [f"p{i:03}" for i in range(150)]))
        won.append(strength[:, 0] > strength[:, 1])
    p, won = np.concatenate(p), np.concatenate(won)
    for low in np.arange(0, 1, 0.2):
        inside = (p >= low) & (p < low + 0.2)
        assert abs(p[inside].mean() - won[inside].mean()) < 0.09


def test_weights_beat_the_majority_where_annotators_differ():
    right = []
    for seed in range(4):
        strength, _, _, votes = planted(seed, slopes=[0.05] * 9 + [3.0] * 2, likes_first=[0] * 11)
        truth = strength[:, 0] > strength[:, 1]
        p = preferences_of(reliability(votes)[1], [f"p{i:03}" for i in range(150)])
        majority = votes.group_by("prompt_id").agg(pl.mean("preference")).sort("prompt_id")
        share = majority["preference"].to_numpy()
        right.append([((p > 0.5) == truth).mean(), ((share > 0.5) == truth).mean()])
    ours, theirs = np.mean(right, 0)
    assert ours > theirs + 0.08


def copied(seed, n=200):
    """Two people right in 85 of 100, and ten copies of a judge right in 55 of 100."""
    draw = np.random.default_rng(seed)
    truth = draw.random(n) < 0.5
    rows = []
    for who, share in (("human:1", 0.85), ("human:2", 0.85), ("llm:m/j", 0.55)):
        said = np.where(draw.random(n) < share, truth, ~truth)
        names = [f"{who}{k}" for k in range(10)] if who.startswith("llm") else [who]
        rows += [(f"p{i:03}", w, float(said[i])) for w in names for i in range(n)]
    return truth, simple(rows)


@pytest.mark.parametrize("options", [{}, {"copies": 2.0, "groups": {"llm:*": "one judge"}}])
def test_ten_copies_of_a_judge_do_not_outvote_two_people(options):
    for seed in range(3):
        truth, votes = copied(seed)
        scores = reliability(votes, **options)[1]
        p = preferences_of(scores, [f"p{i:03}" for i in range(200)])
        pair = votes.filter(pl.col("annotator").str.starts_with("human"))
        both = pair.group_by("prompt_id").agg(pl.mean("preference")).sort("prompt_id")
        both = both["preference"].to_numpy()
        agreed = both != 0.5
        assert np.array_equal((p > 0.5)[agreed], both[agreed] == 1)
        assert ((p > 0.5) == truth).mean() > 0.8
        assert set(score_of(scores, "copies").values()) == {1.0, 10.0}
    alone = preferences_of(reliability(votes, copies=2.0)[1], [f"p{i:03}" for i in range(200)])
    assert ((alone > 0.5) == truth).mean() < 0.7, "without it the copies do outvote them"


def test_copies_count_as_one_of_them():
    """Nine more of the same are no more evidence than the one."""
    _, votes = copied(5)
    single = votes.filter(
        ~pl.col("annotator").str.contains("[1-9]$") | pl.col("annotator").str.starts_with("human")
    )
    names = [f"p{i:03}" for i in range(200)]
    one, ten = (preferences_of(reliability(v)[1], names) for v in (single, votes))
    assert np.abs(one - ten).max() < 0.1


def test_length_and_own_family_are_told_from_quality():
    draw = np.random.default_rng(0)
    n, people = 500, 6
    strength = draw.normal(size=(n, 2))
    size = draw.integers(20, 400, (n, 2))
    maker = np.where(draw.random((n, 2)) < 0.5, "gpt-4", "claude-2")
    length = np.log((size[:, 0] + 1) / (size[:, 1] + 1))
    own = (maker[:, 0] == "gpt-4") * 1.0 - (maker[:, 1] == "gpt-4")
    rows = []
    for who in [f"human:{k}" for k in range(people)] + ["llm:gpt-4/fair", "llm:gpt-4/vain"]:
        vain = who.endswith("vain")
        odds = 1.2 * np.subtract(*strength.T) + (0.9 * length + 1.1 * own if vain else 0)
        won = draw.random(n) < 1 / (1 + np.exp(-odds))
        rows += [(f"p{i:03}", who, float(won[i])) for i in range(n)]
    names = [f"p{i:03}/{side}" for i in range(n) for side in "ab"]
    said = [[{"role": "assistant", "content": "x" * k}] for k in size.ravel()]
    prompts = [f"p{i:03}" for i in range(n) for _ in "ab"]
    completions = tables.typed(
        Completions,
        pl.DataFrame({"completion_id": names, "prompt_id": prompts, "completion": said}),
    )
    samples = tables.typed(
        Samples,
        pl.DataFrame({"completion_id": names, "prompt_id": prompts, "generator": maker.ravel()})
        .with_columns(draw=pl.lit(0)),
    )  # fmt: skip
    scores = reliability(simple(rows), completions, samples)[1]
    for effect, planted_value in (("length_effect", 0.9), ("self_family_effect", 1.1)):
        value, error = score_of(scores, effect), score_of(scores, effect, "stderr")
        assert abs(value["llm:gpt-4/vain"] - planted_value) < 3 * error["llm:gpt-4/vain"]
        assert abs(value["llm:gpt-4/fair"]) < 3 * error["llm:gpt-4/fair"]
    assert set(score_of(scores, "self_family_effect")) == {"llm:gpt-4/fair", "llm:gpt-4/vain"}
    same = reliability(
        simple(rows), completions, samples, families={"*gpt-4*": "x", "claude*": "y"}
    )[1]
    assert score_of(same, "self_family_effect")["llm:gpt-4/vain"] == pytest.approx(
        score_of(scores, "self_family_effect")["llm:gpt-4/vain"]
    )


@pytest.mark.parametrize("gold", [None, "human:gold"])
def test_what_all_like_about_length_is_quality_unless_gold_says_otherwise(gold: str | None):
    """Long answers are mostly better and all see it; gold, where given, is of the quality alone."""
    alone, beside, shared = [], [], []
    for seed in range(3):
        draw = np.random.default_rng(seed)
        n = 200
        size = draw.integers(20, 400, (n, 2))
        length = np.log((size[:, 0] + 1) / (size[:, 1] + 1))
        quality = 0.5 * length + 0.85 * draw.normal(size=n)
        liked = 1.5 * quality + (2.0 * length if gold else 0)
        people = {f"human:{k}": draw.random(n) < 1 / (1 + np.exp(-liked)) for k in range(5)}
        if gold:
            people[gold] = quality > 0
        rows = [
            (f"p{i:03}", who, float(won[i]))
            for who, won in people.items()
            for i in range(0, n, 4 if who == gold else 1)
        ]
        names = [f"p{i:03}/{side}" for i in range(n) for side in "ab"]
        said = [[{"role": "assistant", "content": "x" * k}] for k in size.ravel()]
        prompts = [f"p{i:03}" for i in range(n) for _ in "ab"]
        columns = {"completion_id": names, "prompt_id": prompts, "completion": said}
        completions = tables.typed(Completions, pl.DataFrame(columns))
        for right, given in ((alone, ()), (beside, (completions,))):
            scores = reliability(simple(rows), *given, gold=gold)[1]
            p = preferences_of(scores, [f"p{i:03}" for i in range(n)])
            right.append(((p > 0.5) == (quality > 0)).mean())
        d, worth = (score_of(scores, name) for name in ("discrimination", "length_effect"))
        shared.append(sum(d[who] * worth[who] for who in worth) if gold is None else worth)
    assert np.mean(beside) > np.mean(alone) - 0.02
    if gold is None:
        assert np.abs(shared).max() < 0.01
    else:
        assert np.mean([list(each.values()) for each in shared]) == pytest.approx(2.0, abs=0.4)


def test_who_contradicts_itself_counts_less():
    """Both orders of a judge that always says the first carry nothing."""
    draw = np.random.default_rng(2)
    truth = draw.random(120) < 0.5
    rows = []
    for i, better in enumerate(truth):
        for order in (True, False):
            said = better if draw.random() < 0.9 else not better
            rows += [(f"p{i:03}", "llm:m/good", order, float(said))]
            rows += [(f"p{i:03}", f"llm:m/first{k}", order, float(order)) for k in range(3)]
    p, who, order, won = zip(*rows, strict=True)
    votes = table(
        completion_a=[f"{x}/a" for x in p], completion_b=[f"{x}/b" for x in p], prompt_id=p,
        annotator=who, a_first=order, preference=won,
    )  # fmt: skip
    scores = reliability(votes, copies=2.0)[1]
    repeat, likes = score_of(scores, "repeatability"), score_of(scores, "position_effect")
    assert repeat["llm:m/good"] > 0.5 > 0.1 > repeat["llm:m/first0"]
    assert likes["llm:m/first0"] > 2 > 0.5 > abs(likes["llm:m/good"])
    found = preferences_of(scores, [f"p{i:03}" for i in range(120)])
    assert ((found > 0.5) == truth).mean() > 0.85


def test_row_order_names_and_sides_do_not_matter(shuffled):
    _, _, _, votes = planted(3, n=60, slopes=(0.5, 1.0, 1.5, 2.0))
    made = reliability(votes)
    again = reliability(Votes(shuffled(votes, 1)))
    for one, other in zip(made, again, strict=True):
        assert one.sort(one.columns[0:4]).equals(other.sort(other.columns[0:4]))
    mirrored = votes.with_columns(
        completion_a=pl.col("prompt_id") + "/0",
        completion_b=pl.col("prompt_id") + "/a",
        preference=1 - pl.col("preference"),
        a_first=~pl.col("a_first"),
        annotator=pl.format("human:x{}", 99 - pl.col("annotator").str.slice(6).cast(pl.Int64)),
    )  # fmt: skip
    # What was b is now "0" and comes first; who was first is last.
    other = reliability(Votes(mirrored))
    ours = made[0].filter(pl.col("completion_id").str.ends_with("/a")).sort("completion_id")
    theirs = other[0].filter(pl.col("completion_id").str.ends_with("/a")).sort("completion_id")
    assert np.allclose(ours["strength"], theirs["strength"], atol=1e-6)
    assert np.allclose(ours["stderr"], theirs["stderr"], atol=1e-6)
    slopes = list(score_of(made[1], "discrimination").values())
    assert np.allclose(slopes, list(score_of(other[1], "discrimination").values())[::-1], atol=1e-6)


def test_gold_anchors():
    """Where most annotators are wrong together, a few gold votes turn the others."""
    draw = np.random.default_rng(4)
    truth = draw.random(200) < 0.5
    rows = []
    for k in range(6):
        share = 0.25 if k < 4 else 0.85
        said = np.where(draw.random(200) < share, truth, ~truth)
        rows += [(f"p{i:03}", f"llm:m/{k}", float(said[i])) for i in range(200)]
    gold = [(f"p{i:03}", "human:gold", float(truth[i])) for i in range(40)]
    names = [f"p{i:03}" for i in range(200)]
    blind, told = (
        preferences_of(reliability(simple(r), gold=g)[1], names)
        for r, g in ((rows, None), (rows + gold, "human:gold"))
    )
    assert ((blind > 0.5) == truth)[40:].mean() < 0.3
    assert ((told > 0.5) == truth)[40:].mean() > 0.85
    assert np.abs(told[:40] - truth[:40]).max() < 0.02
    scores = reliability(simple(rows + gold), gold="human:gold")[1]
    assert "human:gold" not in score_of(scores, "discrimination")


def test_separation_islands_ties_and_abstentions_have_answers():
    rows = [("p1", f"human:{k}", 1.0) for k in range(5)]
    rows += [("p2", "human:0", 0.5), ("p3", "human:9", None), ("p4", "human:7", 0.0)]
    strengths, scores, _ = reliability(simple(rows))
    p = preferences_of(scores, ["p1", "p2", "p4"])
    assert 0.8 < p[0] < 1
    assert p[1] == pytest.approx(0.5)
    assert p[2] < 0.5
    assert strengths["strength"].is_finite().all()
    assert not strengths["completion_id"].str.starts_with("p3").any()
    assert (strengths.group_by("prompt_id").agg(pl.sum("strength"))["strength"].abs() < 1e-9).all()


def test_partial_overlap_orders_a_chain():
    """Each completion met only its neighbours; the whole order comes out all the same."""
    rows = [
        (f"c{k}", f"c{k + 1}", f"human:{w}", 1.0 if w < 5 else 0.0)
        for k in range(5)
        for w in range(6)
    ]
    one, other, who, won = zip(*rows, strict=True)
    votes = table(
        completion_a=one, completion_b=other, annotator=who, preference=won,
        prompt_id=["p"] * len(rows),
    )  # fmt: skip
    strengths = reliability(votes)[0].sort("completion_id")
    assert (np.diff(strengths["strength"].to_numpy()) < 0).all()
    assert strengths["strength"].sum() == pytest.approx(0, abs=1e-9)


def test_votes_across_prompts_need_the_completions():
    votes = table(
        completion_a=["a"], completion_b=["b"], annotator=["human:1"], preference=[1.0],
        prompt_id=pl.Series([None], dtype=pl.String),
    )  # fmt: skip
    with pytest.raises(TableError, match="completions table"):
        reliability(votes)


def test_no_votes_give_empty_tables():
    strengths, scores, measures = reliability(Votes(tables.empty("votes")))
    assert strengths.is_empty()
    assert scores.is_empty()
    assert measures.is_empty()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"gold": "human:gold"}, "gold"), ({"criteria": ["x"]}, "'x'"), ({"copies": 0}, "copies")],
)
def test_refuses(options, says):
    with pytest.raises(RecipeError, match=says):
        reliability(planted(0, n=3)[3], **options)


def test_what_does_not_converge_raises():
    with pytest.raises(ConvergenceError, match="3 iterations"):
        reliability(planted(0, n=20)[3], max_iterations=2)


def llmbar():
    """The 280 items of LLMBar, whether the first response is better, and 65 judges' votes."""
    rows = pl.read_parquet(DATA / "llmbar_votes.parquet")
    items = rows.select("id", "gold").unique().sort("id")
    winner = pl.col("winner").cast(pl.Int64, strict=False)
    rows = rows.select(
        "strategy",
        completion_a=pl.col("id") + "/a",
        completion_b=pl.col("id") + "/b",
        prompt_id="id",
        annotator=pl.format("llm:{}/{}", "judge_model", "strategy"),
        a_first=pl.col("order") == "ab",
        preference=(2 - winner).cast(pl.Float64),
    )
    return items["id"].to_list(), (items["gold"] == 1).to_numpy(), rows


def calibration(p, truth):
    """ECE in ten bins of confidence; of a tie half is right."""
    sure = np.maximum(p, 1 - p)
    right = np.where(p == 0.5, 0.5, (p > 0.5) == truth)
    place = np.minimum((sure * 10).astype(int), 9)
    return sum(abs((sure - right)[place == k].sum()) for k in range(10)) / len(p)


@pytest.mark.parametrize(("strategies", "least"), [(None, 0.82), (["Vanilla"], 0.632)])
def test_llmbar_without_gold(strategies, least):
    names, gold, rows = llmbar()
    if strategies:
        rows = rows.filter(pl.col("strategy").is_in(strategies))
    votes = table(**rows.drop("strategy").to_dict())
    p = preferences_of(reliability(votes)[1], names)
    share = votes.group_by("prompt_id").agg(pl.mean("preference")).sort("prompt_id")
    assert share["prompt_id"].to_list() == names
    assert ((p > 0.5) == gold).mean() >= least
    assert calibration(p, gold) <= calibration(share["preference"].to_numpy(), gold) / 2


def with_gold(names, gold, rows, seed):
    """Votes of which a twentieth of the items has gold too, and the places of these."""
    told = np.random.default_rng(seed).choice(len(names), len(names) // 20, replace=False)
    known = pl.DataFrame(
        {
            "completion_a": [f"{names[i]}/a" for i in told],
            "completion_b": [f"{names[i]}/b" for i in told],
            "prompt_id": [names[i] for i in told],
            "annotator": ["human:gold"] * len(told),
            "a_first": pl.Series([None] * len(told), dtype=pl.Boolean),
            "preference": gold[told].astype(float),
        }
    )
    return table(**pl.concat([rows, known]).to_dict()), told


def test_llmbar_with_a_twentieth_of_gold():
    """Mean of draws of 14 gold votes, over the items without gold."""
    names, gold, rows = llmbar()
    rows = rows.drop("strategy")
    right = []
    for seed in range(3):
        votes, told = with_gold(names, gold, rows, seed)
        p = preferences_of(reliability(votes, gold="human:gold")[1], names)
        right.append(np.delete((p > 0.5) == gold, told).mean())
    assert np.mean(right) >= 0.85
