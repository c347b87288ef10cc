"""Rate completions by how much they are about the question: the regularised relevance reward.

Without any preferences, from a retriever's vectors E (their dot product) and counts of words:

    open question:    R = E(prompt) . E(completion) * (words / 100) * (unique / all trigrams)
    closed question:  R = F(E(reference) . E(completion)) * (unique / all trigrams)

Each factor stops a way to cheat the others: a copied question is relevant but short, repetition is
long but not varied, rambling is long but about something else. Length is no merit where there is a
right answer. F brings the one scale to the other: linear, so that the 5 and 95 % quantiles of the
closed scores become those of the open ones.

Source: Kim et al. 2024, "Rethinking the role of proxy rewards in language model alignment"; their
F is not published, this one is ours, and so is a ratio of 1 for texts of less than three words.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.annotate._rewards import above_zero, answered, scores, votes
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Prompts, Requests, Responses, Scores, Votes, text_of

# The scale of closed questions is that of all open ones.
SCOPE = "all"
LOW, HIGH = 0.05, 0.95


def relevance(
    prompts: Prompts,
    completions: Completions,
    *,
    model: Model,
    closed: bool = True,
    temperature: float | None = None,
    criterion: str = "relevance",
) -> Asks[tuple[Scores, Votes]]:
    """Each completion's `relevance`, its factors, and votes from the differences.

    Scores about completions: `relevance` (any real number), `relevance_dot` (the dot product with
    the prompt or the reference), `relevance_length` (words / 100), `relevance_variety` (0 to 1, 1
    for fewer than three words). About the annotator: `relevance_low_open`, `relevance_high_open`,
    `relevance_low_closed`, `relevance_high_closed`, the anchors of F, where there are questions of
    both kinds; without open ones F changes nothing. Votes are by `reward:<model>/relevance`,
    without an order. Where a vector failed there is no score, and the votes are unscored.

    model: one that embeds, best a retriever whose vectors are not brought to length 1.
    closed: a prompt with a reference is a closed question; false: all are open.
    temperature: P(a preferred) = sigmoid(difference / temperature); null: votes are 1, 1/2 or 0.
    criterion: what the votes are said to be about.

    Raises `RecipeError` for a temperature that is not above 0.
    """
    above_zero("relevance", temperature=temperature)
    rows = answered(completions, prompts)
    has_reference = pl.col("reference").fill_null("").str.strip_chars() != ""
    rows = rows.with_columns(is_closed=has_reference if closed else pl.lit(False))
    reference = tables.conversations(
        "about", ([{"role": "user", "content": each or ""}] for each in rows["reference"])
    )
    rows = rows.with_columns(reference).with_columns(
        about=pl.when("is_closed").then("about").otherwise("prompt")
    )
    asked = [requests(model, "embedding", rows[column]) for column in ("about", "completion")]
    responses = yield Requests(pl.concat(asked))
    rows = _with_terms(rows, asked, responses)
    anchors = _anchors(rows["open"], rows.filter("is_closed")["dot"])
    rows = rows.with_columns(value=_value(anchors))
    annotator = f"reward:{model.name}/relevance"
    known = rows.filter(pl.col("value").is_not_null())
    made = [
        scores(known, "relevance" + name, model.name, column=column)
        for name, column in (
            ("", "value"),
            ("_dot", "dot"),
            ("_length", "length"),
            ("_variety", "variety"),
        )
    ]
    if anchors:
        made.append(_about(annotator, model.name, anchors))
    voted = votes(rows, annotator=annotator, criterion=criterion, temperature=temperature)
    return Scores(pl.concat(made)), Votes(voted)


def _with_terms(
    rows: pl.DataFrame, asked: Sequence[Requests], responses: Responses
) -> pl.DataFrame:
    """The rows with `dot`, `unscored`, `length`, `variety` and, of open questions, `open`."""
    vectors = responses.select("request_id", "vector", "error")
    about, said = (
        each.select("request_id").join(vectors, on="request_id", how="left", maintain_order="left")
        for each in asked
    )
    dots, reasons = _dots(about, said)
    words = (
        text_of("completion")
        .str.to_lowercase()
        .str.extract_all(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}'’-]*")
    )
    rows = rows.with_columns(
        dot=pl.Series(dots, dtype=pl.Float64),
        unscored=pl.Series(reasons, dtype=pl.String),
        words=words,
    )
    rows = rows.with_columns(length=pl.col("words").list.len() / 100, variety=_variety(rows))
    product = pl.col("dot") * pl.col("length") * pl.col("variety")
    return rows.with_columns(open=pl.when(~pl.col("is_closed")).then(product))


def _value(anchors: Mapping[str, float]) -> pl.Expr:
    """The reward; a closed question's dot product is brought to the scale of the open ones."""
    matched = pl.col("dot")
    if anchors:
        span = anchors["high_open"] - anchors["low_open"]
        width = anchors["high_closed"] - anchors["low_closed"]
        share = (pl.col("dot") - anchors["low_closed"]) / width
        matched = anchors["low_open"] + share * span
    return pl.when("is_closed").then(matched * pl.col("variety")).otherwise("open")


def _dots(one: pl.DataFrame, other: pl.DataFrame) -> tuple[list[float | None], list[str | None]]:
    """The dot product of each two vectors, null with a reason where there is none."""
    values: list[float | None] = []
    reasons: list[str | None] = []
    for a, b, error in zip(
        one["vector"].to_list(),
        other["vector"].to_list(),
        one.select(each=pl.coalesce("error", other["error"]))["each"].to_list(),
        strict=True,
    ):
        if error or a is None or b is None or len(a) != len(b):
            values.append(None)
            reasons.append(f"error: {error or 'the model gave no two vectors of one length'}")
        else:
            values.append(float(np.dot(a, b)))
            reasons.append(None)
    return values, reasons


def _variety(rows: pl.DataFrame) -> pl.Series:
    """The share of a text's trigrams that are different ones."""
    return pl.Series([_unique(words) for words in rows["words"].to_list()], dtype=pl.Float64)


def _unique(words: Sequence[str]) -> float:
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def _anchors(opened: pl.Series, closed: pl.Series) -> dict[str, float]:
    """The quantiles that F brings together; none where one kind is missing or all the same."""
    made: dict[str, float] = {}
    for kind, values in (("open", opened), ("closed", closed)):
        for name, share in (("low", LOW), ("high", HIGH)):
            value = values.quantile(share, "linear")
            if value is None:
                return {}
            made[f"{name}_{kind}"] = value
    return made if made["high_closed"] > made["low_closed"] else {}


def _about(annotator: str, model: str, values: dict[str, float]) -> pl.DataFrame:
    made = pl.DataFrame(
        {"score": [f"relevance_{n}" for n in values], "value": list(values.values())}
    )
    return made.select(
        subject_id=pl.lit(annotator),
        subject=pl.lit("annotator"),
        score="score",
        model=pl.lit(model),
        value="value",
        stderr=pl.lit(None, pl.Float64),
        request_id=pl.lit(None, pl.String),
    ).select(*tables.schema("scores").columns)
