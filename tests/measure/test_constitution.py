import json

import polars as pl
import pytest
from scipy import stats

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.constitution import constitution as judged
from prefdata.errors import RecipeError
from prefdata.explain.critiq import critiq
from prefdata.explain.icai import icai
from prefdata.measure.constitution import constitution
from prefdata.tables import Principles, Votes
from tests.explain.planted import MODEL, WORDS, constitution_reply, reply, rule, run, world

TRUE = dict.fromkeys(WORDS[:3], 2.0)
JUDGE = judges.load("principles")


def searched(weights: dict[str, float], *, n: int = 150, seed: int = 0, **options):
    prompts, completions, pairs = world(n, weights, seed=seed)
    given = {"judge": JUDGE, "model": MODEL, "seed": seed, "max_principles": 5, **options}
    principles, votes, scores, _, _ = run(icai(prompts, completions, pairs, **given))
    return prompts, completions, pairs, principles, votes, scores


def value(measures: pl.DataFrame, measure: str, subject: str = "constitution") -> float | None:
    row = measures.filter(pl.col("measure") == measure, pl.col("subject") == subject)
    return row["value"].item()


def test_a_planted_constitution_is_above_its_null_and_holds_on_pairs_not_seen():
    prompts, _, pairs, principles, votes, scores = searched(TRUE, n=200)
    measures = constitution(pairs, votes, principles, prompts, scores, draws=199)
    agreement, null = (
        value(measures, "constitution_agreement"),
        value(measures, "constitution_null"),
    )
    assert agreement is not None
    assert null is not None
    assert agreement > null > 0.5
    assert value(measures, "constitution_p") == pytest.approx(1 / 200)
    tested = measures.filter(pl.col("measure") == "principle_q")
    found = {f"principle:{tables.digest('principle', rule(word))}/m" for word in TRUE}
    assert found <= set(tested.filter(pl.col("value") < 0.05)["subject"])
    tables.check("measures", measures, where="test")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["current", pytest.param("lean", marks=pytest.mark.long)])
def test_on_shuffled_labels_nothing_passes_the_null(preset: str):
    passed, discovered = 0, 0
    for seed in range(20):
        made = searched({}, n=200, seed=seed, preset=preset)
        prompts, _, pairs, principles, votes, scores = made
        measures = constitution(pairs, votes, principles, prompts, scores, draws=199, seed=seed)
        p = value(measures, "constitution_p")
        passed += p is not None and p < 0.05
        q = measures.filter(pl.col("measure") == "principle_q", pl.col("value") < 0.05)
        discovered += q.height > 0
    assert passed <= 2
    assert discovered <= 2


def test_on_shuffled_labels_the_search_agrees_with_them_no_better_than_its_null():
    """Sheet 6: the best of many spurious principles agrees with the labels it was chosen by."""
    prompts, _, pairs, principles, votes, scores = searched({}, n=80)
    measures = constitution(pairs, votes, principles, prompts, scores, draws=199)
    agreement, null = (
        value(measures, "constitution_agreement"),
        value(measures, "constitution_null"),
    )
    assert agreement is not None
    assert null is not None
    assert 0.55 < agreement <= null


def test_the_judge_with_rules_reconstructs_and_without_guesses():
    prompts, completions, pairs, principles, votes, scores = searched(TRUE)
    given = {"judge": judges.load("constitution"), "model": MODEL}
    rules = run(judged(prompts, completions, principles, pairs, **given), constitution_reply)
    alone = run(
        judged(prompts, completions, principles, pairs, rules=False, **given), constitution_reply
    )
    everyone = tables.union("votes", votes, rules, alone, where="test")
    measures = constitution(pairs, Votes(everyone), principles, prompts, scores, draws=19)
    with_rules = value(measures, "reconstruction_held_out", "llm:m/constitution")
    without = measures.filter(
        pl.col("measure") == "reconstruction_train",
        pl.col("subject") == "llm:m/constitution-without",
    )
    assert with_rules is not None
    assert with_rules > 0.7
    assert without["value"].item() == pytest.approx(0.5)
    n = scores["value"].sum()
    held = measures.filter(pl.col("measure") == "reconstruction_held_out")
    assert held["n"].unique().to_list() == [n]


def test_reconstruction_is_the_share_that_prefers_the_chosen():
    prompts, _, pairs = world(10, TRUE)
    rows = [
        {
            "completion_a": min(row["chosen_id"], row["rejected_id"]),
            "completion_b": max(row["chosen_id"], row["rejected_id"]),
            "annotator": "human:x",
            "criterion": "preference",
            "draw": 0,
            "a_first": True,
            "prompt_id": row["prompt_id"],
            "preference": float((row["chosen_id"] < row["rejected_id"]) == (at < 7)),
        }
        for at, row in enumerate(pairs.to_dicts())
    ]
    votes = tables.typed(Votes, pl.DataFrame(rows))
    none = Principles(tables.empty("principles"))
    measures = constitution(pairs, votes, none, prompts)
    assert value(measures, "reconstruction_train", "human:x") == pytest.approx(0.7)
    assert value(measures, "constitution_agreement") is None
    note = measures.filter(pl.col("measure") == "constitution_p")["note"].item()
    assert note == "no votes of principles"


