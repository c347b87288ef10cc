"""The story of one row on one screen: `prefdata explain`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.panel import Panel

from prefdata.screen import write
from prefdata.screen.preview import SIDE_BY_SIDE, clipped

PROMPT_LINES, COMPLETION_LINES = 5, 8
LINES = 12  # of votes and of ratings
REASON = 60  # characters of a reason
MOST = 100_000  # lines, where nothing is to be cut off
COLOURS = {"chosen": "green", "rejected": "red"}
FATES = {"kept": "bold green", "dropped": "bold red"}

Said = Mapping[str, Any]


def draw_story(said: Said, on: Console, *, whole: bool = False) -> None:
    """What a row is, what was said of it and why it is there; `whole` cuts nothing off."""
    on.print(
        write.text(f"{said['kind']} {said['id']}", "bold"),
        write.text(said["fate"], FATES[said["fate"]]),
        write.text(f"in {said['version']}", "dim"),
    )
    for line in said["because"][: None if whole else LINES]:
        on.print(write.text(f"  {line}"))
    for prompt in said["prompts"]:
        about = [f"prompt {prompt['prompt_id']}", prompt["source"], *(prompt.get("tags") or ())]
        about += [f"group {prompt['group']}"] if prompt.get("group") else []
        on.rule(write.text(" · ".join(about), "dim"), align="left", style="dim")
        on.print(clipped(prompt["prompt"], on.width, MOST if whole else PROMPT_LINES))
    _draw_completions(said["completions"], on, MOST if whole else COMPLETION_LINES)
    _draw_votes(said, on, whole)
    _draw_ratings(said, on, whole)
    for each in said["rationales"]:
        text = each["rationale"] if whole else _short(each["rationale"])
        on.print(write.text(f"{each['kind']} by {each['annotator']}: {text}", "dim"))
    scores = [*said["scores"], *(s for c in said["completions"] for s in c["scores"])]
    if scores:
        on.print(write.text("scores  " + ", ".join(map(_score, scores)), "dim"))
    views = ", ".join(f"{each['view']}/{each['split']}" for each in said["exports"])
    on.print(write.text(f"in the views {views}" if views else "in no view", "dim"))


def _draw_completions(completions: Sequence[Said], on: Console, lines: int) -> None:
    beside = on.width >= SIDE_BY_SIDE and len(completions) == 2
    width = on.width // 2 - 1 if beside else on.width
    panels: list[RenderableType] = [
        Panel(
            clipped(each["completion"], width - 4, lines),
            title=write.text(_title(each), COLOURS.get(each.get("side", ""), "")),
            title_align="left",
            subtitle=write.text(_by(each), "dim"),
            subtitle_align="left",
            border_style=COLOURS.get(each.get("side", ""), "dim"),
            width=width,
        )
        for each in completions
    ]
    for each in [Columns(panels, padding=(0, 1))] if beside else panels:
        on.print(each)


def _title(completion: Said) -> str:
    side = f"{completion['side']} " if completion.get("side") else ""
    strong = [f"{each['strength']:+.3g}" for each in completion["strengths"]]
    return (
        f"{side}{completion['completion_id']}{'  strength ' + ', '.join(strong) if strong else ''}"
    )


def _by(completion: Said) -> str:
    """Who wrote it, and how often it was drawn."""
    drawn: dict[str, int] = {}
    for sample in completion["samples"]:
        ended = sample.get("finish_reason")
        cut = " (cut off)" if ended == "length" else ""
        drawn[sample["generator"] + cut] = drawn.get(sample["generator"] + cut, 0) + 1
    return ", ".join(f"{who}{f' ×{n}' if n > 1 else ''}" for who, n in drawn.items()) or "given"


def _draw_votes(said: Said, on: Console, whole: bool) -> None:
    votes: Sequence[Said] = said["votes"]
    if not votes:
        return
    sided = said["kind"] != "pair"
    names = ["annotator", "criterion", "says", "P(a)#", "shown first", "reason"]
    table = write.table(*names, *(["a", "b"] if sided else []))
    for vote in votes[: None if whole else LINES]:
        says = vote["says"]
        why = vote["unscored"] or vote["rationale"] or ""
        table.add_row(
            write.text(vote["annotator"], "cyan"),
            write.text(vote["criterion"]),
            write.text(says, COLOURS.get(says, "yellow")),
            "" if vote["preference"] is None else f"{vote['preference']:.2f}",
            vote["shown_first"] or "",
            write.text(why if whole else _short(why)),
            *([write.text(vote[f"completion_{x}"][:8], "dim") for x in "ab"] if sided else []),
        )
    on.print(table)
    _more(len(votes), "votes", on, whole)


def _draw_ratings(said: Said, on: Console, whole: bool) -> None:
    ratings = [
        (each.get("side") or each["completion_id"][:8], row)
        for each in said["completions"]
        for row in each["ratings"]
    ]
    if not ratings:
        return
    table = write.table("annotator", "criterion", "rates", "rating#", "reason")
    for side, row in ratings[: None if whole else LINES]:
        why = row["unscored"] or row["rationale"] or ""
        table.add_row(
            write.text(row["annotator"], "cyan"),
            write.text(row["criterion"]),
            write.text(side, COLOURS.get(side, "")),
            "" if row["rating"] is None else f"{row['rating']:.2f}",
            write.text(why if whole else _short(why)),
        )
    on.print(table)
    _more(len(ratings), "ratings", on, whole)


def _more(n: int, what: str, on: Console, whole: bool) -> None:
    if n > LINES and not whole:
        on.print(write.text(f"… {write.count(n - LINES)} more {what}: --full", "dim"))


def _score(row: Said) -> str:
    by = f"@{row['model']}" if row["model"] else ""
    return f"{row['score']}{by} {row['value']:.4g}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= REASON else f"{line[: REASON - 1]}…"
