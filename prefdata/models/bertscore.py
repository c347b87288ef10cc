"""How alike two texts are, told from the states of their tokens.

With x_i and y_j the states of the tokens of two texts, each of length 1,

    P = mean_i max_j x_i . y_j     R = mean_j max_i x_i . y_j     F = 2 P R / (P + R)

which is the same whichever text comes first.

Source: Zhang et al. 2020, "BERTScore: Evaluating Text Generation with BERT"; all tokens count alike
and nothing is rescaled.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def bertscore(one: Floats, other: Floats) -> float:
    """F of states (tokens, width); 1 of two texts without tokens, 0 where only one has none."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    x, y = (each / np.linalg.norm(each, axis=1, keepdims=True).clip(1e-12) for each in (one, other))
    along = x @ y.T
    precision, recall = float(along.max(1).mean()), float(along.max(0).mean())
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0
