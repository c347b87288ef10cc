"""The manager of CritiQ: who writes criteria, says what misled one, and writes it anew."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefdata import tables
from prefdata.annotate._by_principle import numbered
from prefdata.explain import _cluster
from prefdata.explain._asking import ask_lists, by_label, question
from prefdata.explain._tally import AGAINST, INVALID
from prefdata.explain._tried import Tried
from prefdata.judge import Form, ask
from prefdata.judge.form import Text, Texts
from prefdata.judge.transcript import asking, one_line
from prefdata.stage import Asks, Model
from prefdata.tables import Messages

_SYSTEM = "You find the criteria by which somebody prefers one reply to another."
_ONE = "a sentence of at most 30 words that says what the better reply of two is like"
_SHORT = Form({"text": Text(600)}, "none", 160)


def reasons_why(rows: pl.DataFrame, model: Model, reask: bool) -> Asks[list[str]]:
    """Why each preferred completion is better, in the order of the rows, where it can be read."""
    task = "Somebody preferred one of two replies to a prompt. Say in one or two sentences why."
    shown = [question(_SYSTEM, [task], each, _SHORT) for each in by_label(rows)]
    heard = yield from _said(pl.DataFrame({"row": range(len(shown))}), shown, model, reask)
    return heard.sort("row")["raw"].to_list()


def new_criteria(
    reasons: Sequence[str],
    held: Mapping[str, str],
    banned: Mapping[str, str],
    n: int,
    model: Model,
    reask: bool,
) -> Asks[list[str]]:
    """Up to n criteria that are not held and were not banned."""
    if n < 1 or not reasons:
        return []
    form = Form({"criteria": Texts(n)}, "none", 60 * n)
    lines = [
        "Here is why somebody preferred one reply to another, several times:",
        numbered(reasons),
        f"Name {n} criteria by which they seem to choose, each of them {_ONE}. They are to hold "
        "for any prompt.",
    ]
    for said, texts in (("They differ from", held.values()), ("These were wrong", banned)):
        if texts:
            lines += [f"{said}:", numbered(sorted(texts))]
    messages = [asking(_SYSTEM, [*lines, form.wording])]
    found = yield from ask_lists(form, messages, model, reask=reask)
    known = {_cluster.plain(text) for text in (*held, *held.values(), *banned)}
    texts = _cluster.distinct(found)
    return [text for text in texts if _cluster.plain(text) not in known][:n]


def mended(
    tried: Tried,
    weak: Mapping[str, str],
    banned: Mapping[str, str],
    held: Mapping[str, str],
    most: int,
    model: Model,
    reask: bool,
) -> Asks[dict[str, str]]:
    """A new version of each weak criterion, by its first one; a reply goes by what was asked."""
    shown = by_label(tried.rows)
    places = [(name, row) for name, text in weak.items() for row in tried.wrong(text, most)]
    asked = pl.DataFrame(places, {"name": pl.String, "row": pl.Int64}, orient="row")
    said = {AGAINST: "the other one was better", INVALID: "no verdict could be read"}
    questions: list[list[dict[str, str]]] = []
    for name, row in places:
        found = said.get(int(tried.cells[weak[name]][row]), "it told neither from the other")
        lines = [
            "A criterion is to tell which of two replies to a prompt somebody preferred.",
            f"The criterion: {one_line(weak[name])}",
            f"Judged by it, {found}. Say in one or two sentences what in the criterion led there, "
            "and how to mend it.",
        ]
        questions.append(question(_SYSTEM, lines, shown[row], _SHORT))
    critiques = yield from _said(asked, questions, model, reask)
    of = dict(critiques.sort("name", "row").group_by("name").agg("raw").rows())
    again = [name for name in weak if name in of]
    form = Form({"text": Text(300)}, "none", 120)
    orders = [
        asking(
            _SYSTEM,
            [
                "A criterion is to tell which of two replies to a prompt somebody preferred, and "
                f"was wrong at times. The criterion: {one_line(weak[name])}",
                f"Critiques:\n{numbered(of[name])}",
                f"Write it anew, as {_ONE}, so that it holds for any prompt.",
                form.wording,
            ],
        )
        for name in again
    ]
    written = yield from _said(pl.DataFrame({"name": again}), orders, model, reask, form)
    taken = {_cluster.plain(text) for text in (*held.values(), *banned)}
    made: dict[str, str] = {}
    for name, text in written.sort("name").select("name", "raw").rows():
        clean = " ".join(text.split())
        if _cluster.plain(clean) not in taken:
            made[name] = clean
            taken.add(_cluster.plain(clean))
    return made


def _said(
    rows: pl.DataFrame, messages: Sequence[Messages], model: Model, reask: bool, form: Form = _SHORT
) -> Asks[pl.DataFrame]:
    """The rows whose question got an answer, with it as `raw`."""
    if rows.is_empty():
        return rows.with_columns(raw=pl.lit(None, pl.String))
    frame = rows.with_columns(tables.conversations("messages", messages), draw=pl.lit(0, pl.Int64))
    heard = yield from ask([(form, frame)], model, reask=reask)
    return heard.filter(pl.col("unscored").is_null()).select(*rows.columns, "raw")
