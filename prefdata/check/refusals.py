"""Completions that refuse: in chosen they teach to refuse, in rejected to do anything."""

import polars as pl

from prefdata.check.data import SIDES, Whole
from prefdata.check.finding import Check, Tally, counted

MOST = 0.01
BEGINNING = 300  # characters: a refusal says so at once
_NOT = (
    r"(?:can(?:'|’)?t|cannot|can not|am unable to|(?:'|’)m unable to|won(?:'|’)t|will not"
    r"|am not able to|(?:'|’)m not able to)"
)
_DO = (
    r"(?:assist|help|provide|fulfill|comply|do that|answer|support|engage|create|generate|write"
    r"|give|share|discuss)"
)
REFUSES = (
    r"(?i)\bi(?:(?:'|’)?m| am) (?:really |very |so )?sorry,? but"
    rf"|\bi ?{_NOT} {_DO}|\bi must decline\b"
    rf"|\bas an ai(?: language)?(?: model)?,? i ?(?:{_NOT}|am not|do not|don(?:'|’)t)\b"
    r"|\b(?:it is|it(?:'|’)s) (?:not appropriate|against my) "
)


def refusals(data: Whole) -> Check:
    """Completions that begin with a refusal; above 1 % of all it is a warning."""
    refuses = pl.col("text").str.head(BEGINNING).str.contains(REFUSES)
    tally = Tally()
    while part := (yield):
        tally.add(part.completions.filter(refuses), part.completions)
    shares = {side: tally.n_by[side] / max(tally.of_by[side], 1) for side in SIDES}
    return counted(
        "refusals",
        tally,
        f"completions that refuse: {shares['chosen']:.1%} of the chosen, {shares['rejected']:.1%} "
        "of the rejected",
        "look at their prompts: harmless ones are refused for nothing, and teach just that",
        level="warning",
        most=MOST,
    )
