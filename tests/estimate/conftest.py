"""A planted world of pairs: completions of known vectors, labels flipped at random."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prefdata import tables as t
from prefdata.stage import Ask
from prefdata.tables import Completions, Pairs, Prompts, Requests, Responses, Votes


@dataclass
class Planted:
    """`truth` has a row a pair: `pair_id`, whether it was `flipped`, its `true_margin`."""

    prompts: Prompts
    completions: Completions
    pairs: Pairs
    truth: pl.DataFrame
    ask: Ask


def planted(
    n_pairs: int = 4000,
    *,
    width: int = 32,
    flips: float = 0.2,
    n_prompts: int = 400,
    margin: float = 3.0,
    sampled: bool = False,
    seed: int = 0,
) -> Planted:
    """Pairs whose true margin is normal with deviation `margin`, linear in the vectors.

    True labels are the sign of the margin, or drawn from its sigmoid where `sampled`.
    """
    draw = np.random.default_rng(seed)
    direction = draw.normal(size=width)
    direction *= margin / np.sqrt(2) / np.linalg.norm(direction)
    vectors = draw.normal(size=(2 * n_pairs, width))
    asked = [[{"role": "user", "content": f"question {at}"}] for at in range(n_prompts)]
    prompts = pl.DataFrame({"prompt": asked, "source": "planted"})
    prompts = prompts.with_columns(t.prompt_ids(asked))
    of_pair = prompts["prompt_id"].gather(np.arange(n_pairs) % n_prompts)
    said = [[{"role": "assistant", "content": f"answer {at}"}] for at in range(2 * n_pairs)]
    completions = pl.DataFrame({"completion": said, "prompt_id": [*of_pair, *of_pair]})
    completions = completions.with_columns(
        t.completion_ids(completions["prompt_id"], completions["completion"])
    )
    ids = completions["completion_id"].to_numpy()
    utility = vectors @ direction
    apart = utility[:n_pairs] - utility[n_pairs:]
    first_is_better = draw.random(n_pairs) < 1 / (1 + np.exp(-apart)) if sampled else apart > 0
    flipped = draw.random(n_pairs) < flips
    first_is_chosen = first_is_better ^ flipped
    one, other = ids[:n_pairs], ids[n_pairs:]
    frame = pl.DataFrame(
        {
            "prompt_id": of_pair,
            "chosen_id": np.where(first_is_chosen, one, other),
            "rejected_id": np.where(first_is_chosen, other, one),
            "soft_label": 1.0,
            "n_votes": 1,
        }
    )
    frame = frame.with_columns(t.pair_ids(frame["chosen_id"], frame["rejected_id"]))
    truth = frame.select(
        "pair_id",
        flipped=pl.Series(flipped),
        true_margin=pl.Series(np.where(first_is_chosen, apart, -apart)),
    )
    known = {f"answer {at}": vectors[at].tolist() for at in range(2 * n_pairs)}
    known |= {f"question {at}": draw.normal(size=width).tolist() for at in range(n_prompts)}

    def ask(requests: Requests) -> Responses:
        shown = [messages[-1]["content"] for messages in requests["messages"].to_list()]
        rows = {"request_id": requests["request_id"], "vector": [known[each] for each in shown]}
        return t.typed(Responses, pl.DataFrame(rows).with_columns(tokens_in=0, tokens_out=0))

    return Planted(
        t.typed(Prompts, prompts),
        t.typed(Completions, completions),
        t.typed(Pairs, frame),
        truth,
        ask,
    )


@pytest.fixture(scope="session")
def world_of_pairs() -> Callable[..., Planted]:
    return planted


Floats = NDArray[np.float64]


def cast(
    first: Floats, other: Floats, people: list[str], prefers_first: Floats
) -> tuple[Votes, Completions, Ask]:
    """Votes on completions of these vectors, a prompt each two, as tables."""
    prompt_ids = t.prompt_ids([[{"role": "user", "content": f"q{n}"}] for n in range(len(first))])
    texts = [f"one {n}" for n in range(len(first))] + [f"other {n}" for n in range(len(first))]
    known = dict(zip(texts, [*first.tolist(), *other.tolist()], strict=True))
    said = [[{"role": "assistant", "content": text}] for text in texts]
    completions = pl.DataFrame({"prompt_id": [*prompt_ids, *prompt_ids], "completion": said})
    ids = t.completion_ids(completions["prompt_id"], completions["completion"])
    one, two = ids[: len(first)], ids[len(first) :]
    votes = pl.DataFrame({"one": one, "two": two, "p": prefers_first}).select(
        completion_a=pl.min_horizontal("one", "two"),
        completion_b=pl.max_horizontal("one", "two"),
        prompt_id=pl.Series(prompt_ids),
        annotator=pl.Series(people),
        criterion=pl.lit("all"),
        draw=0,
        preference=pl.when(pl.col("one") < pl.col("two")).then("p").otherwise(1 - pl.col("p")),
    )

    def ask(requests: Requests) -> Responses:
        vectors = [known[messages[-1]["content"]] for messages in requests["messages"].to_list()]
        frame = pl.DataFrame({"request_id": requests["request_id"], "vector": vectors})
        return t.typed(Responses, frame.with_columns(tokens_in=0, tokens_out=0))

    return t.typed(Votes, votes), t.typed(Completions, completions.with_columns(ids)), ask


@pytest.fixture(scope="session")
def ballots() -> Callable[..., tuple[Votes, Completions, Ask]]:
    return cast


def area_under_roc(truth: NDArray[np.bool_], value: NDArray[np.float64]) -> float:
    """P(a true one has the higher value), counted over all pairs of a true and a false one."""
    ranks = np.empty(len(value))
    ranks[value.argsort(kind="stable")] = np.arange(1, len(value) + 1)
    n_true = truth.sum()
    above = ranks[truth].sum() - n_true * (n_true + 1) / 2
    return float(above / n_true / (len(value) - n_true))
