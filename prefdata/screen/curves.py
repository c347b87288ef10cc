"""A picture of curves of accuracy over the share of rows that people label: SVG, nothing fetched.

What it shows is also in the numbers that `prefdata simulate-routing` prints.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 720, 420, 52, 190, 34, 44
POINTS = 200
# By Okabe and Ito: apart for those who see few colours too; the dashes part them in print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 2", "12 4")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1b1d21}.axis{stroke:#c9cdd4}.faint{fill:#5d636d}"
    ".band{fill:#9aa0a8;opacity:.25}.random{stroke:#5d636d}path{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#e8eaed}.faint{fill:#a3a9b3}"
    ".ground{fill:#15171a}.axis{stroke:#43484f}}.ground{fill:#fff}"
)


def picture(title: str, curves: Mapping[str, Floats], band: tuple[Floats, Floats]) -> str:
    """Curves by name, each from no row to all of them; the first is that of rows by lot.

    `band` is the interval of the first.
    """
    every = [*curves.values(), *band]
    low, high = min(float(each.min()) for each in every), max(float(each.max()) for each in every)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def x(share: float) -> float:
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / max(high - low, 1e-9) * (HEIGHT - TOP - FOOT)

    def path(values: Floats) -> list[str]:
        shares = np.linspace(0, 1, min(POINTS, len(values)))
        at = np.round(shares * (len(values) - 1)).astype(int)
        return [f"{x(s):.1f},{y(v):.1f}" for s, v in zip(shares, values[at], strict=True)]

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}"><style>{STYLE}</style>'
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>'
        f'<text x="{LEFT}" y="18">{html.escape(title)}</text>'
    ]
    for tick in ticks:
        at = y(tick)
        drawn.append(
            f'<line class="axis" x1="{LEFT}" x2="{x(1):.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="faint" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
            f"{tick:.2f}</text>"
        )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawn.append(
            f'<text class="faint" x="{x(share):.1f}" y="{HEIGHT - 22}" text-anchor="middle">'
            f"{round(100 * share)} %</text>"
        )
    middle = x(0.5)
    drawn.append(
        f'<text class="faint" x="{middle:.1f}" y="{HEIGHT - 5}" text-anchor="middle">'
        "share of rows that a person labels</text>"
    )
    around = " ".join([*path(band[0]), *reversed(path(band[1]))])
    drawn.append(f'<polygon class="band" points="{around}"/>')
    for at, (name, values) in enumerate(curves.items()):
        drawn += _line(at, name, path(values))
    return "\n".join([*drawn, "</svg>", ""])


def _line(at: int, name: str, points: Sequence[str]) -> list[str]:
    looks = (
        'class="random"'
        if at == 0
        else f'stroke="{COLOURS[(at - 1) % len(COLOURS)]}" '
        f'stroke-dasharray="{DASHES[(at - 1) % len(DASHES)]}"'
    )
    height, left = TOP + 14 + 20 * at, WIDTH - RIGHT + 12
    return [
        f'<path {looks} d="M{" L".join(points)}"/>',
        f'<path {looks} d="M{left},{height - 4} L{left + 26},{height - 4}"/>',
        f'<text x="{left + 32}" y="{height}">{html.escape(name)}</text>',
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that hold all values, a few of them."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    step = next((each for each in steps if (high - low) / each <= 6), steps[-1])
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [step * n for n in range(int(first), max(int(last), int(first) + 1) + 1)]
