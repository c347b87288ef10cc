"""Candidate mixes of people's and models' labels, and which rows a predictor of mixes would choose.

A mix gives b rows to people: tags in an order drawn by lot, the rows of the first tag in an order
drawn by lot, then those of the next, until there are b. It is described by how many of its rows of
each tag are people's. The source draws b evenly; here about half of the rows is likeliest, for the
rows of b that are a tag's differ most from those by lot where they are b (1 - b / N): near either
end a mix tells how much people's labels are worth on the whole, and little of whose rows.

A row is worth what its tags add to the predicted performance, not at a mix of no rows, where
nothing was seen, but at the mix that is being chosen: one starts from b rows drawn by lot, chooses
the b rows of the highest gain there, goes a part of the way, and so on. These are the steps of
Frank and Wolfe: each is the best mix for the gradient where one stands. Or else, as in the source,
so many candidates of b rows are simulated, and the one that is predicted to be best is taken.

Source: Miranda et al. 2024, "Hybrid Preferences: Learning to Route Instances for Human vs. AI
Feedback" (candidates, counts, and that the best of simulated mixes may be taken); Frank and Wolfe
1956, "An Algorithm for Quadratic Programming".
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdata.route._predictors import Predict

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

# The last of so many steps goes less than a twentieth of the way.
STEPS = 20


def candidate(tags: Bools, n_people: int, draw: np.random.Generator) -> Bools:
    """Which rows of (rows, tags) people label; a row of no tag is among the last."""
    order = draw.permutation(tags.shape[1])
    mixed = np.concatenate([tags[:, order], np.ones((len(tags), 1), bool)], 1)
    first = mixed.argmax(1)
    chosen = np.zeros(len(tags), bool)
    chosen[np.lexsort((draw.random(len(tags)), first))[:n_people]] = True
    return chosen


def candidates(
    tags: Bools, n: int, draw: np.random.Generator, n_people: int | None = None
) -> Bools:
    """`n` mixes, (n, rows): the first of no person's label, the second of people's alone.

    With `n_people` all mixes have so many.
    """
    if n_people is not None:
        return np.stack([candidate(tags, n_people, draw) for _ in range(n)])
    ends = [np.zeros(len(tags), bool), np.ones(len(tags), bool)]
    most = max(len(tags) - 1, 1)
    sizes = draw.triangular(0, most / 2, most, n - 2).round().clip(1, most).astype(int)
    return np.stack([*ends, *(candidate(tags, int(size), draw) for size in sizes)])


def simulated(
    predict: Predict, tags: Bools, n_people: int, n: int, draw: np.random.Generator, scale: float
) -> Floats:
    """The same for each row of the best of `n` simulated mixes, and nothing known of the others.

    It is what its people's labels add over the mean of all, a row; `scale` as in `gains`.
    """
    masks = candidates(tags, n, draw, n_people)
    said = predict(masks.astype(np.float64) @ tags * scale)
    best = int(said.argmax())
    rise = (said[best] - said.mean()) / max(n_people, 1)
    return np.where(masks[best], rise, np.nan)


def gains(
    predict: Predict, tags: Bools, n_people: int, spread: Floats, scale: float = 1.0
) -> Floats:
    """What a person's label on each row adds to the predicted performance, at the mix to be chosen.

    `spread` is how much the counts differ between mixes: slopes are taken over so much to either
    side, which is what a predictor has seen. `scale` makes the counts of these rows those of as
    many rows as the predictor was fitted on.
    """
    member = tags.astype(np.float64)
    at = member.sum(0) * n_people / max(len(tags), 1)
    gain = np.zeros(len(tags))
    for step in range(STEPS):
        gain = member @ slopes(predict, at * scale, spread)
        best = np.argsort(-gain, kind="stable")[:n_people]
        at = at + (member[best].sum(0) - at) / (step + 2)
    return gain


def slopes(predict: Predict, at: Floats, spread: Floats) -> Floats:
    """By how much the prediction rises with each count."""
    width = np.where(spread > 0, spread, 1.0) / 2
    moves = np.diag(width)
    rise = predict(at + moves) - predict(at - moves)
    return np.where(spread > 0, rise / (2 * width), 0.0)
