"""Inverse constitutional AI: the few principles that explain the preferences of a dataset.

1. *Propose*: a model sees a pair and which of the two was preferred, and names rules that would
   have preferred it.
2. *Deduplicate*: doubles go; the rest are embedded and clustered, and one of each cluster stays.
3. *Vote*: a judge says of each comparison, without knowing its label, which side each principle
   speaks for. In every draw the principles stand in another order.
4. *Filter*: with n the comparisons of a principle, it is kept if it is more often for than against
   the label, for in at least `min_relevance` n, and mostly readable.
5. *Cap*: at most `max_principles`, ranked by for - against: of the best 1.5 times as many, the
   worse of the two that are most alike gives way until so many are left.

Whichever completion is first is balanced twice. In the first draw the chosen one is first in just
half of the comparisons, and each later draw turns the order round. So a judge that follows the
place is never for a principle more often than against it, and where draws must be unanimous it is
silent.

What costs is asked only where it matters. A draw is not asked again for a principle and a
comparison that earlier draws have settled, which changes nothing. And principles are dropped after
a part of the comparisons once a test tells that they would not be kept; the chance that this drops
one that would have been is at most `error` for each.

The preset "lean" asks in fewer and shorter calls. It asks a pair for six principles, but only until
there are three times as many as it votes on; it puts many to the vote at once, is told only the
numbers of those that speak for a reply, and votes twice. Since the second draw turns the places
round, what two draws agree on does not follow the place; three in random places stand the same way
round in one of four comparisons.

Source: Findeis et al. 2024, "Inverse Constitutional AI: Compressing Preferences into Principles";
prompts in our own words. Preset "paper" is that of its experiments, "current" that of its later
code, "lean" is ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Literal, NamedTuple

import polars as pl

from prefdata import tables
from prefdata.annotate._by_principle import check
from prefdata.errors import RecipeError
from prefdata.explain import _cluster, _tally
from prefdata.explain._asking import ask_lists, by_label, question
from prefdata.explain._labelled import Apart, labelled, marks, with_held_out
from prefdata.explain._panel import Panel, first_by_seed
from prefdata.explain._standing import as_principles
from prefdata.explain._tally import Combine
from prefdata.judge import Form, Judge
from prefdata.judge.form import Texts
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

Preset = Literal["current", "paper", "lean"]


class Search(NamedTuple):
    """What a preset asks.

    `asked`: the questions about each pair, each for `per_question` principles. `draws`: how often a
    comparison is voted on; `per_call`: by at most so many principles in a call; `by_lists`: whether
    a reply lists their numbers. `spare`: so many principles are proposed for each that is voted on;
    None: all comparisons are asked about.
    """

    asked: tuple[str, ...]
    per_question: int
    draws: int
    per_call: int
    by_lists: bool = False
    spare: float | None = None


_GENERAL = "what the preferred reply does, says or is like that the other is not"
_BAD = "what is bad about the other reply that the preferred one does not do"
PRESETS: Mapping[Preset, Search] = {
    "current": Search((_GENERAL,), 3, draws=3, per_call=40),
    "paper": Search((_GENERAL, _BAD), 2, draws=1, per_call=40),
    "lean": Search((_GENERAL,), 6, draws=2, per_call=150, by_lists=True, spare=3.0),
}
_SYSTEM = "You find the rules by which somebody prefers one reply to another."
# Comparisons before the first test; each later test is after twice as many.
FIRST_LOOK = 50
TOKENS_A_PRINCIPLE = 40


def icai(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    *,
    judge: Judge,
    model: Model,
    proposer: Model | None = None,
    embedder: Model | None = None,
    preset: Preset = "current",
    held_out: float = 0.3,
    apart: Apart = "group",
    max_proposed_from: int | None = None,
    clusters: int | None = None,
    draws: int | None = None,
    combine: Combine = "unanimous",
    per_call: int | None = None,
    min_relevance: float = 0.1,
    max_principles: int | None = None,
    error: float = 0.01,
    reask: bool = True,
    seed: int = 0,
) -> Asks[tuple[Principles, Votes, Scores, Measures, Dropped]]:
    """Principles, ranked, with the votes of each on the comparisons as `principle:<id>/<model>`.

    Counts are of comparisons after their draws are combined; a tie and nothing to say are both
    `abstain`. A principle that is not kept is in `dropped` with the reason; its votes stay, for
    they say what the search looked through (`measure.constitution`). The score `icai_held_out` of a
    pair is 1 where it was kept aside: no principle was proposed from it or chosen by it. Principles
    that are kept vote on these too. Pairs that answer different prompts are left out.

    Measures, subject "icai": `principles_proposed`, `principles_distinct`, `principles_voted`,
    `principles_kept`, numbers; n: the comparisons they are from.

    judge: a pairwise judge; the principles stand where its own criterion would. "principles" knows
        ties, "principles-plain" does not.
    model: who votes.
    proposer: who proposes; null: `model`.
    embedder: one that embeds the principles; null: they are told apart by their words.
    preset: "current": one question a pair for three principles, three draws; "paper": two, one of
        them for what is bad about the other reply, for two principles each, and one draw; "lean":
        one question for six and two draws, in fewer calls about more principles.
    held_out: the share of prompt groups that is kept aside, in [0, 1).
    apart: "group"; or "comparison", where a few prompts have all of them: single comparisons are
        then kept aside.
    max_proposed_from: principles are proposed from so many comparisons at most; null: from all, or
        with "lean" from as many as give three proposals for each of `clusters`.
    clusters: principles that stay before voting; null: 4 n^(2/3) for n comparisons, which is about
        what the source takes for each of its datasets, and as many more as fill the calls.
    draws: votes on each comparison; null: the preset's.
    combine: how draws become one: "unanimous" or "majority".
    per_call: at most so many principles in one call; null: 40, or 150 with "lean".
    min_relevance: the least share of comparisons that a principle is for, in [0, 1].
    max_principles: keep at most so many; null: all.
    error: the chance that an early test drops a principle that would be kept, at most; 0: no tests.
    reask: ask once more, with the complaint, where a reply cannot be read.
    seed: what orders and the part that is held out come from.
    """
    search = PRESETS[preset]
    per_call = search.per_call if per_call is None else per_call
    draws = search.draws if draws is None else draws
    check(judge, per_call, "explain.icai")
    _check(held_out, min_relevance, error, max_principles, clusters, draws, max_proposed_from)
    rows = with_held_out(labelled(pairs, prompts, completions), held_out, apart, seed)
    train = rows.filter(~pl.col("held_out"))

    n_clusters = clusters or per_call * max(1, ceil(4 * train.height ** (2 / 3) / per_call))
    if max_proposed_from is None and search.spare is not None:
        a_pair = len(search.asked) * search.per_question
        max_proposed_from = ceil(search.spare * n_clusters / a_pair)
    shown = first_by_seed(train, max_proposed_from, seed)
    proposed = yield from _proposals(shown, search, proposer or model, reask)
    texts = _cluster.distinct(proposed)
    vectors = yield from _cluster.embedded(texts, embedder)
    voted = _cluster.one_of_each(texts, vectors, n_clusters, proposed)
    known = {digest("principle", text): text for text in voted}

    panel = Panel(judge, model, known, per_call, reask, seed, search.by_lists)
    looks = list(_looks(train.height)) if error else [train.height]
    cells, votes = yield from panel.vote(train, draws, combine, min_relevance, error, looks)
    counted = pl.DataFrame({"principle_id": list(known), "principle": voted}, _NAMED)
    counted = pl.concat([counted, _tally.counts(cells)], how="horizontal")
    why = _tally.verdicts(counted, min_relevance)
    ranked = counted.with_columns(reason=why).sort(
        [pl.col("reason").is_not_null(), pl.col("against") - pl.col("for"), "principle_id"]
    )
    kept = ranked.filter(pl.col("reason").is_null())
    if max_principles is not None:
        best = kept["principle"].head(int(1.5 * max_principles)).to_list()
        most = _cluster.unlike(best, vectors, max_principles)
        kept = kept.filter(pl.col("principle").is_in(most))
    gone = ranked.join(kept, on="principle_id", how="anti", maintain_order="left")

    aside = rows.filter("held_out")
    ids = kept["principle_id"].to_list()
    _, outside = yield from panel.only(ids).vote(aside, draws, combine, 0.0, 0.0, [aside.height])
    numbers = (len(proposed), len(texts), len(voted), kept.height)
    return (
        Principles(as_principles(kept)),
        Votes(pl.concat([votes, outside])),
        Scores(marks(pairs, rows, "icai_held_out")),
        Measures(_measures(numbers, (shown.height, shown.height, train.height, train.height))),
        Dropped(_dropped(gone)),
    )


_NAMED = {"principle_id": pl.String, "principle": pl.String}


def _check(
    held_out: float,
    min_relevance: float,
    error: float,
    *least_one: int | None,
) -> None:
    names = ("max_principles", "clusters", "draws", "max_proposed_from")
    for name, number in zip(names, least_one, strict=True):
        if number is not None and number < 1:
            raise RecipeError(f"explain.icai: {name} = {number}; it is at least 1")
    if not 0 <= held_out < 1:
        raise RecipeError(f"explain.icai: held_out = {held_out}; it is at least 0 and below 1")
    if not 0 <= min_relevance <= 1:
        raise RecipeError(f"explain.icai: min_relevance = {min_relevance}; it is in [0, 1]")
    if not 0 <= error < 0.5:
        raise RecipeError(f"explain.icai: error = {error}; it is at least 0 and below 0.5")


def _proposals(rows: pl.DataFrame, search: Search, model: Model, reask: bool) -> Asks[list[str]]:
    """What the model says to each question about each comparison, where it can be read."""
    if rows.is_empty():
        return []
    n = search.per_question
    form = Form({"principles": Texts(n)}, "none", TOKENS_A_PRINCIPLE * n)
    questions = [
        question(_SYSTEM, _task(about), shown, form)
        for about in search.asked
        for shown in by_label(rows)
    ]
    return (yield from ask_lists(form, questions, model, reask=reask))


def _task(about: str) -> list[str]:
    return [
        "Somebody preferred one of two replies to a prompt. Which rules could have led them? Name "
        f"rules about {about}.",
        'Each rule begins with "Select the reply that", has at most ten words more, holds for any '
        "prompt where it applies, and speaks of what differs between these two.",
    ]


def _looks(n: int) -> Iterator[int]:
    """After how many comparisons there is a test; the last is at the end."""
    look = FIRST_LOOK
    while look < n:
        yield look
        look *= 2
    yield n


def _measures(numbers: Sequence[int], of: Sequence[int]) -> pl.DataFrame:
    names = ("proposed", "distinct", "voted", "kept")
    rows = [
        {"measure": f"principles_{name}", "subject": "icai", "value": float(number), "n": n}
        for name, number, n in zip(names, numbers, of, strict=True)
    ]
    return pl.DataFrame(rows, tables.schema("measures").dtypes)


def _dropped(gone: pl.DataFrame) -> pl.DataFrame:
    why = pl.coalesce("reason", pl.lit("beyond max_principles, or like a better one"))
    text = pl.concat_str(why, pl.lit(" comparisons: "), "principle")
    return tables.typed(
        Dropped,
        gone.select(
            table=pl.lit("principles"),
            key="principle_id",
            stage=pl.lit("explain.icai"),
            reason=pl.when(pl.col("reason").is_null())
            .then(pl.concat_str(why, pl.lit(": "), "principle"))
            .otherwise(text),
        ),
    )
