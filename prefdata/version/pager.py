"""Pairs to page through, without a script: texts, votes and reasons of one at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefdata.tables import written
from prefdata.version.charts import named, said
from prefdata.version.samples import tally

VOTES = 40  # of a pair, that are shown
TEXT, REASON = 4000, 600  # characters of a text and of a reason that are shown


def pager(pairs: Sequence[Mapping[str, Any]]) -> str:
    """A radio button for each pair of `sample_pairs`; only the chosen one's pair is shown."""
    shown = "\n".join(_pair(pair, at, len(pairs)) for at, pair in enumerate(pairs))
    return f'<div class="pager">{shown}</div>'


def _pair(pair: Mapping[str, Any], at: int, n: int) -> str:
    margin = "" if pair["margin"] is None else f"margin {pair['margin']:.3g}, "
    fell = ", ".join(f"{side} {k}" for side, k in tally(pair["votes"]).items())
    label = f"{margin}soft label {pair['soft_label']:.3f}, {pair['n_votes']} scored votes"
    label += f" ({fell})" if fell else ""
    before = f'<label for="pair{at - 1}">previous</label>' if at else "<span></span>"
    after = f'<label for="pair{at + 1}">next</label>' if at + 1 < n else "<span></span>"
    votes = "".join(_vote(vote) for vote in pair["votes"][:VOTES])
    if (more := len(pair["votes"]) - VOTES) > 0:
        votes += f'<li class="faint">{more:,} more are in <code>votes.parquet</code></li>'
    told = f'<ul class="votes">{votes}</ul>' if votes else "<p>none</p>"
    reasons = "".join(_reason(each) for each in pair["rationales"])
    why = f'<h3>Why</h3><ul class="votes">{reasons}</ul>' if reasons else ""
    joint = "The two answer different prompts."
    prompt = joint if pair["prompt"] is None else _text(pair["prompt"])
    sides = "".join(
        f"<div><h3>{side.capitalize()}</h3>"
        f'<div class="text {side}" dir="auto">{_text(pair[side])}</div></div>'
        for side in ("chosen", "rejected")
    )
    checked = "" if at else " checked"
    named = f'id="pair{at}" aria-label="pair {at + 1} of {n}"{checked}'
    return (
        f'<input type="radio" name="pair" {named}>\n'
        f'<article><div class="turn">{before}<span>{at + 1} of {n}</span>{after}</div>'
        f'<p class="faint small">pair {said(pair["pair_id"])}: {said(label)}</p>'
        f'<h3>Prompt</h3><div class="text" dir="auto">{prompt}</div>'
        f'<div class="sides">{sides}</div>{why}<h3>Votes</h3>{told}</article>'
    )


def _vote(vote: Mapping[str, Any]) -> str:
    """Who said what, and why; a reason is a text of a model or a person."""
    why = said(_cut(vote["rationale"] or vote["unscored"] or "", REASON))
    reason = f'<div class="small" dir="auto">{why}</div>' if why else ""
    whose = named(f"{vote['annotator']} on {vote['criterion']}")
    return f"<li><b>{said(vote['says'])}</b> by {whose}{reason}</li>"


def _reason(rationale: Mapping[str, Any]) -> str:
    whose = said(f"{rationale['kind']}, by {rationale['annotator']}")
    text = said(_cut(rationale["rationale"], REASON))
    return f'<li><b>{whose}</b><div class="small">{text}</div></li>'


def _text(messages: Sequence[Mapping[str, str]] | None) -> str:
    return said(_cut(written(messages or ()), TEXT))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"
