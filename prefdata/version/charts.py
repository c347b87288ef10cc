"""Charts of a page as HTML: shapes in SVG, that stretch, and their words beside them, that do not.

So a chart fills a laptop's screen and a phone's, and its words stay as large as the text. No
script, nothing fetched, light or dark as the reader's machine is. All that a shape shows is also
written.
"""

import html
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdata.version.distributions import bins, counts
from prefdata.version.glance import Matrix, Share
from prefdata.version.markdown import TURNS

Floats = NDArray[np.float64]
TALL = 40  # of a histogram's view, whose width is 100
LONGEST = 200  # characters of a name or of a cell's text

STYLE = """
:root { color-scheme: light dark; --ink: #1b1d21; --paper: #ffffff; --faint: #5d636d;
  --line: #d5d9df; --soft: #f3f5f8; --kept: #1f5fa8; --dropped: #c98a2b; --good: #1d7a4c;
  --bad: #b3372f; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #15171a; --faint: #a3a9b3;
  --line: #3a3f46; --soft: #1e2126; --kept: #7db4f0; --dropped: #e0b060; --good: #6fcf97;
  --bad: #f08a80; --warn: #e8c06a; } }
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); max-width: 56rem; margin: 0 auto;
  padding: 1.5rem 1rem 4rem; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; } h1 { font-size: 1.6rem; }
h2 { margin-top: 3rem; font-size: 1.25rem; }
h3 { margin: 1.5rem 0 0.3rem; font-size: 1rem; } code { font-size: 0.95em; }
.faint { color: var(--faint); } .small { font-size: 0.875rem; }
.lines { white-space: pre-line; }
.note { border-left: 4px solid var(--warn); background: var(--soft); padding: 0.6rem 0.9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: 0.75rem;
  margin: 1.25rem 0; padding: 0; list-style: none; }
.facts li { background: var(--soft); border-radius: 0.5rem; padding: 0.6rem 0.8rem; }
.facts b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; } svg.bar { height: 0.9rem; } svg.histogram { height: 9rem; }
.kept { fill: var(--kept); } .dropped { fill: var(--dropped); } .axis { fill: var(--line); }
.key { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.3em; }
.key.kept { background: var(--kept); } .key.dropped { background: var(--dropped); }
.row { display: grid; grid-template: "name bar end" / minmax(7rem, 14rem) 1fr var(--end);
  gap: 0.1rem 0.8rem; align-items: center; padding: 0.2rem 0; font-variant-numeric: tabular-nums; }
.row > :first-child { grid-area: name; } .row > svg { grid-area: bar; }
.row > :last-child { grid-area: end; text-align: right; }
.ends { display: flex; justify-content: space-between; border-top: 1px solid var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; } th:first-child, td:first-child, .said { text-align: left; }
td:first-child, td.said { white-space: pre-wrap; min-width: 7rem; }
table.figures { width: 100%; }
table.figures th { white-space: normal; overflow-wrap: normal; }
table.matrix th:first-child { min-width: 14rem; }
table.matrix td { padding: 0.35rem 0.5rem; text-align: center; border: 1px solid var(--paper); }
table.matrix th { padding: 0.2rem 0.5rem; max-width: 18rem; border: 0; vertical-align: middle;
  white-space: normal; }
.cell { background: color-mix(in srgb, var(--kept) calc(var(--v) * 60%), transparent); }
.pager > input { position: absolute; opacity: 0; }
.pager > article { display: none; } .pager > input:checked + article { display: block; }
.pager > input:focus-visible + article { outline: 2px solid var(--kept); outline-offset: 4px; }
.turn { display: flex; justify-content: space-between; gap: 1rem; margin: 0.75rem 0; }
.turn label { border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.4rem 0.9rem;
  cursor: pointer; } .turn span { align-self: center; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 0.8rem; }
.text { white-space: pre-wrap; background: var(--soft); border-radius: 0.5rem;
  padding: 0.7rem 0.9rem; max-height: 24rem; overflow-y: auto; }
.votes { list-style: none; padding: 0; } .votes li { padding: 0.4rem 0;
  border-bottom: 1px solid var(--line); } .votes div { white-space: pre-wrap; }
.chosen { border-top: 4px solid var(--good); } .rejected { border-top: 4px solid var(--bad); }
@media (max-width: 40rem) { .sides { grid-template-columns: 1fr; } .text { max-height: 16rem; }
  table { font-size: 0.8rem; } .row { font-size: 0.9rem; } th, td { padding-right: 0.4rem; }
  td:first-child, td.said { min-width: 4rem; }
  .row { grid-template: "name end" "bar bar" / 1fr auto; padding: 0.35rem 0; }
  .row.long { grid-template: "name" "end" "bar" / 1fr; }
  .row.long > :last-child { text-align: left; }
  table.matrix th, table.matrix th:first-child { min-width: 0; max-width: 7rem; }
  table.figures tr { display: grid; grid-template-columns: repeat(5, 1fr); }
  table.figures :is(th, td) { white-space: normal; border: 0; font-size: 0.8rem; }
  table.figures :is(th, td):first-child { grid-column: 1 / -1; font-size: 0.9rem; }
  table.figures tr { border-bottom: 1px solid var(--line); } }
"""


