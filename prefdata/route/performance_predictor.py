"""Rows for people that make the mix of labels which a reward model would learn most from.

Where people and models have labelled the same rows, mixes of the two are drawn, a reward model (or
its proxy) learns from each and is scored on held-out rows with people's labels. A predictor of that
performance from the tags of the rows that people labelled then says what a person's label would add
on rows that nobody has labelled yet.

Source: Miranda et al. 2024, "Hybrid Preferences: Learning to Route Instances for Human vs. AI
Feedback".
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.estimate._evidence import folds, gather
from prefdata.route._budget import Budget, check, expected_rows, open_rows, spend
from prefdata.route._groups import By, prompt_of
from prefdata.route._mixes import candidates, gains, simulated, slopes
from prefdata.route._people import compared
from prefdata.route._predictors import Kind, Tried, compare, fit, trees_there
from prefdata.route._proxy import Evaluate, Head, plugged_in, preference_head
from prefdata.route._tags import tags_of, varying
from prefdata.stage import Asks, Model, PlugIn
from prefdata.tables import SIDES, Assignments, Completions, Measures, Pairs, Prompts, Scores, Votes

SCOPE = "all"  # a budget is one for all rows

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Choice = Literal["gains", "simulated"]
SIMULATED = 500  # more hardly help, says the source
WHERE = "route.performance_predictor"


def performance_predictor(
    votes: Votes,
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs | None = None,
    scores: Scores | None = None,
    *,
    budget: Budget,
    model: Model | None = None,
    features: Sequence[str] = (),
    by: Sequence[By] = ("tags",),
    min_rows: int = 5,
    label: str | None = None,
    head: Head = "linear",
    evaluate: PlugIn | None = None,
    choice: Choice = "gains",
    predictors: Sequence[Kind] = ("linear", "ridge", "quadratic", "trees"),
    n_mixes: int = 200,
    held_out: float = 0.3,
    n_folds: int = 10,
    annotator: str = "human",
    seed: int = 0,
) -> Asks[tuple[Assignments, Measures]]:
    """Assign the rows whose people's labels a reward model would gain most by.

    `gain` is what the predicted performance, in [0, 1], rises by with a person's label on the row.
    It needs rows with both people's and models' votes, of two prompt groups or more: without them
    gains are not known and the rows are drawn by lot.

    Measures: `mix_rank_correlation` of each predictor, Spearman's between performances and what it
    says of mixes that it was not fitted on, with its interval (the note says which is used: no
    gain is better than that); `mix_performance` of people's labels alone and of models' alone;
    `tag_gain`, subject the tag, of a person's label on one more row of it. n: mixes.

    Options:
    - `budget`: one of `rows`, `share` (of the rows) and `money`, the last with `price`: what a row
      costs, a number or the name of a score about pairs; `audit` is the share drawn at random.
    - `model`: one that embeds completions, for the proxy; without it traits and spelling of the
      texts stand for vectors.
    - `features`: scores of pairs that make tags by thirds, as those of `route.features`.
    - `by`: what of a prompt makes tags too: "tags", "source", "group".
    - `min_rows`: rows with a tag, and without it, that make it count.
    - `label`: the annotator whose verdict is the models'; default their mean verdict.
    - `head`: "linear" or "mlp": what learns from mixes.
    - `evaluate`: a function of your own in its place, "module:function", installed or beside the
      recipe: `evaluate(mix, held_out)` is given two tables with `pair_id`, `prompt`, `chosen` and
      `rejected` (messages), trains what it likes on the one and says how good it is on the other.
      It is asked about the same mixes each time, so it may keep what it has found; no `plan` asks.
    - `choice`: "gains" assigns the rows of the highest gain, at the mix that they make; "simulated"
      those of the best of 500 simulated mixes, all at the same gain.
    - `predictors`: which are tried; "trees" needs scikit-learn.
    - `n_mixes`: mixes that are drawn and learnt from, at least 10.
    - `held_out`: the share of rows with people's labels that is held out of all mixes, in (0, 1).
    - `n_folds`: parts of the mixes of which each is predicted from the others.
    - `annotator`: who is asked: a kind, or one by name; its kind are the people.
    - `seed`: of mixes, folds, rows drawn at random and ties.

    Raises `RecipeError` for an option out of range, a score that is not there, a label of an
    annotator without votes, trees without scikit-learn, and a function that gives no number.
    """
    if n_mixes < 10 or n_folds < 2 or not 0 < held_out < 1 or not predictors or min_rows < 1:
        raise RecipeError(
            f"{WHERE}: n_mixes = {n_mixes}, n_folds = {n_folds}, held_out = {held_out}, min_rows = "
            f"{min_rows}, predictors = {list(predictors)}; expected at least 10, at least 2, a "
            "share between 0 and 1, at least 1, and one or more"
        )
    if evaluate is not None and model is not None:
        raise RecipeError(
            f"{WHERE}: a model is for the proxy, whose place {evaluate.name} takes; leave one out"
        )
    if "trees" in predictors:
        trees_there()  # before anything is asked
    known = labelled(votes, annotator, label)
    seen = yield from gather(
        pairs_of(known, known["person"].to_numpy()), prompts, completions, None, None,
        model=model, with_prompt=False, margins=(), annotators=(),
        texts="all" if model is None and evaluate is None else "none",
    )  # fmt: skip
    known = known.sort("pair_id")
    is_aside = folds(seen.groups, _parts(held_out, seen.groups), seed) == 0
    train, aside = known.filter(~is_aside), known.filter(is_aside)
    sure, judged = (pairs_of(rows, rows["person"].to_numpy()) for rows in (train, aside))
    if evaluate is None:
        ids, x = known["pair_id"], seen.x
        performance = preference_head(ids, x, seen.groups, sure=sure, head=head, seed=seed)
    else:
        performance = plugged_in(evaluate, prompts, completions)
    return by_performance(
        votes, prompts, pairs, scores, train, judged, performance,
        budget=budget, features=features, by=by, min_rows=min_rows, choice=choice,
        predictors=predictors, n_mixes=n_mixes, n_folds=n_folds, annotator=annotator, seed=seed,
    )  # fmt: skip


def labelled(votes: Votes, annotator: str, label: str | None) -> pl.DataFrame:
    """`prompt_id`, sides, `pair_id` and the codes `label` and `person` of rows that have both.

    A tie of a person says nothing to a head, and such a row is left out.
    """
    rows = compared(votes, annotator, label, WHERE).drop_nulls("person")
    rows = prompt_of(rows.filter(pl.col("person") != 0), votes)
    return rows.with_columns(tables.pair_ids(rows["completion_a"], rows["completion_b"]))


def pairs_of(rows: pl.DataFrame, codes: NDArray[Any]) -> Pairs:
    """The rows as pairs by codes of labels; a tie is none."""
    a, b = pl.col("completion_a"), pl.col("completion_b")
    won = pl.Series("won", codes, pl.Int8)
    told = rows.with_columns(won).filter(pl.col("won") != 0)
    return Pairs(
        told.select(
            "pair_id",
            "prompt_id",
            chosen_id=pl.when(pl.col("won") > 0).then(a).otherwise(b),
            rejected_id=pl.when(pl.col("won") > 0).then(b).otherwise(a),
        )
    )


def by_performance(
    votes: Votes,
    prompts: Prompts,
    pairs: Pairs | None,
    scores: Scores | None,
    train: pl.DataFrame,
    held_out: Pairs,
    evaluate: Evaluate,
    *,
    budget: Budget,
    features: Sequence[str],
    by: Sequence[By],
    min_rows: int,
    choice: Choice = "gains",
    predictors: Sequence[Kind],
    n_mixes: int,
    n_folds: int,
    annotator: str,
    seed: int,
) -> tuple[Assignments, Measures]:
    """The same with a performance of your own: `evaluate(mix, held_out)`, pairs of either.

    A stage of your own calls this with a function that trains a reward model on the pairs of a mix
    and scores it; `train` are rows of `labelled` that may be in mixes.
    """
    check(budget, WHERE)
    asked = open_rows(votes, pairs, annotator)
    both = pl.concat([train.select(*SIDES, "pair_id"), asked])
    names, member = tags_of(both, votes, prompts, scores, features=features, by=by, where=WHERE)
    kept = varying(member[: train.height], min_rows)
    kept_names: list[str] = [names[at] for at in kept.tolist()]
    member = member[:, kept]
    own, theirs = member[: train.height], member[train.height :]
    if not kept_names or not held_out.height:
        blank = asked.with_columns(gain=pl.lit(None, pl.Float64))
        made = spend(
            blank, scores,
            budget=budget, annotator=annotator, reason=_REASON, seed=seed, where=WHERE,
        )  # fmt: skip
        return made, Measures(tables.empty("measures"))
    draw = np.random.default_rng(seed)
    masks = candidates(own, n_mixes, draw)
    person, label = (train[name].to_numpy() for name in ("person", "label"))
    performance = np.array(
        [evaluate(pairs_of(train, np.where(mask, person, label)), held_out) for mask in masks]
    )
    counts = masks.astype(np.float64) @ own
    tried = compare(predictors, counts, performance, n_folds=n_folds, seed=seed)
    predict = fit(tried[0].kind, counts, performance, seed=seed)
    n = expected_rows(asked, scores, budget, WHERE)
    scale = train.height / max(asked.height, 1)
    spread = counts.std(0)
    if choice == "gains":
        gain = scale * gains(predict, theirs, n, spread, scale)
    else:
        gain = simulated(predict, theirs, n, SIMULATED, draw, scale)
    made = spend(
        asked.with_columns(gain=pl.Series(gain).fill_nan(None)), scores,
        budget=budget, annotator=annotator, reason=_REASON, seed=seed, where=WHERE,
    )  # fmt: skip
    at = own.sum(0) * n / max(asked.height, 1)
    return made, _measures(tried, performance, kept_names, slopes(predict, at, spread))


_REASON = "performance_predictor"


def _parts(share: float, groups: NDArray[np.int64]) -> int:
    """Folds of which one is about this share of the rows."""
    return max(2, min(round(1 / share), int(groups.max(initial=0)) + 1))


def _measures(
    tried: Sequence[Tried], performance: Floats, names: Sequence[str], slope: Floats
) -> Measures:
    n = len(performance)
    used = [f"used; root mean square error {tried[0].error:.3f} standard deviations"]
    others = [f"root mean square error {each.error:.3f} standard deviations" for each in tried[1:]]
    rows = [
        {
            "measure": "mix_rank_correlation", "subject": each.kind, "value": each.correlation,
            "low": each.low, "high": each.high, "note": note, "n": n,
        }
        for each, note in zip(tried, [*used, *others], strict=True)
    ]  # fmt: skip
    rows += [
        {"measure": "mix_performance", "subject": who, "value": float(performance[at]), "n": n}
        for at, who in enumerate(("models", "people"))
    ]
    rows += [
        {"measure": "tag_gain", "subject": name, "value": float(each), "n": n}
        for name, each in zip(names, slope, strict=True)
    ]
    return tables.typed(Measures, pl.DataFrame(rows, infer_schema_length=None))
