"""Every error of prefdata, as a tree.

    PrefdataError
      RecipeError        a recipe, option or name is wrong: found before any request
      SourceError        the rows of a source contradict each other or cannot be read
      TableError         a table breaks its schema
      JudgeError         a judge file is wrong
      ConvergenceError   an estimate did not converge
      ModelError         a model cannot be reached or used at all
      BudgetError        the budget does not allow the next request
      VersionError       a version is absent, damaged or of another kind
      PushError          a version may not leave, or the Hub does not take it
      SandboxError       a program cannot be run in isolation, and is not run

A message names the place, what was expected, what was found, and what to do.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class PrefdataError(Exception):
    """Whatever prefdata raises on purpose; the command line prints it without a traceback."""


class RecipeError(PrefdataError):
    """A recipe, option or name is wrong; nothing was spent."""


class SourceError(PrefdataError):
    """A source cannot be read, or its rows contradict each other."""


class TableError(PrefdataError):
    """A table breaks its schema."""


class JudgeError(PrefdataError):
    """A judge file is wrong."""


class ConvergenceError(PrefdataError):
    """An estimate did not converge; carries what was reached."""


class ModelError(PrefdataError):
    """A model cannot be reached or used at all."""


class BudgetError(PrefdataError):
    """The budget does not allow the next request."""


class VersionError(PrefdataError):
    """A version is absent, damaged or of another kind."""


class PushError(PrefdataError):
    """A version may not leave, or the Hub does not take it."""


class SandboxError(PrefdataError):
    """A program cannot be run in isolation on this machine, and is not run."""


def nearest(found: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    close = get_close_matches(found, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there is: {', '.join(names)}" if names else "there is none"


def counted(n: int, one: str) -> str:
    """2 and "request" as "2 requests"."""
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}s"


def found_in(complaint: Mapping[str, Any]) -> str:
    """The end of a complaint of pydantic: the value that was found, where that is a single one.

    A check of prefdata's own (a `value_error`) has said it already; its value may be the name of a
    file in which the fault is.
    """
    is_single = isinstance(complaint["input"], str | int | float)
    said = complaint["type"] in ("value_error", "missing", "extra_forbidden") or not is_single
    return "" if said else f", found {complaint['input']!r:.80}"
