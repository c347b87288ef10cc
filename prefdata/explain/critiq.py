"""CritiQ: criteria for preferences, found and mended on some thirty labelled comparisons.

A *manager* writes criteria and *workers* judge by them, without knowing a label.

1. Criteria of a knowledge base are tried on the comparisons, and the best are taken; the manager,
   who is told which completion was preferred and says why, adds what is missing to `n_criteria`.
2. Workers judge each comparison by each criterion. With the n comparisons that it decides, rightly
   or wrongly, and those that cannot be read, which count as wrong,

       accuracy = right / n,   coverage = decided / all

3. A criterion with accuracy of at least `good` is kept as it is. One of at most `bad` is banned for
   good, and the manager writes another one. Any other is mended: the manager says of each
   comparison that it got wrong what misled it, and writes it anew from these critiques.
4. After `epochs` of this the best version of each criterion counts, if it is good.

A criterion that decides few comparisons has any accuracy by chance: below `min_coverage` it is
mended, and never good. Of thirty comparisons a criterion that is right in 0.65 shows 0.75 or more
one time in eight, so accuracies have intervals, and what the criteria are worth is to be measured
on other comparisons (`annotate.criteria_votes` on pairs with the score `critiq_held_out`).

Source: Guo et al. 2025, "CritiQ: Mining Data Quality Criteria from Human Preferences"; prompts in
our own words.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata import tables
from prefdata.annotate._by_principle import check
from prefdata.errors import RecipeError
from prefdata.explain import _cluster
from prefdata.explain._labelled import labelled, marks, with_held_out
from prefdata.explain._manager import mended, new_criteria, reasons_why
from prefdata.explain._panel import first_by_seed
from prefdata.explain._tried import Tried
from prefdata.judge import Judge
from prefdata.stage import Asks, Model
from prefdata.tables import (
    Completions,
    Dropped,
    Measures,
    Pairs,
    Principles,
    Prompts,
    Scores,
    Votes,
    digest,
)

SCOPE = "all"
MORE = 1.0


def critiq(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    *,
    judge: Judge,
    model: Model,
    manager: Model | None = None,
    knowledge: Sequence[str] = (),
    n_criteria: int = 10,
    n_pairs: int = 30,
    epochs: int = 2,
    good: float = 0.75,
    bad: float = 0.5,
    min_coverage: float = 0.3,
    max_critiques: int = 5,
    both_orders: bool = True,
    per_call: int = 20,
    reask: bool = True,
    seed: int = 0,
) -> Asks[tuple[Principles, Votes, Scores, Measures, Dropped]]:
    """The criteria that are good, as principles, ranked by the lower end of their interval.

    All versions' votes are there, as `principle:<id>/<model>`. Criteria that were banned, or are
    not good in the end, are in `dropped` with the reason. The score `critiq_held_out` of a pair is
    1 if its prompt group was not looked at. Where pairs contradict each other the more frequent
    label holds; pairs that answer different prompts are left out.

    Measures, subject the criterion's annotator: `criterion_accuracy` and `criterion_coverage`, in
    [0, 1], of the comparisons that were looked at; of those that chose it, so the accuracy is too
    high.

    judge: a pairwise judge with "tie" and "N/A", such as "principles"; the criteria stand where its
        own would.
    model: who judges (the workers).
    manager: who writes criteria and critiques; null: `model`.
    knowledge: criteria to try first. None is taken untried.
    n_criteria: how many are held at a time.
    n_pairs: how many comparisons are looked at.
    epochs: how often criteria are mended and replaced.
    good: the least accuracy of a criterion that is kept, in (`bad`, 1].
    bad: the greatest accuracy of one that is banned, in [0, 1).
    min_coverage: the least share of comparisons that a good one decides, in [0, 1].
    max_critiques: of so many wrong comparisons at most a criterion gets critiques in an epoch.
    both_orders: a worker decides a comparison only if it does so in both orders; false: one order,
        with the chosen one first in every second comparison.
    per_call: at most so many criteria in one call.
    reask: ask once more, with the complaint, where a reply cannot be read.
    seed: what the comparisons and orders come from.
    """
    check(judge, per_call, "explain.critiq")
    _check(good, bad, min_coverage, n_criteria, n_pairs, epochs, max_critiques)
    writer = manager or model
    rows = labelled(pairs, prompts, completions)
    share = max(0.0, 1 - n_pairs / max(rows.height, 1))
    rows = with_held_out(rows, share, "group", seed)
    train = first_by_seed(rows.filter(~pl.col("held_out")), n_pairs, seed)
    tried = Tried(judge, model, train, both_orders, per_call, reask, seed)
    mark = (good, bad, min_coverage)

    held: dict[str, str] = {}  # by its first version, the one that holds now
    best: dict[str, str] = {}
    banned: dict[str, str] = {}  # with the reason
    spare: dict[str, str] = {}
    yield from tried.on(_cluster.distinct(knowledge))
    for text in sorted(tried.cells, key=lambda t: (-tried.score(t, min_coverage), digest(seed, t))):
        if tried.status(text, *mark) == "low":
            banned[text] = tried.why(text)
        elif len(held) == n_criteria:
            spare[text] = f"others are better: {tried.why(text)}"
        else:
            held[text] = text
    reasons = yield from reasons_why(train, writer, reask)
    for epoch in range(epochs + 1):
        new = yield from new_criteria(reasons, held, banned, n_criteria - len(held), writer, reask)
        held |= {text: text for text in new}
        yield from tried.on(list(held.values()))
        for name, text in held.items():
            before = best.get(name, text)
            if tried.score(text, min_coverage) >= tried.score(before, min_coverage):
                best[name] = text
        if epoch == epochs:
            break
        status = {name: tried.status(text, *mark) for name, text in held.items()}
        for name in [each for each, said in status.items() if said == "low"]:
            for text in {name, best.pop(name), held.pop(name)}:
                banned[text] = tried.why(text)
        weak = {name: held[name] for name, said in status.items() if said == "mid"}
        better = yield from mended(tried, weak, banned, held, max_critiques, writer, reask)
        held |= better

    ranked = sorted(best.values(), key=lambda t: (-tried.lower(t), digest("principle", t)))
    kept = [text for text in ranked if tried.status(text, *mark) == "good"]
    lost = {text: tried.why(text) for text in ranked if text not in kept}
    return (
        Principles(tried.principles(kept)),
        Votes(pl.concat(tried.votes)),
        Scores(marks(pairs, rows, "critiq_held_out")),
        Measures(tried.measures(kept)),
        Dropped(_dropped({**spare, **banned, **lost})),
    )


def _check(good: float, bad: float, min_coverage: float, *least_one: int) -> None:
    names = ("n_criteria", "n_pairs", "epochs", "max_critiques")
    for name, number in zip(names, least_one, strict=True):
        least = 0 if name == "epochs" else 1
        if number < least:
            raise RecipeError(f"explain.critiq: {name} = {number}; it is at least {least}")
    if not 0 <= bad < good <= 1:
        raise RecipeError(f"explain.critiq: bad = {bad}, good = {good}; 0 <= bad < good <= 1")
    if not 0 <= min_coverage <= 1:
        raise RecipeError(f"explain.critiq: min_coverage = {min_coverage}; it is in [0, 1]")


def _dropped(reasons: Mapping[str, str]) -> pl.DataFrame:
    rows = [
        ("principles", digest("principle", text), "explain.critiq", f"{why}: {text}")
        for text, why in sorted(reasons.items())
    ]
    columns = ("table", "key", "stage", "reason")
    frame = pl.DataFrame(rows, dict.fromkeys(columns, pl.String), orient="row")
    return tables.typed(Dropped, frame)
