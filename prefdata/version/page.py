"""The page of a version: its constitution; how each score is distributed, what a filter by it kept.

One file of HTML with its figures drawn in it: no script, nothing fetched, light or dark as the
reader's machine is. All that a figure shows is also written beside it in numbers.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prefdata.errors import counted
from prefdata.version.constitution import ABOUT, FIGURES, Standing, standing

Floats = NDArray[np.float64]

BINS = 24
# Of so many values on, those beyond the outer quantiles stand in the first and last bar.
MANY, OUTER = 200, 0.005
MOST_SCORES = 24
SHOWN = (0.05, 0.25, 0.5, 0.75, 0.95)
WIDTH, HEIGHT, FOOT, TOP = 640, 220, 34, 30

STYLE = """
:root { color-scheme: light dark; --ink: #1b1d21; --paper: #ffffff; --faint: #5d636d;
  --line: #c9cdd4; --kept: #1f5fa8; --dropped: #c98a2b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #15171a; --faint: #a3a9b3;
  --line: #43484f; --kept: #7db4f0; --dropped: #e0b060; } }
body { background: var(--paper); color: var(--ink); max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; } code { font-size: 0.95em; }
h1, h2, p { overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--faint); font-size: 13px; }
@media (max-width: 36rem) { h1 { font-size: 1.5rem; } svg text { font-size: 22px; } }
.kept { fill: var(--kept); } .dropped { fill: var(--dropped); }
.axis { stroke: var(--line); } .faint { color: var(--faint); }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.15rem 0.8rem 0.15rem 0;
  border-bottom: 1px solid var(--line); }
th, td { vertical-align: top; } th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.key { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.3em; }
.key.kept { background: var(--kept); } .key.dropped { background: var(--dropped); }
"""


@dataclass(frozen=True)
class Distribution:
    """One score's values of the rows that are in the version and of those that are not."""

    score: str
    subject: str
    model: str | None
    kept: Floats
    dropped: Floats


