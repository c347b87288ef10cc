"""Axes that tell the completions of two generators apart, and which of them people prefer.

1. *Propose*: a model sees some comparisons of the two at once, neither named, and names axes on
   which they differ, as "Select the reply that is more ...".
2. *Deduplicate*: doubles go; the rest are embedded and clustered, and one of each cluster stays.
3. *Score*: a judge says which side of a comparison is further along each axis, in both orders. The
   score is 1 or -1 where both orders name the same side, else 0: an axis that is only a liking for
   a place has no score.
4. *Filter*: with s the mean score towards the first generator and r that towards the chosen side,
   an axis stays if |s| or |r| is above `min_difference` and more than chance (a sign test at
   `level`), and if it is not correlated beyond `max_correlation` with a better one.

All that on one part of the prompt groups. On the other, where no axis was found nor chosen, the
scores predict which side is the first generator's, and which is preferred. Each comparison is one
row, turned towards its label: to add it again the other way round, as the source does, would put
the two into different folds, and the model would know its label.

Source: Dunlap et al. 2024, "VibeCheck: Discover and Quantify Qualitative Differences in Large
Language Models"; prompts in our own words, one round of proposals.
"""

from collections import Counter

import polars as pl

from prefdata import tables
from prefdata.annotate._by_principle import ask_by_principle, check, with_lists
from prefdata.errors import RecipeError
from prefdata.explain import _cluster
from prefdata.explain._axes import consistency, held_out_measures, judged
from prefdata.explain._axes_proposed import proposed_axes
from prefdata.explain._labelled import labelled, with_held_out
from prefdata.explain._predict import check_folds
from prefdata.explain._standing import as_principles
from prefdata.generate._generators import refuse_unknown
from prefdata.judge import Judge
from prefdata.stage import Asks, Model
from prefdata.tables import (
    Completions,
    Dropped,
    Measures,
    Pairs,
    Principles,
    Prompts,
    Samples,
    Votes,
    digest,
)

SCOPE = "all"


def vibes(
    prompts: Prompts,
    completions: Completions,
    samples: Samples,
    pairs: Pairs,
    *,
    one: str,
    other: str,
    judge: Judge,
    model: Model,
    proposer: Model | None = None,
    embedder: Model | None = None,
    held_out: float = 0.5,
    proposed_from: int = 30,
    max_axes: int = 20,
    per_call: int = 20,
    min_difference: float = 0.05,
    level: float = 0.01,
    max_correlation: float = 0.8,
    folds: int = 10,
    permutations: int = 199,
    reask: bool = True,
    seed: int = 0,
) -> Asks[tuple[Principles, Votes, Measures, Dropped]]:
    """Axes as principles, ranked; their votes, by `principle:<principle_id>/<model>`.

    A comparison is a labelled one of a completion that only `one` drew and one that only `other`
    drew. `for` and `against` count comparisons that were not held out, by whether the score is for
    the chosen side. An axis that is not kept is in `dropped` with the reason; its votes stay.

    Measures on held-out comparisons, subject the axis' annotator:

    - `vibe_separation`, `vibe_preferred`: the mean score towards `one`, and towards the chosen
      side, in [-1, 1].
    - `vibe_source_weight`, `vibe_preferred_weight`: what a score adds to the log-odds of being
      `one`'s, and of being preferred, with the other axes held equal. n: comparisons with a score.

    Subject "vibes": `vibes_source_accuracy` and `vibes_preferred_accuracy`, how often all axes
    predict a label that they were not fitted on, with `..._null`, the 95th percentile of the same
    on labels turned at random, and `..._p`.

    And of all axes, on the rest: `vibe_consistency`, the share of comparisons decided in both
    orders in which these agree.

    Raises `RecipeError` for a generator without a sample.

    one, other: the two generators.
    judge: a pairwise judge; the axes stand where its own criterion would, as in "principles".
    model: who votes.
    proposer: who proposes; null: `model`.
    embedder: one that embeds the axes; null: only doubles are dropped.
    held_out: the share of prompt groups that is kept aside, in (0, 1).
    proposed_from: axes are proposed from so many comparisons at most.
    max_axes: axes that stay before voting.
    per_call: at most so many axes in one call.
    min_difference: the least mean score of an axis that is kept.
    level: of the sign test, in (0, 1].
    max_correlation: of the scores of two axes that are kept, at most.
    folds: of whole prompt groups, for the accuracies.
    permutations: of labels, for their nulls.
    reask: ask once more, with the complaint, where a reply cannot be read.
    seed: what the parts, the order of the proposals, and the permutations come from.
    """
    check(judge, per_call, "explain.vibes")
    check_folds(folds, permutations, "explain.vibes")
    _check(held_out, level, proposed_from, max_axes)
    rows = with_held_out(
        _compared(prompts, completions, samples, pairs, one, other), held_out, "group", seed
    )
    train, aside = rows.filter(~pl.col("held_out")), rows.filter("held_out")
    proposed = yield from proposed_axes(train, proposed_from, proposer or model, reask, seed)
    texts = _cluster.distinct(proposed)
    # Where they are not embedded the most frequent stay.
    vectors = (yield from _cluster.embedded(texts, embedder)) if embedder else {}
    often = Counter(map(_cluster.plain, proposed))
    unlike = _cluster.one_of_each(texts, vectors, max_axes)
    unlike = sorted(unlike, key=lambda text: (-often[_cluster.plain(text)], text))[:max_axes]
    axes = {digest("principle", text): text for text in unlike}
    votes = yield from _votes(train, axes, judge, model, per_call, reask)
    found = judged(train, votes, axes, min_difference, level, max_correlation)
    kept = found.filter(pl.col("reason").is_null())
    stay = {each: axes[each] for each in kept["principle_id"]}
    outside = yield from _votes(aside, stay, judge, model, per_call, reask)
    names = {each: f"principle:{each}/{model.name}" for each in axes}
    measured = [
        consistency(train, votes, names),
        *held_out_measures(
            aside, outside, {each: names[each] for each in stay}, folds, permutations, seed
        ),
    ]
    told = pl.concat([votes, outside]).select(*tables.schema("votes").columns)
    return (
        Principles(as_principles(kept)),
        Votes(told),
        Measures(tables.typed(Measures, pl.concat(measured, how="diagonal_relaxed"))),
        Dropped(_dropped(found.filter(pl.col("reason").is_not_null()))),
    )


