"""What checks make findings of: rows with a fault, counted, and the first of them shown."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence

import polars as pl

from prefdata.check.data import Data
from prefdata.finding import EXAMPLES, Finding, Level

SHOWN = 160  # characters of an example

# A check is sent the parts of the data, then None, and returns what it found.
Check = Generator[None, Data | None, Finding]
Checks = Generator[None, Data | None, list[Finding]]  # of several findings


class Tally:
    """Rows with a fault over all parts: `n` of `of`, of each side too, and the first examples.

    Rows have `place` and, under the name `text`, what is shown; those of completions a `side`.
    """

    def __init__(self) -> None:
        self.n = self.of = 0
        self.n_by, self.of_by = Counter[str](), Counter[str]()
        self._first: dict[str, list[Mapping[str, str]]] = {}

    def add(self, rows: pl.DataFrame, among: pl.DataFrame | int, *, text: str = "text") -> None:
        """Count `rows` of `among`, rows or how many."""
        self.n += rows.height
        if isinstance(among, int):
            self.of += among
        else:
            self.of += among.height
            self.of_by.update(_sides(among))
        self.n_by.update(_sides(rows))
        sided = rows if "side" in rows.columns else rows.with_columns(side=pl.lit(""))
        for (side,), own in sided.group_by("side", maintain_order=True):
            first = self._first.setdefault(str(side), [])
            first += examples(own.head(EXAMPLES - len(first)), text)

    @property
    def examples(self) -> tuple[Mapping[str, str], ...]:
        """The first, those of chosen sides before those of rejected ones."""
        return tuple(each for side in sorted(self._first) for each in self._first[side])[:EXAMPLES]


def _sides(rows: pl.DataFrame) -> dict[str, int]:
    if "side" not in rows.columns:
        return {}
    return dict(rows.group_by("side").len().iter_rows())


def examples(rows: pl.DataFrame, text: str = "text") -> list[Mapping[str, str]]:
    """Rows as examples."""
    said = rows.select("place", pl.col(text).fill_null("")).iter_rows()
    return [{"place": str(place), "text": shown(str(text))} for place, text in said]


def counted(
    check: str,
    tally: Tally,
    says: str,
    advice: str,
    *,
    level: Level = "error",
    most: float = 0.0,
    first: Sequence[Mapping[str, str]] | None = None,
) -> Finding:
    """A finding of rows that have a fault: `level` where their share is above `most`.

    `first` are its examples where they are not the first rows.
    """
    bad = tally.n > most * tally.of
    return Finding(
        check,
        level if bad else "ok",
        says,
        advice if tally.n else "",
        tally.n,
        tally.of,
        tally.examples if first is None else tuple(first),
    )


def skipped(check: str, why: str) -> Finding:
    return Finding(check, "skipped", why)


def shown(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
