"""How alike texts are token by token: the definition by loops, what it ignores, bounds."""

import numpy as np
import pytest

from prefdata.models.bertscore import bertscore


def by_loops(one, other):
    def cosine(x, y):
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

    precision = np.mean([max(cosine(x, y) for y in other) for x in one])
    recall = np.mean([max(cosine(x, y) for x in one) for y in other])
    return 2 * precision * recall / (precision + recall)


def test_it_is_the_definition():
    draw = np.random.default_rng(0)
    for _ in range(50):
        one, other = (draw.normal(0.5, 1.0, (draw.integers(1, 9), 6)) for _ in range(2))
        assert bertscore(one, other) == pytest.approx(by_loops(one, other))
        assert bertscore(one, other) == pytest.approx(bertscore(other, one))


def test_lengths_of_states_and_the_order_of_tokens_do_not_count():
    draw = np.random.default_rng(1)
    one, other = draw.normal(0.5, 1.0, (5, 4)), draw.normal(0.5, 1.0, (7, 4))
    stretched = one * draw.uniform(0.1, 9.0, (5, 1))
    assert bertscore(stretched[::-1], other) == pytest.approx(bertscore(one, other))
    assert bertscore(one, one[[3, 1, 2, 0, 4]]) == pytest.approx(1)


def test_texts_of_which_nothing_is_said():
    none, some = np.zeros((0, 4)), np.ones((2, 4))
    assert bertscore(none, none) == 1
    assert bertscore(none, some) == bertscore(some, none) == 0
    assert bertscore(some, -some) == 0