def _check(held_out: float, level: float, proposed_from: int, max_axes: int) -> None:
    if not 0 < held_out < 1:
        raise RecipeError(f"explain.vibes: held_out = {held_out}; it is above 0 and below 1")
    if not 0 < level <= 1:
        raise RecipeError(f"explain.vibes: level = {level}; it is above 0 and at most 1")
    for name, number in (("proposed_from", proposed_from), ("max_axes", max_axes)):
        if number < 1:
            raise RecipeError(f"explain.vibes: {name} = {number}; it is at least 1")


def _compared(
    prompts: Prompts,
    completions: Completions,
    samples: Samples,
    pairs: Pairs,
    one: str,
    other: str,
) -> pl.DataFrame:
    """Labelled comparisons of the two, with `a_is_one`."""
    refuse_unknown((one, other), samples, where="explain.vibes")
    of = samples.group_by("completion_id").agg(
        generator=pl.when(pl.col("generator").n_unique() == 1).then(pl.col("generator").first())
    )
    rows = labelled(pairs, prompts, completions)
    for side in ("a", "b"):
        mine = of.rename({"completion_id": f"completion_{side}", "generator": f"by_{side}"})
        rows = rows.join(mine, on=f"completion_{side}")
    forward = (pl.col("by_a") == one) & (pl.col("by_b") == other)
    back = (pl.col("by_a") == other) & (pl.col("by_b") == one)
    return (
        rows.filter(forward | back)
        .with_columns(a_is_one=pl.col("by_a") == one)
        .sort("completion_a", "completion_b")
    )


def _votes(
    rows: pl.DataFrame, axes: dict[str, str], judge: Judge, model: Model, per_call: int, reask: bool
) -> Asks[pl.DataFrame]:
    """A vote for each comparison, axis and order."""
    ids = sorted(axes)
    parts: list[pl.DataFrame] = []
    a, b = pl.col("said_a"), pl.col("said_b")
    for a_first in (True, False):
        said = (a, b) if a_first else (b, a)
        shown = rows.select(
            "prompt_id", "completion_a", "completion_b", "prompt", said_first=said[0],
            said_second=said[1], a_first=pl.lit(a_first), draw=pl.lit(0, pl.Int64),
        )  # fmt: skip
        parts += with_lists(shown, ids, per_call)
    if not parts or rows.is_empty():
        return tables.empty("votes").with_columns(principle_id=pl.lit(None, pl.String))
    heard = yield from ask_by_principle(pl.concat(parts), axes, judge, model, reask=reask)
    return heard.select(*tables.schema("votes").columns, "principle_id")


def _dropped(gone: pl.DataFrame) -> pl.DataFrame:
    return tables.typed(
        Dropped,
        gone.select(
            table=pl.lit("principles"),
            key="principle_id",
            stage=pl.lit("explain.vibes"),
            reason=pl.concat_str("reason", pl.lit(": "), "principle"),
        ),
    )
