"""The page of a version, `report.html`: one file that one can send to somebody.

From prompts to pairs and what was dropped on the way, how sure labels are, who agrees with whom,
what moves votes beside quality, how noisy labels are, scores, cost, and pairs to page through. It
has no script and fetches nothing; texts of models are shown and never obeyed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.version import charts
from prefdata.version.charts import named, number, said
from prefdata.version.constitution import ABOUT, FIGURES, Standing, standing
from prefdata.version.distributions import Distribution, Floats, distributions
from prefdata.version.glance import agreement, first_preferred, longer_preferred
from prefdata.version.licences import conflicts
from prefdata.version.pager import pager
from prefdata.version.rationales import ABOUT as ABOUT_REASONS
from prefdata.version.rationales import FIGURES as OF_REASONS
from prefdata.version.rationales import Kept, kept
from prefdata.version.samples import counted, sample_pairs, shown

Frames = Mapping[str, pl.DataFrame]
Manifest = Mapping[str, Any]

MOST_SCORES = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PAIRS = 24  # that are shown
REASONS = 12
HEAD = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
)


def page(manifest: Manifest, frames: Frames) -> str:
    """report.html of a version; empty where it has no votes, pairs, scores or principles."""
    if not has_page(frames):
        return ""
    found = distributions(frames)
    name = said(f"{manifest['name']}@{manifest['id']}")
    sections = [
        _opening(manifest, frames),
        _funnel(manifest, frames),
        _labels(frames),
        _agreement(frames),
        _moved(frames),
        _noise(manifest),
        _constitution(standing(frames)),
        _rationales(kept(frames)),
        _scores(found),
        _cost(manifest),
        _pairs(manifest, frames),
    ]
    return (
        f"{HEAD}<title>{name}</title>\n<style>{charts.STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{name}</h1>\n"
        + "\n".join(each for each in sections if each)
        + "\n</main>\n</body>\n</html>\n"
    )


def has_page(frames: Frames) -> bool:
    shown = ("votes", "pairs", "scores", "principles")
    return any(not frames.get(name, pl.DataFrame()).is_empty() for name in shown)


def _opening(manifest: Manifest, frames: Frames) -> str:
    described = manifest.get("description", "").strip()
    described = f'<p class="lines">{said(described)}</p>' if described else ""
    partial = manifest.get("partial")
    if partial:
        missing = ", ".join(f"{stage} {n:,}" for stage, n in partial["missing"].items())
        described += (
            f'<p class="note">Partial: {said(partial["reason"])}; not asked: {said(missing)}.</p>'
        )
    if sampled := shown(manifest):
        described += f'<p class="note">{said(sampled)}</p>'
    for each in conflicts(manifest) if "licenses" in manifest else ():
        described += f'<p class="note">Licences conflict: {said(each)}.</p>'
    kinds = ("prompts", "completions", "votes", "ratings", "pairs")
    rows = counted(manifest, frames)
    facts = [(name, f"{rows[name]:,}") for name in kinds if name in rows]
    if "votes" in frames:
        voted = frames["votes"]["annotator"].unique()
        principles = voted.str.starts_with("principle:").sum()
        facts.append(("annotators", f"{len(voted) - principles:,}"))
        facts += [("principles voted on", f"{principles:,}")] if principles else []
    for view, shape in manifest.get("exports", {}).items():
        facts.append((f"rows of {view}", f"{sum(shape['splits'].values()):,}"))
    cells = "".join(f"<li><b>{n}</b>{said(name).replace('_', '_<wbr>')}</li>" for name, n in facts)
    return f'{described}<ul class="facts">{cells}</ul>'


def _funnel(manifest: Manifest, frames: Frames) -> str:
    """Rows from prompts to pairs, as each stage found and left them, and why rows went."""
    flows: Sequence[Mapping[str, Any]] = manifest.get("counts", {}).get("stages", ())
    kept = ("prompts", "completions", "votes", "ratings", "pairs")
    n = counted(manifest, frames).get("prompts")
    rows = [] if n is None else [("prompts", n, 0, f"{n:,}")]
    rows += [
        (
            f"{each.get('stage', each['use'])}: {each['table']}",
            each["out"],
            each.get("dropped", 0),
            f"{each['out']:,}",
        )
        for each in flows
        if each["table"] in kept
    ]
    if not rows:
        return ""
    drawn = charts.bars(rows)
    if "dropped" in frames:
        why = frames["dropped"].group_by("stage", "table", "reason").len("n")
        why = why.sort(pl.col("n"), "stage", "table", "reason", descending=[True, *[False] * 3])
        rows_gone = [(*told, f"{n:,}") for *told, n in why.head(REASONS).iter_rows()]
        drawn += "<h3>Why rows went</h3>" + charts.table(
            ("stage", "table", "reason", "rows"), rows_gone, texts=(1, 2)
        )
        if why.height > REASONS:
            more = why.height - REASONS
            drawn += f'<p class="faint">{more} more are in <code>dropped.parquet</code></p>'
    return _section("From prompts to pairs", drawn, _KEYS)


_KEYS = (
    '<span class="key kept"></span>in this version, <span class="key dropped"></span>'
    "dropped on the way."
)


def _labels(frames: Frames) -> str:
    pairs = frames.get("pairs", pl.DataFrame())
    if pairs.is_empty():
        return ""
    unsure = pairs.filter(pl.col("soft_label") < 0.6).height
    drawn = "<h3>Soft label, P(chosen preferred)</h3>"
    if pairs["soft_label"].n_unique() > 1:
        drawn += charts.histogram("soft_label", pairs["soft_label"].to_numpy())
    drawn += _quantiles([("soft label", pairs["soft_label"].to_numpy())])
    margins = pairs["margin"].drop_nulls()
    if margins.len():
        drawn += "<h3>Margin, the difference of strengths</h3>"
        drawn += charts.histogram("margin", margins.to_numpy())
        drawn += _quantiles([("margin", margins.to_numpy())])
    note = f"{unsure / pairs.height:.1%} of the pairs have a soft label below 0.6: close to a coin."
    return _section("How sure the labels are", drawn, note)


def _agreement(frames: Frames) -> str:
    found = agreement(frames)
    if len(found.names) < 2:
        return ""
    note = (
        "The share of comparisons made by both on which two gave the same verdict; below, how many "
        "these are. Chance is not taken out: <code>measure.agreement</code> does."
    )
    return _section("Who agrees with whom", charts.matrix(found), note)


def _moved(frames: Frames) -> str:
    """Position and length: what else than quality votes may follow."""
    first, longer = first_preferred(frames), longer_preferred(frames)
    drawn = ""
    if first:
        drawn += "<h3>The side shown first is preferred</h3>" + charts.shares(first)
    if longer:
        drawn += "<h3>The longer side is preferred</h3>" + charts.shares(longer)
    note = (
        "Of votes that are no ties, with Wilson's 95 % interval. Where both orders were asked, "
        "first and second are equally often better: a half is unbiased. Longer may well be better."
    )
    return _section("Position and length", drawn, note) if drawn else ""


def _noise(manifest: Manifest) -> str:
    noise = manifest.get("noise", {})
    rows = [
        (what, each["subject"], _percent(each["value"]), _ends(each), each["n"], each["note"])
        for what in ("flip_rate", "label_smoothing")
        for each in noise.get(what, ())
    ]
    if not rows and "flipped" not in noise:
        return ""
    drawn = charts.table(
        ("measure", "by", "value", "95 % interval", "rows", "note"), rows, texts=(1, 5)
    )
    if "flipped" in noise:
        drawn += f"<p>{noise['flipped']:,} pairs had the label turned round.</p>"
    return _section(
        "How noisy the labels are", drawn, "The estimated share of labels that are wrong."
    )


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1%}"


def _ends(row: Mapping[str, Any]) -> str:
    return "" if None in (row["low"], row["high"]) else f"{row['low']:.1%} to {row['high']:.1%}"


def _constitution(principles: Sequence[Standing]) -> str:
    """The principles as a table, each with what shows it under its figures."""
    if not principles:
        return ""
    rows: list[tuple[str, Sequence[Any]]] = []
    for each in principles:
        shown = "".join(
            f'<br><span class="faint">{kind}: {said(one)} <em>over</em> {said(other)}</span>'
            for kind, (one, other) in each.examples.items()
        )
        rows.append((f"{each.rank}. {said(each.principle)}{shown}", each.figures))
    return _section("Constitution", _figures(("principle", *FIGURES), rows), said(ABOUT))


def _figures(head: Sequence[str], rows: Iterable[tuple[str, Sequence[Any]]]) -> str:
    """A table of what is drawn already, with the figures of each."""
    top = "".join(f"<th>{said(each)}</th>" for each in head)
    body = "".join(
        f'<tr><td class="said">{drawn}</td>'
        + "".join(f"<td>{_figure(each)}</td>" for each in figures)
        + "</tr>"
        for drawn, figures in rows
    )
    return (
        f'<div class="wide"><table class="figures"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _figure(value: Any) -> str:
    """A figure with its interval, if it has one, under it: tables of many stay on the screen."""
    figure, parted, interval = said(value).partition(" (")
    return f'{figure}<br><span class="faint small">{interval[:-1]}</span>' if parted else figure


def _rationales(found: Sequence[Kept]) -> str:
    if not found:
        return ""
    drawn = _figures(("kind", *OF_REASONS), [(said(each.kind), each.figures) for each in found])
    drawn += "".join(
        f'<h3>{said(each.kind)}, for example</h3><div class="text">{said(each.example)}</div>'
        for each in found
        if each.example
    )
    return _section("Rationales", drawn, said(ABOUT_REASONS))


def _scores(found: Sequence[Distribution]) -> str:
    if not found:
        return ""
    more = len(found) - MOST_SCORES
    rest = f"<p>{more} more scores are in <code>scores.parquet</code>.</p>" if more > 0 else ""
    drawn = "".join(_score(each) for each in found[:MOST_SCORES])
    return _section("Scores", drawn + rest, _KEYS)


def _score(each: Distribution) -> str:
    by = f" by {each.model}" if each.model else ""
    rows = [("in this version", each.kept), ("dropped", each.dropped)]
    drawn = charts.histogram(each.score, each.kept, each.dropped)
    return (
        f'<h3><code>{named(each.score)}</code></h3><div class="faint small">of each '
        f"{each.subject}{named(by)}</div>{drawn}"
        f"{_quantiles([row for row in rows if len(row[1])])}"
    )


def _quantiles(rows: Sequence[tuple[str, Floats]]) -> str:
    head = ("", "rows", *(f"{round(100 * q)} %" for q in QUANTILES))
    said_rows = [(name, f"{len(values):,}", *map(number, _at(values))) for name, values in rows]
    return charts.table(head, said_rows)


def _at(values: Floats) -> list[float]:
    found = pl.Series(values)
    return [float(found.quantile(q, "linear") or 0.0) for q in QUANTILES]


def _cost(manifest: Manifest) -> str:
    counts = manifest.get("counts", {})
    spent: Mapping[str, Mapping[str, Any]] = counts.get("spent", {})
    requests, cost = counts.get("requests", {}), counts.get("cost", 0)
    if not spent and not any(requests.values()):
        return ""
    drawn = ""
    if spent:
        rows = [
            (stage, f"{each['requests']:,}", f"{each['cached']:,}", f"{each['tokens_in']:,}",
             f"{each['tokens_out']:,}", f"${each['cost']:,.4f}")
            for stage, each in spent.items()
        ]  # fmt: skip
        head = ("stage", "requests", "from the ledger", "tokens in", "tokens out", "cost")
        drawn += charts.table(head, rows)
        if cost:
            drawn += charts.bars(
                [
                    (stage, round(1e6 * each["cost"]), 0, f"${each['cost']:,.4f}")
                    for stage, each in spent.items()
                ]
            )
    total = ", ".join(f"{name} {n:,}" for name, n in requests.items() if n)
    return _section(
        "What the build asked and cost", drawn, said(f"Requests: {total}; ${cost:,.4f}.")
    )


def _pairs(manifest: Manifest, frames: Frames) -> str:
    pairs = sample_pairs(frames, PAIRS)
    if not pairs:
        return ""
    n = counted(manifest, frames)["pairs"]
    note = (
        f"{len(pairs)} of {n:,}, from the surest to the least sure; page by "
        "the buttons, or by the arrow keys once one is chosen."
    )
    return _section("Pairs", pager(pairs), note)


def _section(title: str, drawn: str, note: str = "") -> str:
    told = f'<p class="faint">{note}</p>' if note else ""
    return f"<section>\n<h2>{said(title)}</h2>\n{told}{drawn}\n</section>"
