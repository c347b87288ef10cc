"""What checks make findings of: rows with a fault, counted, and the first of them shown."""

import polars as pl

from prefdata.finding import EXAMPLES, Finding, Level

SHOWN = 160  # characters of an example


def counted(
    check: str,
    rows: pl.DataFrame,
    of: int,
    says: str,
    advice: str,
    *,
    level: Level = "error",
    text: str = "text",
    most: float = 0.0,
) -> Finding:
    """A finding of rows that have a fault: `level` where their share is above `most`.

    `rows` has `place` and, under the name `text`, what is shown of an example.
    """
    n = rows.height
    bad = n > most * of
    examples = tuple(
        {"place": str(place), "text": shown(str(said))}
        for place, said in rows.select("place", text).head(EXAMPLES).iter_rows()
    )
    return Finding(check, level if bad else "ok", says, advice if n else "", n, of, examples)


def skipped(check: str, why: str) -> Finding:
    return Finding(check, "skipped", why)


def shown(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
