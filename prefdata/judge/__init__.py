"""Judges: what is asked of a model, which verdicts it may give, and what they are worth."""

from prefdata.judge.asking import ask, say
from prefdata.judge.form import Form, Verdict
from prefdata.judge.judge import LETTERS, TOKENS_A_KEY, Judge, load, names
from prefdata.judge.jury import Jury, Member

__all__ = [
    "LETTERS",
    "TOKENS_A_KEY",
    "Form",
    "Judge",
    "Jury",
    "Member",
    "Verdict",
    "ask",
    "load",
    "names",
    "say",
]