def page(manifest: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    """report.html for a version with principles or scores; empty where there are none."""
    found, principles = distributions(frames), standing(frames)
    if not found and not principles:
        return ""
    name = _said(f"{manifest['name']}@{manifest['id']}")
    described = f"<p>{_said(manifest['description'])}</p>" if manifest.get("description") else ""
    more = len(found) - MOST_SCORES
    rest = f"<p>{more} more scores are in <code>scores.parquet</code>.</p>" if more > 0 else ""
    key = (
        '<p><span class="key kept"></span>in this version, <span class="key dropped"></span>'
        "scored and then dropped.</p>\n"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{name}</h1>\n{described}\n{_constitution(principles)}{key if found else ''}"
        + "\n".join(_section(each) for each in found[:MOST_SCORES])
        + f"\n{rest}\n</main>\n</body>\n</html>\n"
    )


def _constitution(principles: list[Standing]) -> str:
    """The principles as a table, each with what shows it under its figures."""
    if not principles:
        return ""
    head = "".join(f"<th>{_said(each)}</th>" for each in ("principle", *FIGURES))
    rows: list[str] = []
    for each in principles:
        figures = "".join(f"<td>{_said(figure)}</td>" for figure in each.figures)
        shown = "".join(
            f'<br><span class="faint">{kind}: {_said(one)} <em>over</em> {_said(other)}</span>'
            for kind, (one, other) in each.examples.items()
        )
        text = f"{each.rank}. {_said(each.principle)}{shown}"
        rows.append(f"<tr><td>{text}</td>{figures}</tr>")
    return (
        f"<section>\n<h2>Constitution</h2>\n<p>{_said(ABOUT)}</p>\n<table><thead><tr>{head}</tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>\n</section>\n"
    )


def distributions(frames: Mapping[str, pl.DataFrame]) -> list[Distribution]:
    """The scores about rows, those about pairs first, by name and model."""
    if "scores" not in frames:
        return []
    there = {
        subject: frames[table][key].implode()
        for subject, table, key in (
            ("pair", "pairs", "pair_id"),
            ("completion", "completions", "completion_id"),
            ("prompt", "prompts", "prompt_id"),
        )
        if table in frames
    }
    made: list[Distribution] = []
    for subject in ("pair", "completion", "prompt"):
        about = (
            frames["scores"].filter(pl.col("subject") == subject).sort("score", "model", "value")
        )
        if subject in there:
            about = about.with_columns(is_kept=pl.col("subject_id").is_in(there[subject]))
        else:
            about = about.with_columns(is_kept=pl.lit(False))
        for (score, model), rows in about.group_by("score", "model", maintain_order=True):
            kept, dropped = (
                rows.filter(pl.col("is_kept") == which)["value"].to_numpy()
                for which in (True, False)
            )
            who = None if model is None else str(model)
            made.append(Distribution(str(score), subject, who, kept, dropped))
    return made


def bins(values: Floats) -> Floats:
    """The edges of the bars; the outer ones take what is beyond."""
    low, high = float(values.min()), float(values.max())
    if len(values) >= MANY:
        inner = [float(np.quantile(values, share)) for share in (OUTER, 1 - OUTER)]
        low, high = inner if inner[0] < inner[1] else (low, high)
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    return np.linspace(low, high, BINS + 1)


def counts(values: Floats, edges: Floats) -> NDArray[np.int64]:
    inside: Floats = values.clip(edges[0], edges[-1])
    at = np.searchsorted(edges, inside, side="right") - 1
    found: Any = np.bincount(at.clip(max=len(edges) - 2), minlength=len(edges) - 1)
    return found


def _section(each: Distribution) -> str:
    by = f" by {each.model}" if each.model else ""
    fates = [("in this version", each.kept), ("dropped", each.dropped)]
    there = [(what, values) for what, values in fates if len(values)]
    lines = [("rows", [f"{len(values):,}" for _, values in there])]
    lines += [
        (f"{round(100 * q)} %", [_number(float(np.quantile(values, q))) for _, values in there])
        for q in SHOWN
    ]
    head = "".join(f"<th>{what}</th>" for what, _ in there)
    body = "".join(
        f"<tr><td>{what}</td>{''.join(f'<td>{value}</td>' for value in told)}</tr>"
        for what, told in lines
    )
    return (
        f"<section>\n<h2><code>{_said(each.score)}</code></h2>\n"
        f'<p class="faint">of each {_said(each.subject)}{_said(by)}</p>\n{_figure(each)}\n'
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>\n</section>"
    )


def _figure(each: Distribution) -> str:
    whole = np.concatenate([each.kept, each.dropped])
    edges = bins(whole)
    kept, dropped = counts(each.kept, edges), counts(each.dropped, edges)
    most = max(1, int((kept + dropped).max()))
    step = WIDTH / len(kept)
    scale = (HEIGHT - FOOT - TOP) / most
    ground = HEIGHT - FOOT
    bars: list[str] = []
    for at, (n_kept, n_dropped) in enumerate(zip(kept.tolist(), dropped.tolist(), strict=True)):
        x, up = at * step, ground
        for kind, n in (("kept", n_kept), ("dropped", n_dropped)):
            if n:
                up -= n * scale
                bars.append(
                    f'<rect class="{kind}" x="{x + 1:.1f}" y="{up:.1f}" '
                    f'width="{max(step - 2, 1):.1f}" height="{n * scale:.1f}"/>'
                )
    said = (
        f"Histogram of {each.score}: {len(each.kept)} rows in this version, {len(each.dropped)} "
        f"dropped; from {_number(whole.min())} to {_number(whole.max())}."
    )
    marks = "".join(
        f'<text x="{share * WIDTH:.1f}" y="{HEIGHT - 10}" '
        f'text-anchor="{anchor}">{beyond}{_number(value)}</text>'
        for share, value, anchor, beyond in (
            (0.0, edges[0], "start", "≤ " if whole.min() < edges[0] else ""),
            (0.5, (edges[0] + edges[-1]) / 2, "middle", ""),
            (1.0, edges[-1], "end", "≥ " if whole.max() > edges[-1] else ""),
        )
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_said(said)}">'
        f'<line class="axis" x1="0" y1="{ground}" x2="{WIDTH}" y2="{ground}"/>'
        f'<text x="0" y="{TOP - 10}">{counted(most, "row")} in the highest bar</text>'
        f"{''.join(bars)}{marks}</svg>"
    )


def _number(value: float) -> str:
    """Four digits, with no exponent where that is no longer."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def _said(value: Any) -> str:
    """A text that cannot become markup, nor control a terminal."""
    return html.escape("".join(c for c in str(value) if c >= " " or c == "\n"))