def test_the_null_is_that_of_its_permutations():
    """p is uniform where labels are random: over worlds it is seldom small."""
    small = 0
    for seed in range(12):
        prompts, _, pairs, principles, votes, scores = searched({}, n=40, seed=seed, draws=1)
        measures = constitution(pairs, votes, principles, prompts, scores, draws=39, seed=seed)
        p = value(measures, "constitution_p")
        small += p is not None and p <= 0.1
    assert small <= stats.binom.ppf(0.999, 12, 0.1)


def test_row_order_changes_nothing():
    prompts, _, pairs, principles, votes, scores = searched(TRUE, n=60)
    one = constitution(pairs, votes, principles, prompts, scores, draws=19)
    mixed = (
        each.sample(fraction=1, shuffle=True, seed=3)
        for each in (pairs, votes, principles, prompts, scores)
    )
    other = constitution(*mixed, draws=19)
    key = ["measure", "subject"]
    assert one.sort(key).equals(other.sort(key))


def test_too_few_permutations_are_refused():
    prompts, _, pairs = world(4, TRUE)
    none = tables.empty
    with pytest.raises(RecipeError, match="draws = 5"):
        constitution(pairs, Votes(none("votes")), Principles(none("principles")), prompts, draws=5)


def with_critiq(n: int, weights: dict[str, float], seed: int = 0):
    """Criteria that a manager writes, all of them rules about a word."""

    def manager(request):
        keys = json.loads(request["options"])["schema"]["properties"]
        if "criteria" not in keys:
            return reply(request) if "text" not in keys else json.dumps({"text": "because"})
        return json.dumps(
            {"criteria": [rule(word) for word in WORDS[: keys["criteria"]["maxItems"]]]}
        )

    prompts, completions, pairs = world(n, weights, seed=seed)
    given = {"judge": JUDGE, "model": MODEL, "n_pairs": 60, "epochs": 0, "good": 0.6}
    principles, votes, scores, _, _ = run(
        critiq(prompts, completions, pairs, n_criteria=8, **given), manager
    )
    return prompts, completions, pairs, principles, votes, scores


def test_criteria_of_critiq_are_a_constitution_too():
    prompts, completions, pairs, principles, votes, scores = with_critiq(
        160, dict.fromkeys(WORDS[:3], 4.0)
    )
    assert principles.height > 0
    given = {"judge": judges.load("constitution"), "model": MODEL}
    rules = run(judged(prompts, completions, principles, pairs, **given), constitution_reply)
    everyone = Votes(tables.union("votes", votes, rules, where="test"))
    measures = constitution(pairs, everyone, principles, prompts, scores, draws=99)
    row = measures.filter(pl.col("measure") == "constitution_agreement").row(0, named=True)
    assert row["n"] == 60  # what workers voted on, and no pair that nobody saw
    assert row["value"] > value(measures, "constitution_null")
    held = measures.filter(pl.col("measure") == "reconstruction_held_out").row(0, named=True)
    assert held["n"] == 100
    assert held["low"] > 0.5


def test_which_score_holds_pairs_out_is_never_guessed():
    prompts, _, pairs, principles, votes, scores = searched(TRUE, n=40)
    more = scores.with_columns(score=pl.lit("critiq_held_out"))
    both = tables.union("scores", scores, more, where="test")
    with pytest.raises(RecipeError, match="critiq_held_out, icai_held_out"):
        constitution(pairs, votes, principles, prompts, both, draws=19)
    with pytest.raises(RecipeError, match="did you mean 'icai_held_out'"):
        constitution(pairs, votes, principles, prompts, both, held_out="icai_heldout", draws=19)
    named = constitution(
        pairs, votes, principles, prompts, both, held_out="icai_held_out", draws=19
    )
    assert named.equals(constitution(pairs, votes, principles, prompts, scores, draws=19))


def test_a_constitution_without_a_search_is_measured_on_all_pairs():
    """One that is imported with its votes, say: nothing is held out, and nothing is made up."""
    prompts, _, pairs, principles, votes, _ = searched(TRUE, n=60, held_out=0.0)
    measures = constitution(pairs, votes, principles, prompts, None, draws=19)
    assert value(measures, "constitution_agreement") is not None
    unknown = measures.filter(pl.col("measure").is_in(["principle_p", "reconstruction_held_out"]))
    assert unknown.is_empty()
