"""How far to trust a version, as Markdown for its card: what was measured, and what was not."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from prefdata.tables import VALUES
from prefdata.version.glance import first_preferred, longer_preferred, principles_as_one
from prefdata.version.markdown import grid, interval, literal, number, plural

MEASURES_SHOWN = 40


def trust(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    """What is unscored, the noise, the measures with their intervals, and what votes follow."""
    shares = [
        (
            each["table"],
            literal(each["annotator"]),
            each["rows"],
            each["unscored"],
            f"{each['share']:.1%}",
        )
        for each in unscored(frames)
    ]
    parts: list[str] = []
    if shares:
        parts.append(grid(("table", "annotator", "rows", "unscored", "share"), shares))
    if said := _noise(manifest["noise"]):
        parts.append(said)
    if "measures" in frames:
        measures, shown = frames["measures"], some_of_each(frames["measures"], MEASURES_SHOWN)
        rows = [
            (
                row["measure"],
                literal(row["subject"]),
                number(row["value"]),
                interval(row),
                row["n"],
                literal(row["note"] or ""),
            )
            for row in shown.to_dicts()
        ]
        parts.append(grid(("measure", "of", "value", "95 % interval", "rows", "note"), rows))
        if measures.height > shown.height:
            parts.append(f"{measures.height - shown.height:,} more in `measures.parquet`.")
    else:
        parts.append("Nothing was measured: neither agreement nor position bias is known.")
    return "\n\n".join([*parts, *_moved(frames)])


def _moved(frames: Mapping[str, pl.DataFrame]) -> list[str]:
    """What each annotator's votes follow beside quality, as they can be counted."""
    counted = {
        "the side shown first": first_preferred(frames),
        "the longer side": longer_preferred(frames),
    }
    rows = [
        (
            literal(each.of),
            what,
            f"{each.value:.1%}",
            " to ".join(f"{x:.1%}" for x in each.interval),
            each.n,
        )
        for what, shares in counted.items()
        for each in shares
    ]
    if not rows:
        return []
    said = (
        "Of votes that are no ties, how many are for the side shown first, and for the longer one:"
    )
    return [said, grid(("annotator", "prefers", "share", "95 % interval", "votes"), rows)]


def _noise(noise: Mapping[str, Any]) -> str:
    """How many labels are estimated to be wrong, and what was done about it."""
    rates, done = noise.get("flip_rate", ()), noise.get("label_smoothing", ())
    used = {each["subject"]: each for each in done if each["n"]}
    lines = [
        f"Labels that are the wrong way round, by {each['subject']}: {_rate(each)}"
        f"{'; ' + each['note'] if each['note'] else ''}."
        for each in rates
    ]
    if "flipped" in noise:
        lines.append(f"{plural(noise['flipped'], 'pairs')} had the label turned round.")
    if each := used.get("order.soften"):
        lines.append(
            f"The column `soft_label` is smoothed by {_rate(each)}, {each['note']}: a loss that "
            "takes it needs no label smoothing of its own."
        )
    if each := used.get("order.robust_weights"):
        lines.append(
            f"`robust_weight` and `robust_weight_flipped` are those of a rate of {_rate(each)}, "
            f"{each['note']}."
        )
    if not used and any(each["value"] for each in rates):
        lines.append("Nothing was smoothed by it: give a loss the rate as its `label_smoothing`.")
    return "\n".join(f"- {line}" for line in lines)


def _rate(row: Mapping[str, Any]) -> str:
    """A rate with its interval, as "12.3% (95 % interval 10.1% to 14.8%)"."""
    ends = [row["low"], row["high"]]
    said = "not known" if row["value"] is None else f"{row['value']:.1%}"
    return said if None in ends else f"{said} (95 % interval {ends[0]:.1%} to {ends[1]:.1%})"


def some_of_each(measures: pl.DataFrame, n: int) -> pl.DataFrame:
    """About `n` rows in order: of every measure one, then of each as many, unknown values last."""
    rank = pl.int_range(pl.len()).over("measure")
    unknown = pl.col("value").is_null()
    ranked = measures.sort("measure", unknown, "subject").with_columns(rank=rank)
    some = ranked.sort(pl.col("rank") > 0, unknown, "rank", "measure")
    shown = some.head(max(n, measures["measure"].n_unique())).drop("rank")
    return shown.sort("measure", "subject")


def unscored(frames: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Rows without a value, by table and annotator: `table, annotator, rows, unscored, share`."""
    found: list[dict[str, Any]] = []
    for name, column in VALUES.items():
        if name not in frames:
            continue
        missing = pl.col(column).is_null()
        by = (
            frames[name]
            .group_by(principles_as_one())
            .agg(rows=pl.len(), unscored=missing.sum(), share=missing.mean())
        )
        found += [{"table": name, **row} for row in by.sort("annotator").to_dicts()]
    return found
