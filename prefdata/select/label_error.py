"""Pairs whose labels are not in doubt."""

from functools import partial

import polars as pl

from prefdata.estimate._about_labels import choose, read
from prefdata.stage import Parts, whole
from prefdata.tables import Pairs, Scores

SCOPE = "all"  # a share is one of all pairs


def label_error(
    pairs: Pairs,
    scores: Scores,
    *,
    score: str = "label_error",
    share: float | None = None,
    above: float | None = None,
) -> Pairs:
    """Keep the pairs whose labels are least in doubt, unchanged. A pair without the score is kept.

    Doubt is the score itself where it is the probability of a flip (`label_error`), and less the
    score where it is higher for a better chosen side (`ensemble_margin`, `mc_dropout`).

    Options:
    - `score`: which score speaks about the labels; `name@model` where several models gave one.
    - `share`: drop this share of the pairs that have the score, the most doubtful; in [0, 1].
    - `above`: or drop those whose doubt is above this: 0.5 is "rather flipped than not" for a
      probability of a flip, 0 for a margin.

    Raises `RecipeError` for both or none of the two, and for a score that is not there or says
    nothing about labels.

    Source: Northcutt, Jiang, Chuang (2021), Confident Learning, prune what is likely mislabelled;
    Wang et al. (2024), Secrets of RLHF in Large Language Models Part II, by the lowest strengths.
    """
    return whole(in_parts(score=score, share=share, above=above), pairs, scores)


def in_parts(
    *, score: str = "label_error", share: float | None = None, above: float | None = None
) -> Parts[Pairs]:
    """The same in parts: the scores that are looked at are held, and the ids of their pairs."""
    own = yield partial(scores_of, score=score.partition("@")[0])
    doubts = read(own, score, where="select.label_error")
    del own
    doubted = choose(doubts, share=share, above=above, where="select.label_error")
    return partial(keep, doubted=doubted)


def scores_of(pairs: Pairs, scores: Scores, *, score: str) -> pl.DataFrame:
    """The scores of this name about the pairs of a shard, and one of each other name."""
    own = scores.filter(pl.col("subject_id").is_in(pairs["pair_id"].implode()))
    others = own.filter(pl.col("score") != score).unique(["score", "subject"], keep="any")
    rows = pl.concat([own.filter(pl.col("score") == score), others])
    # names that stand in millions of rows, as numbers
    return rows.select(
        "subject_id", pl.col("subject", "score", "model").cast(pl.Categorical), "value"
    )


def keep(pairs: Pairs, scores: Scores, *, doubted: pl.Series) -> Pairs:
    """The pairs of a shard that are not doubted."""
    return Pairs(pairs.filter(~pl.col("pair_id").is_in(doubted.implode())))