def said(value: Any) -> str:
    """A text that cannot become markup, nor control a terminal, nor turn what stands around it."""
    text = TURNS.sub("", str(value))
    return html.escape("".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc"))


def named(value: Any) -> str:
    """The same of a name or a cell, of which somebody else may have made a long text."""
    text = str(value)
    return said(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def number(value: float) -> str:
    """Four digits, with no exponent where that is no longer."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def bars(rows: Sequence[tuple[str, int, int, str]]) -> str:
    """A bar for each (name, in this version or kept, dropped, what is said at its end)."""
    most = max((kept + dropped for _, kept, dropped, _ in rows), default=0) or 1
    drawn: list[str] = []
    for name, kept, dropped, note in rows:
        wide, more = 100 * kept / most, 100 * dropped / most
        shapes = f'<rect class="kept" width="{wide:.2f}" height="10"/>'
        if dropped:
            shapes += f'<rect class="dropped" x="{wide:.2f}" width="{more:.2f}" height="10"/>'
        words = f"{name}: {kept:,} kept" + (f", {dropped:,} dropped" if dropped else "")
        drawn.append(_row(name, _svg("bar", 10, words, shapes), note))
    return f'<div style="--end: 9rem">{"".join(drawn)}</div>'


def histogram(name: str, kept: Floats, dropped: Floats | None = None) -> str:
    """How values are distributed; those of rows that were dropped on top."""
    gone = np.array([], np.float64) if dropped is None else dropped
    whole = np.concatenate([kept, gone])
    edges = bins(whole)
    inside, outside = counts(kept, edges).tolist(), counts(gone, edges).tolist()
    most = max(1, *(a + b for a, b in zip(inside, outside, strict=True)))
    step = 100 / len(inside)
    shapes: list[str] = []
    for at, two in enumerate(zip(inside, outside, strict=True)):
        up = float(TALL)
        for kind, n in zip(("kept", "dropped"), two, strict=True):
            if n:
                tall = n * TALL / most
                up -= tall
                shapes.append(
                    f'<rect class="{kind}" x="{at * step + 0.15:.2f}" y="{up:.2f}" '
                    f'width="{step - 0.3:.2f}" height="{tall:.2f}"/>'
                )
    words = (
        f"Histogram of {name}: {len(kept)} rows in this version, {len(gone)} dropped; "
        f"from {number(whole.min())} to {number(whole.max())}."
    )
    marks = "".join(
        f"<span>{beyond}{number(value)}</span>"
        for value, beyond in (
            (edges[0], "≤ " if whole.min() < edges[0] else ""),
            ((edges[0] + edges[-1]) / 2, ""),
            (edges[-1], "≥ " if whole.max() > edges[-1] else ""),
        )
    )
    return (
        f'<div class="faint small">highest bar: {most:,}</div>'
        f"{_svg('histogram', TALL, words, ''.join(shapes))}"
        f'<div class="ends faint small">{marks}</div>'
    )


def shares(rows: Sequence[Share], neutral: float = 0.5) -> str:
    """A share with its interval for each, on a line from 0 to 1 with what would be neutral."""
    drawn: list[str] = []
    for each in rows:
        low, high = each.interval
        shapes = (
            '<rect class="axis" y="4.5" width="100" height="1"/>'
            f'<rect class="axis" x="{100 * neutral - 0.2:.2f}" width="0.4" height="10"/>'
            f'<rect class="dropped" x="{100 * low:.2f}" y="3" '
            f'width="{100 * (high - low):.2f}" height="4"/>'
            f'<rect class="kept" x="{100 * each.value - 0.4:.2f}" width="0.8" height="10"/>'
        )
        words = f"{each.value:.1%} ({low:.1%} to {high:.1%}) of {each.n:,}"
        drawn.append(_row(each.of, _svg("bar", 10, words, shapes), words, kind="row long"))
    return f'<div style="--end: 20rem">{"".join(drawn)}</div>'


def matrix(found: Matrix) -> str:
    """A table of shares, coloured by them; under each how many comparisons it rests on."""
    head = "".join(f"<th>{at + 1}</th>" for at in range(len(found.names)))
    body = "".join(
        f"<tr><th>{at + 1} {named(name)}</th>"
        + "".join(_cell(found, at, other) for other in range(len(found.names)))
        + "</tr>"
        for at, name in enumerate(found.names)
    )
    return f'<div class="wide"><table class="matrix"><tr><th></th>{head}</tr>{body}</table></div>'


def _cell(found: Matrix, at: int, other: int) -> str:
    n = int(found.n[at, other])
    if at == other or not n:
        return f'<td class="faint small">{f"{n:,}" if at == other else "–"}</td>'
    value = float(found.same[at, other])
    return (
        f'<td class="cell" style="--v:{value:.2f}">{value:.0%}'
        f'<br><span class="faint small">{n:,}</span></td>'
    )


def table(head: Iterable[str], rows: Iterable[Iterable[Any]], *, texts: Iterable[int] = ()) -> str:
    """A table; columns whose places are in `texts` hold texts, the first one always does."""
    left = dict.fromkeys(texts, ' class="said"')
    top = "".join(f"<th{left.get(at, '')}>{said(each)}</th>" for at, each in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{left.get(at, '')}>{named('' if each is None else each)}</td>"
            for at, each in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _row(name: str, drawn: str, end: str, kind: str = "row") -> str:
    return f'<div class="{kind}"><span>{named(name)}</span>{drawn}<span>{said(end)}</span></div>'


def _svg(kind: str, tall: int, words: str, shapes: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 100 {tall}" preserveAspectRatio="none" role="img" '
        f'aria-label="{named(words)}">{shapes}</svg>'
    )
