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


def votes_from(rows, annotator="human:1", criterion="quality"):
    """Votes from (prompt, one, other, P(one preferred)), in either order of the two.

    A row may end with a criterion of its own; without a preference it is unscored.
    """
    columns = ["prompt_id", "one", "other", "preference", "criterion"]
    rows = [(*row, criterion)[:5] for row in rows]
    frame = pl.DataFrame(rows, schema=columns, orient="row", strict=False)
    swapped = pl.col("one") > pl.col("other")
    frame = frame.select(
        pl.min_horizontal("one", "other").alias("completion_a"),
        pl.max_horizontal("one", "other").alias("completion_b"),
        pl.lit(annotator).alias("annotator"),
        "criterion",
        pl.int_range(pl.len()).alias("draw"),
        pl.lit(None, pl.Boolean).alias("a_first"),
        pl.col("prompt_id").cast(pl.String),
        pl.when(swapped).then(1 - pl.col("preference")).otherwise("preference").alias("preference"),
        pl.when(pl.col("preference").is_null()).then(pl.lit("no verdict")).alias("unscored"),
    )
    return tables.typed(Votes, frame)


def by_id(strengths):
    return dict(strengths.select("completion_id", "strength").iter_rows())


def exchanged(votes):
    """The same votes with every completion under the other's name."""
    turned = votes.with_columns(a_first=~pl.col("a_first"), preference=1 - pl.col("preference"))
    return tables.typed(Votes, turned)


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


def score_of(scores, name="preference", column="value"):
    """A column of a score by subject, in the order of their ids."""
    rows = scores.filter(pl.col("score") == name).sort("subject_id")
    return dict(rows.select("subject_id", column).iter_rows())


def pair_values(scores, n):
    """P(a better) of pairs 0, 1, ..."""
    ids = tables.pair_ids([f"{i:06}a" for i in range(n)], [f"{i:06}b" for i in range(n)])
    known = score_of(scores)
    return np.array([known[i] for i in ids])


def preferences_of(scores, names):
    """P(<name>/a better than <name>/b), in the order of names."""
    ids = tables.pair_ids([f"{p}/a" for p in names], [f"{p}/b" for p in names])
    known = score_of(scores)
    return np.array([known[i] for i in ids])


def voted_world(seed, n=800, n_annotators=10, each=6, bias=0.25, known=True):
    """Pairs voted on by annotators who lean to the first place by `bias`, some more than others.

    Gives whether a is better, how often each is right without its lean, the leans and the votes.
    """
    draw = np.random.default_rng(seed)
    a_better = draw.random(n) < 0.5
    right = draw.uniform(0.55, 0.9, n_annotators)
    lean = draw.uniform(-bias, bias, n_annotators)
    pair = np.repeat(np.arange(n), each)
    annotator = np.concatenate([draw.permutation(n_annotators)[:each] for _ in range(n)])
    a_first = draw.random(len(pair)) < 0.5
    first_better = a_better[pair] == a_first
    p_first = np.where(first_better, right[annotator], 1 - right[annotator]) + lean[annotator]
    says_first = draw.random(len(pair)) < np.clip(p_first, 0.02, 0.98)
    preference = (says_first == a_first).astype(float)
    return a_better, right, lean, votes_of(pair, annotator, preference, a_first if known else None)


def mixed(votes):
    """The votes with some made ties and some soft."""
    tied = pl.int_range(pl.len()) % 7 == 0
    soft = pl.int_range(pl.len()) % 11 == 0
    preference = pl.when(tied).then(0.5).when(soft).then(0.7).otherwise("preference")
    return tables.typed(Votes, votes.with_columns(preference=preference))


def check_symmetries(aggregate, votes, n):
    """Exchanging a and b exchanges the result; rows' order and annotators' names mean nothing."""
    both = aggregate(votes)
    value = pair_values(both[1], n)
    assert np.allclose(value, 1 - pair_values(aggregate(exchanged(votes))[1], n), atol=1e-5)
    shuffled = aggregate(votes.sample(fraction=1, shuffle=True, seed=0))
    for one, other, name in zip(both, shuffled, ("strengths", "scores"), strict=True):
        whole = tables.check(name, one, where="test")
        assert whole.equals(tables.check(name, other, where="test"))
    backwards = "human:" + pl.col("annotator").str.slice(6).str.reverse()
    renamed = tables.typed(Votes, votes.with_columns(annotator=backwards))
    assert np.allclose(value, pair_values(aggregate(renamed)[1], n), atol=1e-5)
