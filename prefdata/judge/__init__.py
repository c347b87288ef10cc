"""Judges: what is asked of a model, which verdicts it may give, and what they are worth."""

from prefdata.judge.asking import ask
from prefdata.judge.judge import Judge, Verdict, load, names
from prefdata.judge.jury import Jury, Member

__all__ = ["Judge", "Jury", "Member", "Verdict", "ask", "load", "names"]
