"""Ask a judge which of two completions each of several principles speaks for, in one call.

The principles are listed by number where the judge's own criterion would stand. Each has a key in
the reply or, where it is to be short, its number in one of the lists of the values. A principle in
the list is a text of others: it is one line, and harmless.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil

import polars as pl

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.judge import TOKENS_A_KEY, Form, Judge, ask
from prefdata.judge.lists import Lists
from prefdata.judge.transcript import one_line
from prefdata.stage import Asks, Model

SHOWN = ["prompt", "said_first", "said_second"]


def check(judge: Judge, per_call: int, stage: str) -> None:
    judge.must_be("pairwise", stage, instead=', such as "principles"')
    if per_call < 1:
        raise RecipeError(f"{stage}: per_call = {per_call}; it is at least 1")


def with_lists(rows: pl.DataFrame, ids: Sequence[str], most: int) -> list[pl.DataFrame]:
    """The rows with `listed`, once for each of the lists of at most so many ids."""
    lists = [pl.Series([some], dtype=pl.List(pl.String)) for some in chunked(ids, most)]
    return [rows.with_columns(listed=pl.lit(some).first()) for some in lists]


def chunked(ids: Sequence[str], most: int) -> list[Sequence[str]]:
    """The ids in as few lists of at most so many as there can be, all about equally long."""
    n_lists = max(1, ceil(len(ids) / most))
    size = max(1, ceil(len(ids) / n_lists))
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def ask_by_principle(
    rows: pl.DataFrame,
    principles: Mapping[str, str],
    judge: Judge,
    model: Model,
    *,
    reask: bool,
    by_lists: bool = False,
) -> Asks[pl.DataFrame]:
    """Votes of `principle:<principle_id>/<model>`, one for each row and each id in its `listed`.

    Rows have `draw`, `a_first` and `prompt, said_first, said_second`; what else they have tells
    them apart. If `by_lists`, a reply names under each value the principles that have it. Added are
    `principle_id`, `preference` of a, and what else a vote has.
    """
    asked: list[tuple[Form, pl.DataFrame]] = []
    for (n,), mine in rows.group_by(pl.col("listed").list.len(), maintain_order=True):
        scale, room = judge.criteria[0].scale, judge.max_tokens + TOKENS_A_KEY * int(str(n))
        shape = Lists if by_lists else Form
        form = shape.numbered(scale, int(str(n)), judge.reason, room)
        said = {
            tuple(ids): numbered(principles[each] for each in ids)
            for ids in mine["listed"].unique().to_list()
        }
        messages = [
            judge.render(*shown, wording=form.wording, criteria=said[tuple(ids)])
            for *shown, ids in mine.select(*SHOWN, "listed").rows()
        ]
        kept = mine.drop(SHOWN)
        asked.append((form, kept.with_columns(tables.conversations("messages", messages))))
    heard = yield from ask(asked, model, reask=reask)
    votes = heard.with_columns(
        principle_id=pl.col("listed").list.get(pl.col("key").cast(pl.Int64) - 1),
        preference=pl.when("a_first").then("worth").otherwise(1 - pl.col("worth")),
        criterion=pl.lit(judge.criteria[0].name),
    )
    who = pl.concat_str(pl.lit("principle:"), "principle_id", pl.lit(f"/{model.name}"))
    return votes.with_columns(annotator=who).drop("listed", "key", "worth", "raw")


def numbered(texts: Iterable[str]) -> str:
    """Texts of others as a numbered list, each on one line."""
    return "\n".join(f"{at}. {one_line(text)}" for at, text in enumerate(texts, 1))
