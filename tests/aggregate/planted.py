"""Votes and ratings by annotators whose errors are planted, in plain loops over no model's code."""

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.tables import Ratings, Votes


def ratings_of(item, annotator, rating, criterion="quality"):
    """Ratings from arrays; a NaN is unscored."""
    frame = pl.DataFrame(
        {
            "completion_id": [f"c{i:06}" for i in item],
            "annotator": [f"human:{j:04}" for j in annotator],
            "prompt_id": [f"p{i:06}" for i in item],
            "rating": np.asarray(rating, float),
        }
    ).with_columns(
        pl.col("rating").fill_nan(None),
        criterion=pl.lit(criterion),
        draw=pl.int_range(pl.len()).over("completion_id", "annotator"),
    )
    return tables.typed(
        Ratings,
        frame.with_columns(unscored=pl.when(pl.col("rating").is_null()).then(pl.lit("no rating"))),
    )


def votes_of(pair, annotator, preference, a_first=None, criterion="quality"):
    """Votes on pair number `pair` of two completions from arrays; a NaN is unscored."""
    first = [None] * len(pair) if a_first is None else [bool(f) for f in a_first]
    frame = pl.DataFrame(
        {
            "completion_a": [f"{i:06}a" for i in pair],
            "completion_b": [f"{i:06}b" for i in pair],
            "annotator": [f"human:{j:04}" for j in annotator],
            "prompt_id": [f"p{i:06}" for i in pair],
            "a_first": pl.Series(first, dtype=pl.Boolean),
            "preference": np.asarray(preference, float),
        }
    ).with_columns(pl.col("preference").fill_nan(None), criterion=pl.lit(criterion))
    frame = frame.with_columns(
        draw=pl.int_range(pl.len()).over("completion_a", "annotator"),
        unscored=pl.when(pl.col("preference").is_null()).then(pl.lit("abstained")),
    )
    return tables.typed(Votes, frame)


def exchanged(votes):
    """The same votes with every completion under the other's name."""
    turn = pl.when(pl.lit(True))
    return tables.typed(
        Votes,
        votes.with_columns(
            a_first=turn.then(~pl.col("a_first")), preference=1 - pl.col("preference")
        ),
    )


def draw_labels(draw, truth, confusion, each):
    """`each` annotators label every item: arrays item, annotator, label.

    `confusion` is (annotators, classes, labels).
    """
    n, n_annotators = len(truth), len(confusion)
    who = np.stack([draw.permutation(n_annotators)[:each] for _ in range(n)])
    item, annotator = np.repeat(np.arange(n), each), who.ravel()
    cumulative = confusion[annotator, truth[item]].cumsum(1)
    label = (draw.random(len(item))[:, None] > cumulative).sum(1)
    return item, annotator, np.minimum(label, confusion.shape[2] - 1)


def of_pair(scores, name="preference"):
    """Value of a score by subject id."""
    rows = scores.filter(pl.col("score") == name)
    return dict(rows.select("subject_id", "value").iter_rows())


def pair_values(scores, n):
    """P(a better) of pairs 0, 1, ..."""
    ids = tables.pair_ids([f"{i:06}a" for i in range(n)], [f"{i:06}b" for i in range(n)])
    known = of_pair(scores)
    return np.array([known[i] for i in ids])
