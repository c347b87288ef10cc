"""Which pairs are likely labelled the wrong way round, told without looking at their own labels.

A ridge logistic model of the labels, on differences between the two completions (traits of the
texts and their spelling; embeddings, scores and votes where they are given), is fitted on some
prompt groups and asked about the others, so that no pair, nor a sibling of it, teaches the model
its own label. What a fitted model says of pairs that it was fitted on is worth nothing here: it
learns the wrong labels by heart.

With z the log-odds that it holds out and e the rate of flips (`fit_margins` of flip_rate, on z), a
label is taken to follow

    P(label) = (1 - e) sigmoid(u z) + e sigmoid(-u z),      z oriented to the label,

and so a pair was flipped with probability P(flipped | label, z) = e sigmoid(-u z) / P(label).

Source: the out-of-fold use follows Northcutt, Jiang, Chuang (2021), Confident Learning; that an
over-fitted scorer hides flips is shown by Wang et al. (2024), Secrets of RLHF in Large Language
Models Part II. The model of e is that of flip_rate; the combination is own.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, log_expit

from prefdata import tables
from prefdata.errors import RecipeError, nearest
from prefdata.estimate._evidence import Evidence, Seen, gather
from prefdata.estimate._given import named, refuse_unknown
from prefdata.estimate._held_out import drawn, fit_held_out
from prefdata.estimate._margins import Rate, fit_margins
from prefdata.estimate._narrow import evidence_of, narrow
from prefdata.estimate.flip_rate import measures
from prefdata.stage import Asks, Model, Parts, keys, whole
from prefdata.tables import Completions, Measures, Pairs, Prompts, Ratings, Scores, Votes

SCOPE = "all"

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
OPTIMIZE: Any = optimize

# A rate of 0 would tell no two pairs apart.
LEAST = 1e-4


def label_error(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    scores: Scores | None = None,
    votes: Votes | None = None,
    ratings: Ratings | None = None,
    *,
    model: Model | None = None,
    with_prompt: bool = False,
    texts: Seen = "all",
    margins: Sequence[str] = (),
    annotators: Sequence[str] = (),
    raters: Sequence[str] = (),
    n_folds: int = 10,
    seed: int = 0,
) -> Asks[tuple[Scores, Measures]]:
    """Score each pair's `label_error`, P(the label is the wrong way round), in [0, 1].

    Measures, of subject "label_error": `flip_rate` with its interval; `labels_against_evidence`,
    the expected share of labels that go against the likelier side, flips and honest ambiguity
    together; `held_out_accuracy` and `held_out_log_loss` (nats) of the model on the labels as they
    are. Where the flip rate is not identifiable it is null, and pairs are scored with its best
    guess: their order is still right, their level is not to be trusted.

    The pairs of one prompt, or of prompts that share a `group`, are in one fold. With a single
    group nothing can be held out: no score, and measures that say so. Of more than 200,000 pairs
    the models and the rate are fitted on so many, drawn by lot, and all are scored.

    Options:
    - `model`: one that embeds; without it only the texts are seen, their traits and spelling.
    - `with_prompt`: embed prompt and completion together, not the completion alone.
    - `texts`: what of the texts is evidence beside that: all, their lengths, or nothing. Without a
      model and with lengths or nothing a few numbers of each pair are held, however many there are.
    - `margins`: scores of pairs, higher where the chosen side is better, to use as evidence.
    - `annotators`: those whose votes are evidence; not those whose votes made the labels.
    - `raters`: those whose ratings are evidence.
    - `n_folds`: parts of which each is judged by a model of the others.
    - `seed`: of the folds.

    Raises `RecipeError` for fewer than 2 folds and for a score or annotator that is not there.
    """
    steps = in_parts(
        model=model, with_prompt=with_prompt, texts=texts, margins=margins,
        annotators=annotators, raters=raters, n_folds=n_folds, seed=seed,
    )  # fmt: skip
    if steps is not None:
        return whole(steps, pairs, prompts, completions, scores, votes, ratings)
    seen = yield from gather(
        pairs, prompts, completions, scores, votes, ratings=ratings, raters=raters,
        model=model, with_prompt=with_prompt, margins=margins, annotators=annotators,
        texts=texts,
    )  # fmt: skip
    found, told = _found(seen, n_folds, seed)
    if found is None:
        return Scores(tables.union("scores", scores, where="estimate.label_error")), told
    made = _scores(seen.pairs["pair_id"], found.flipped, model)
    both = tables.union("scores", scores, made, where="estimate.label_error")
    return Scores(both), told


def in_parts(
    *,
    model: Model | None = None,
    with_prompt: bool = False,
    texts: Seen = "all",
    margins: Sequence[str] = (),
    annotators: Sequence[str] = (),
    raters: Sequence[str] = (),
    n_folds: int = 10,
    seed: int = 0,
) -> Parts[tuple[Scores, Measures]] | None:
    """The same in parts, where no model is asked and of texts no more is seen than lengths."""
    if n_folds < 2:
        raise RecipeError(f"estimate.label_error: n_folds = {n_folds}; it is at least 2")
    if texts not in get_args(Seen):
        raise RecipeError(
            f"estimate.label_error: texts = {texts!r}; {nearest(texts, get_args(Seen))}"
        )
    if model is not None or texts == "all":
        return None
    how = {"margins": margins, "annotators": annotators, "raters": raters}
    return _parts(how, with_lengths=texts == "lengths", n_folds=n_folds, seed=seed)


def _parts(
    how: Mapping[str, Sequence[str]], *, with_lengths: bool, n_folds: int, seed: int
) -> Parts[tuple[Scores, Measures]]:
    if any(how.values()):
        refuse_unknown((yield _named), **how)
    rows = yield partial(narrow, with_lengths=with_lengths, **how)
    seen = evidence_of(rows)
    del rows
    found, told = _found(seen, n_folds, seed)
    flipped = None if found is None else seen.pairs.with_columns(value=pl.Series(found.flipped))
    return partial(_of_shard, flipped=flipped, told=told)


def _named(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    scores: Scores | None,
    votes: Votes | None,
    ratings: Ratings | None,
) -> pl.DataFrame:
    return named(scores, votes, ratings)


def _of_shard(
    pairs: Pairs,
    prompts: Prompts,
    completions: Completions,
    scores: Scores | None,
    votes: Votes | None,
    ratings: Ratings | None,
    *,
    flipped: pl.DataFrame | None,
    told: Measures,
) -> tuple[Scores, Measures]:
    where = "estimate.label_error"
    if flipped is None:
        return Scores(tables.union("scores", scores, where=where)), told
    own = pairs.select("pair_id", key=keys(pairs["pair_id"])).sort("pair_id")
    own = own.join(flipped, on="key", how="left", maintain_order="left")
    made = _scores(own["pair_id"], own["value"].to_numpy(), None)
    return Scores(tables.union("scores", scores, made, where=where)), told


def _found(seen: Evidence, n_folds: int, seed: int) -> "tuple[Errors | None, Measures]":
    """What is known of each label, and the measures; None where nothing can be held out."""
    n_groups = len(np.unique(seen.groups))
    if n_groups < 2:
        note = f"{n_groups} prompt groups: nothing can be held out"
        nothing = Rate(np.nan, 0.0, 0.5, len(seen.x), note)
        return None, Measures(measures("flip_rate", [("label_error", nothing)]))
    z = fit_held_out(seen, n_folds=min(n_folds, n_groups), seed=seed).z
    found = fit_errors(z, seed=seed)
    return found, _measures(z, found)


class Errors(NamedTuple):
    """What held-out log-odds say of labels.

    `flipped` is each label's probability to be flipped, `against` the probability of the side
    that is less likely to be chosen again, `rate` that of flips.
    """

    flipped: Floats
    against: Floats
    rate: Rate


def fit_errors(z: Floats, *, seed: int = 0) -> Errors:
    """From held-out log-odds, oriented to the labels, to the probability of each label's flip."""
    rate, guess, u = fit_margins(z[drawn(len(z), seed)][:, None])
    e = max(guess, LEAST)
    right, wrong = expit(u * z), expit(-u * z)
    observed = (1 - e) * right + e * wrong
    return Errors(e * wrong / observed, np.minimum(observed, 1 - observed), rate)


def _scores(ids: pl.Series, flipped: Floats, model: Model | None) -> Scores:
    return Scores(
        pl.DataFrame({"subject_id": ids}).with_columns(
            subject=pl.lit("pair"),
            score=pl.lit("label_error"),
            model=pl.lit(model.name if model else None, pl.String),
            value=pl.Series(flipped),
            stderr=pl.lit(None, pl.Float64),
            request_id=pl.lit(None, pl.String),
        )
    )


def _measures(z: Floats, found: Errors) -> Measures:
    means = {
        "labels_against_evidence": found.against,
        "held_out_accuracy": (np.sign(z) + 1) / 2,
        "held_out_log_loss": -log_expit(z),
    }
    rows = [
        {"measure": name, "subject": "label_error", "value": float(each.mean()), "n": len(each)}
        for name, each in means.items()
    ]
    told = pl.DataFrame(rows, schema=tables.schema("measures").dtypes)
    return Measures(pl.concat([measures("flip_rate", [("label_error", found.rate)]), told]))
