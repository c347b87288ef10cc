"""Pairs whose two sides are the same text: they teach nothing, and their label is a coin."""

from prefdata.check.data import Data, plain
from prefdata.check.finding import Finding, counted, skipped


def identical(data: Data) -> Finding:
    """Pairs that differ in nothing, or only in case, spacing or forms of one letter."""
    if data.kind != "preference":
        return skipped("identical", "rows have one side")
    same = plain("chosen_text") == plain("rejected_text")
    rows = data.paired.filter(same & (plain("chosen_text") != ""))
    return counted(
        "identical",
        rows.select("place", text="chosen_text"),
        data.paired.height,
        "pairs whose sides are the same text but for case and spacing",
        "drop them: select.distinct with case_counts = false",
    )
