"""A version on a terminal: what is in it, how far to trust it, and a few of its pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from prefdata.screen import write
from prefdata.screen.summary import draw_partial
from prefdata.tables import VALUES, Messages, written
from prefdata.version import Version
from prefdata.version.diff import Diff
from prefdata.version.samples import sample_stored, tally
from prefdata.version.trust import some_of_each, unscored

SIDE_BY_SIDE = 100  # columns from which chosen and rejected stand beside each other
PROMPT_LINES = 6
COMPLETION_LINES = 10
MEASURES = 12
DRIFT = 12
REASON = 600  # characters of a rationale


def shown_pairs(version: Version, n: int) -> list[dict[str, Any]]:
    """`n` pairs with their texts and how votes fell, from the surest to the least sure."""
    return [{**pair, "votes": tally(pair["votes"])} for pair in sample_stored(version, n)]


def _unscored(version: Version) -> list[dict[str, Any]]:
    by = [(name, version.table(name, "annotator", value)) for name, value in VALUES.items()]
    return unscored(dict(by))


def show_json(version: Version, n: int) -> dict[str, Any]:
    """The manifest without its list of files, with a few pairs."""
    return {
        **version.summary(),
        "measures": version.table("measures").to_dicts(),
        "unscored": _unscored(version),
        "pairs": shown_pairs(version, n),
    }


def draw_version(version: Version, n: int, on: Console) -> None:
    on.print(write.text(version.ref, "bold"), write.text(write.moment(version.created)), "UTC")
    on.print(write.text(str(version.path)), soft_wrap=True)
    said = str(version.manifest["description"])
    if said:
        on.print(write.text(f"\n{said}", lines=True))
    if version.partial:
        on.print()
        draw_partial(version.partial, on)
    on.print()
    on.print(_facts(version))
    _draw_trust(version, on)
    total = version.manifest["tables"].get("pairs", {}).get("rows", 0)
    if total and n:
        on.print("\n[dim]Pairs, from the surest to the least sure:[/dim]")
    for pair in shown_pairs(version, n):
        _draw_pair(pair, total, on)
    _draw_loading(version, on)


def _facts(version: Version) -> Table:
    manifest = version.manifest
    rows = {name: each["rows"] for name, each in manifest["tables"].items()}
    views = [
        f"{view} ({', '.join(f'{split} {write.count(k)}' for split, k in each['splits'].items())})"
        for view, each in manifest["exports"].items()
    ]
    dropped = dict(
        version.table("dropped", "stage").group_by("stage").len().sort("stage").iter_rows()
    )
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    for name, said in (
        ("tables", write.rows(rows)),
        ("exports", ", ".join(views)),
        ("dropped", write.reasons(dropped)),
        ("quarantined", f"{manifest['quarantined']} rows" if manifest["quarantined"] else ""),
        ("judges", ", ".join(f"{name} {said[:8]}" for name, said in manifest["judges"].items())),
    ):
        if said:
            facts.add_row(name, write.text(said))
    return facts


def _draw_trust(version: Version, on: Console) -> None:
    """What was measured, and who left how much unscored."""
    measures = version.table("measures")
    if measures.height:
        shown = some_of_each(measures, MEASURES)
        table = write.table("measure", "of", "value#", "± stderr#", "rows#")
        for row in shown.to_dicts():
            table.add_row(
                write.text(row["measure"]),
                write.text(row["subject"], "cyan"),
                _number(row["value"]),
                _number(row["stderr"]),
                write.count(row["n"]),
            )
        on.print()
        on.print(table)
        if measures.height > shown.height:
            on.print(f"[dim]{measures.height - shown.height} more in measures.parquet[/dim]")
    measured = set(measures.filter(pl.col("measure") == "unscored_share")["subject"])
    for each in _unscored(version):
        if not each["unscored"] or each["annotator"] in measured:
            continue
        n = f"{write.count(each['unscored'])} of {write.count(each['rows'])}"
        said = f"unscored: {n} {each['table']} of {each['annotator']} ({each['share']:.1%})"
        on.print(write.text(said, "yellow" if each["share"] > 0.1 else "dim"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _draw_pair(pair: Mapping[str, Any], total: int, on: Console) -> None:
    on.print()
    place = f"pair {write.count(pair['place'])} of {write.count(total)} "
    title = Text.assemble((place, "bold"), (pair["pair_id"], "dim"))
    on.rule(title, align="left", style="dim")
    if pair["prompt"] is None:
        on.print("[dim]its two completions answer different prompts[/dim]")
    else:
        on.print(clipped(pair["prompt"], on.width, PROMPT_LINES))
    beside = on.width >= SIDE_BY_SIDE
    width = on.width // 2 - 1 if beside else on.width
    panels: list[RenderableType] = [
        Panel(
            clipped(pair[side], width - 4, COMPLETION_LINES),
            title=f"[bold {colour}]{side}[/]",
            title_align="left",
            border_style=colour,
            width=width,
        )
        for side, colour in (("chosen", "green"), ("rejected", "red"))
    ]
    on.print(Columns(panels, padding=(0, 1)) if beside else panels[0])
    if not beside:
        on.print(panels[1])
    on.print(write.text(_certainty(pair), "dim"))
    for each in pair["rationales"]:
        why = " ".join(each["rationale"].split())
        on.print(write.text(f"why ({each['kind']}): {why[:REASON]}", "dim"))


def _certainty(pair: Mapping[str, Any]) -> str:
    said = [f"soft label {pair['soft_label']:.2f}"]
    if pair["margin"] is not None:
        said.insert(0, f"margin {pair['margin']:.2f}")
    votes: Mapping[str, int] = pair["votes"]
    fell = f": {', '.join(f'{side} {n}' for side, n in votes.items())}" if votes else ""
    said.append(f"{pair['n_votes']} {'vote' if pair['n_votes'] == 1 else 'votes'}{fell}")
    if pair["annotator"]:
        said.append(pair["annotator"])
    if pair["split"]:
        said.append(pair["split"])
    return " · ".join(said)


def clipped(messages: Messages | None, width: int, lines: int) -> Text:
    """A conversation as text, in at most `lines` lines of `width`, and how much is left out."""
    whole = write.text(written(messages or (), "\n"), lines=True)
    wrapped = whole.wrap(Console(width=width), width)
    if len(wrapped) <= lines:
        return whole
    kept = Text("\n").join(wrapped[:lines])
    left = len(whole.plain) - len(kept.plain)
    return kept.append(f"\n… {write.count(max(left, 1))} more characters", "dim")


def _draw_loading(version: Version, on: Console) -> None:
    view = next(iter(version.manifest["exports"]), "pairs")
    on.print()
    on.print("[dim]In Python:[/dim]")
    for line in loading(version, view):
        on.print(write.text(f"  {line}"), soft_wrap=True)


def loading(version: Version, view: str) -> list[str]:
    """How to load a view or a table."""
    lines = ["import prefdata", f'data = prefdata.load("{version.ref}", "{view}")']
    if view in version.manifest["exports"]:
        folder = str(version.path / view)
        lines += ["", "from datasets import load_from_disk", f"data = load_from_disk({folder!r})"]
    return lines


def draw_diff(found: Diff, on: Console) -> None:
    """How two versions differ, what caused it first, then pairs by what changed of them."""
    on.print(write.text(found.before, "bold"), "→", write.text(found.after, "bold"))
    on.print()
    causes = [write.text(f"  {cause}") for cause in found.causes]
    on.print("because of" if causes else "Nothing differs.")
    for cause in causes:
        on.print(cause)
    on.print()
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name, style in (
        ("added", "green"), ("removed", "red"), ("flipped", "yellow"), ("moved", "cyan"),
    ):  # fmt: skip
        ids: Sequence[str] = getattr(found, name)
        if name == "moved":
            table.add_row("kept", write.count(found.kept), "")
        label = "  of these, with another label" if name == "moved" else name
        more = f"{', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}"
        table.add_row(write.text(label, style), write.count(len(ids)), write.text(more, "dim"))
    on.print(table)
    if found.reasons:
        on.print("\nwhat changed of these pairs, and what can have led to it")
    for reason in found.reasons:
        first = f"{reason.first[0]}{', …' if reason.n > 1 else ''}"
        on.print(write.text(f"  {reason}  "), write.text(f"({first})", "dim"), sep="")
    if found.drift:
        on.print("\nhow the pairs moved as a whole")
    for moved in found.drift[:DRIFT]:
        on.print(write.text(f"  {moved}"))
    if len(found.drift) > DRIFT:
        on.print(write.text(f"  … {len(found.drift) - DRIFT} more: --json", "dim"))
