"""Asking a model what a form asks and reading what it says: what stages with judges share."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from prefdata import tables
from prefdata.judge import verdict
from prefdata.judge.form import Form
from prefdata.judge.scale import NOT_APPLICABLE
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Requests, Responses

Asked = Sequence[tuple[Form, pl.DataFrame]]
_OPINION = {
    "key": pl.List(pl.String),
    "worth": pl.List(pl.Float64),
    "raw": pl.List(pl.String),
    "unscored": pl.List(pl.String),
}


def ask(asked: Asked, model: Model, *, reask: bool) -> Asks[pl.DataFrame]:
    """Ask by each form what its frame shows; the frames' rows, once for each key of the form.

    A frame has the columns `messages` and `draw` and whatever tells its rows apart; added are
    `request_id`, `key`, `worth`, `raw`, `rationale` and `unscored`. If `reask`, a reply without a
    verdict is asked for once more, with the complaint, and the row is then all about the
    second reply. A failed request ("error: ...") and a refusal are not asked again.
    """
    heard = yield from _round(asked, model)
    if reask:
        again = [(form, _again(form, rows)) for (form, _), rows in zip(asked, heard, strict=True)]
        if any(rows.height for _, rows in again):
            second = yield from _round(again, model)
            heard = [rows.filter(~pl.col("again")) for rows in heard] + second
    return pl.concat(heard).drop("messages", "reply", "why", "again").explode(*_OPINION)


def say(rows: pl.DataFrame, model: Model, *, max_tokens: int) -> Asks[pl.DataFrame]:
    """Ask for a text by `messages` and `draw`; the rows with it as `said`.

    It is null where the request failed or the text is blank.
    """
    options = {"max_tokens": max_tokens}
    asked = requests(model, "text", rows["messages"], draw=rows["draw"], options=options)
    responses = yield asked
    text = pl.col("text").str.strip_chars()
    told = responses.filter(pl.col("error").is_null() & (text != ""))
    rows = rows.with_columns(asked["request_id"])
    told = told.select("request_id", said=text)
    rows = rows.join(told, on="request_id", how="left", maintain_order="left")
    return rows.drop("request_id")


def _round(asked: Asked, model: Model) -> Asks[list[pl.DataFrame]]:
    wanted = [
        requests(model, "text", rows["messages"], draw=rows["draw"], options=_options(form, model))
        for form, rows in asked
    ]
    responses = yield Requests(pl.concat(wanted))
    both = zip(asked, wanted, strict=True)
    return [_heard(form, rows, ids["request_id"], responses) for (form, rows), ids in both]


def _options(form: Form, model: Model) -> dict[str, Any]:
    is_bounded = "max_completion_tokens" in model.options  # which is its bound by another name
    bound = {} if is_bounded else {"max_tokens": form.max_tokens}
    return {**bound, **model.options, "schema": form.schema}


def _heard(form: Form, rows: pl.DataFrame, ids: pl.Series, responses: Responses) -> pl.DataFrame:
    """The rows with what their responses say, in lists over the keys."""
    said = responses.select("request_id", "text", "finish_reason", "error")
    replies = pl.DataFrame(ids).join(said, on="request_id", how="left", maintain_order="left")
    keys = replies.drop("request_id").rows()
    read = {key: _opinion(form, *key) for key in set(keys)}
    types = {**_OPINION, "rationale": pl.String, "why": pl.String, "again": pl.Boolean}
    cells = (pl.Series(name, [read[key][name] for key in keys], t) for name, t in types.items())
    return rows.with_columns(ids, replies["text"].alias("reply"), *cells)


def _opinion(
    form: Form, text: str | None, finish_reason: str | None, error: str | None
) -> dict[str, Any]:
    heard = form.read(text, finish_reason)
    why = heard.unscored if error is None else f"error: {error}"
    blank = [None] * len(form.keys)
    inapplicable = ("not applicable" if raw == NOT_APPLICABLE else None for raw in heard.raws)
    return {
        "key": list(form.keys),
        "worth": blank if why else heard.worths,
        "raw": blank if why else heard.raws,
        "unscored": [why] * len(blank) if why else list(inapplicable),
        "rationale": text if why else heard.reason,
        "why": why,
        "again": why in verdict.CURABLE,
    }


def _again(form: Form, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows to ask once more, with the messages that do so."""
    rows = rows.filter("again")
    both = rows.select("messages", "reply", "why").rows()
    messages = [form.again(asked, reply, why) for asked, reply, why in both]
    added = ("request_id", "reply", "why", "again", "rationale", *_OPINION)
    return rows.drop(*added).with_columns(tables.conversations("messages", messages))
