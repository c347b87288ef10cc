"""What there is to build with: recipes, stages and judges, as JSON and as drawn on a terminal."""

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from prefdata import judge as judges
from prefdata.errors import PrefdataError, RecipeError, nearest
from prefdata.judge import Judge
from prefdata.judge import jury as juries
from prefdata.recipe import Recipe, bundled, find_stage, stages
from prefdata.screen import write
from prefdata.stage import Contract, contract

SHORT = 70  # a line of a docstring that is shorter did not end for want of room
ITEM = re.compile(r"- |\w+: ")


def recipes() -> list[dict[str, Any]]:
    """The bundled recipes; one that cannot be read says why."""
    found: list[dict[str, Any]] = []
    for name, path in sorted(bundled().items()):
        try:
            description, error = Recipe.load(path).description, ""
        except PrefdataError as fault:
            description, error = "", str(fault)
        entry = {"name": name, "description": description, "path": str(path)}
        found.append({**entry, **({"error": error} if error else {})})
    return found


def recipe(name: str) -> str:
    """The text of a bundled recipe, whose sources are found from wherever a copy of it lies."""
    found = Recipe.load(name)
    text = found.text
    for spec in found.sources.specs:
        if spec.path is not None:
            path = str((found.folder / spec.path).resolve())
            text = text.replace(json.dumps(spec.path), json.dumps(path, ensure_ascii=False))
    return text


def draw_recipes(found: list[dict[str, Any]], on: Console) -> None:
    table = write.table("recipe", "what it makes")
    for entry in found:
        said = write.text(entry["description"].strip().partition("\n")[0])
        if entry.get("error"):
            said = write.text(entry["error"], "red")
        table.add_row(write.text(entry["name"], "bold"), said)
    on.print(table)
    said = "Build one: prefdata build NAME; what it costs: prefdata plan NAME"
    on.print(f"\n[dim]{said}; its file: prefdata recipes NAME[/dim]")


def stage_list(verb: str | None = None) -> list[dict[str, Any]]:
    """Every stage, or those of one verb, with what it reads, writes and does."""
    return [
        {"use": use, **_terms(contract(find_stage(use))), "does": line}
        for use, line in stages().items()
        if verb in (None, use.partition(".")[0])
    ]


def _terms(terms: Contract) -> dict[str, Any]:
    return {
        "reads": list(terms.reads),
        "reads_if_there": list(terms.reads_if_there),
        "writes": list(terms.writes),
        "asks": terms.asks,
    }


def draw_stages(found: list[dict[str, Any]], on: Console) -> None:
    """A line a stage, by verb."""
    width = max(len(entry["use"].partition(".")[2]) for entry in found)
    before = ""
    for entry in found:
        verb, _, method = entry["use"].partition(".")
        if verb != before:
            on.print(write.text(verb, "bold"))
        line = write.text(f"  {method:<{width}}  {entry['does']}")
        line.truncate(on.width, overflow="ellipsis")
        on.print(line)
        before = verb
    on.print("\n[dim]With the tables: prefdata stages VERB; all of one: prefdata stages NAME[/dim]")


def draw_verb(found: list[dict[str, Any]], on: Console) -> None:
    """The stages of a verb, with the tables that go in and come out."""
    table = write.table("stage", "reads → writes", "what it does")
    table.columns[0].no_wrap = True
    for entry in found:
        table.add_row(
            write.text(entry["use"], "bold"),
            write.text(flow(entry), "cyan"),
            write.text(entry["does"]),
        )
    on.print(table)
    on.print("\n[dim]?: read if it is there. One with its options: prefdata stages NAME[/dim]")


def flow(entry: Mapping[str, Any]) -> str:
    """What a stage reads and writes, in a line."""
    reads = [*entry["reads"], *(f"{name}?" for name in entry["reads_if_there"])]
    return f"{', '.join(reads) or 'nothing'} → {', '.join(entry['writes'])}"


def stage(name: str) -> dict[str, Any]:
    """One stage: `verb.method`, `package.module:function`, or a method that one verb alone has."""
    use = name
    if "." not in name and ":" not in name:
        known = list(stages())
        meant = [each for each in known if each.partition(".")[2] == name]
        if len(meant) != 1:
            several = f"several stages are called that: {', '.join(meant)}"
            why = several if meant else nearest(name, known)
            raise RecipeError(f"no stage {name!r}; {why}")
        use = meant[0]
    function = find_stage(use)
    terms = contract(function)
    options = {option: _option(each) for option, each in terms.options.items()}
    doc = inspect.getdoc(function) or ""
    return {"use": use, **_terms(terms), "options": options, "doc": doc}


def _option(option: inspect.Parameter) -> dict[str, Any]:
    needed = option.default is inspect.Parameter.empty
    described = {"type": _type(option.annotation), "required": needed}
    return described if needed else {**described, "default": option.default}


def _type(annotation: Any) -> str:
    said = inspect.formatannotation(annotation).replace("typing.", "")
    for module in ("collections.abc.", "prefdata.stage.", "prefdata.judge."):
        said = said.replace(module, "")
    return said


def draw_stage(found: Mapping[str, Any], on: Console) -> None:
    on.print(write.text(found["use"], "bold"), write.text(flow(found), "cyan"))
    on.print()
    for paragraph in found["doc"].split("\n\n"):
        _draw_paragraph(paragraph, on)
    if not found["options"]:
        return
    table = write.table("option", "type", "default")
    for name, option in found["options"].items():
        default = "required" if option["required"] else repr(option["default"])
        table.add_row(
            write.text(name, "bold"), write.text(option["type"], "cyan"), write.text(default)
        )
    on.print(table)


def _draw_paragraph(paragraph: str, on: Console) -> None:
    """A paragraph of a docstring, at the width at hand: its lines were broken for another one.

    A formula keeps its lines, an item of a list begins one, and a short line ended on purpose.
    """
    lines: list[str] = []
    before = ""
    for line in paragraph.splitlines():
        kept = paragraph.startswith("    ") or len(before) < SHORT or ITEM.match(line)
        if lines and not kept:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
        before = line
    for line in lines:
        if line.startswith("- "):
            item = Table.grid()
            item.add_row("- ", write.text(line[2:]))
            on.print(item)
        else:
            on.print(write.text(line))
    on.print()


def judge_list() -> list[dict[str, Any]]:
    """The bundled judges."""
    found = [judges.load(name) for name in judges.names()]
    return [
        {
            "name": each.name,
            "kind": each.kind,
            "description": each.description,
            "criteria": [criterion.name for criterion in each.criteria],
            "digest": each.digest,
        }
        for each in found
    ]


def jury_list() -> list[dict[str, Any]]:
    """The bundled juries."""
    return [{"name": name, **juries.read(name).model_dump(mode="json")} for name in juries.names()]


def draw_juries(found: list[dict[str, Any]], on: Console) -> None:
    table = write.table("jury", "judge, and the role of its model", "what it judges")
    for entry in found:
        seats = [f"{seat['judge']}, {seat['model']}" for seat in entry["members"]]
        table.add_row(
            write.text(entry["name"], "bold"),
            write.text("\n".join(seats), "cyan", lines=True),
            write.text(entry["description"]),
        )
    on.print()
    on.print(table)


def draw_judges(found: list[dict[str, Any]], on: Console) -> None:
    table = write.table("judge", "kind", "criteria", "what it judges")
    for entry in found:
        table.add_row(
            write.text(entry["name"], "bold"),
            entry["kind"],
            write.text(", ".join(entry["criteria"]), "cyan"),
            write.text(entry["description"]),
        )
    on.print(table)
    on.print("\n[dim]What one asks: prefdata judges NAME; your own: a path ending in .toml[/dim]")


def judge(name: str) -> Judge:
    return judges.load(name)


def judge_json(found: Judge) -> dict[str, Any]:
    return {**found.model_dump(mode="json"), "digest": found.digest, "verdict": found.schema}


def draw_judge(found: Judge, on: Console) -> None:
    on.print(write.text(found.name, "bold"), write.text(f"{found.kind} judge", "cyan"))
    on.print(write.text(found.description, lines=True))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("source", write.text(found.source))
    facts.add_row("reason", write.text(found.reason))
    facts.add_row("max_tokens", str(found.max_tokens))
    facts.add_row("digest", found.digest)
    on.print()
    on.print(facts)
    for criterion in found.criteria:
        scale = criterion.scale
        direction = "higher is better" if scale.higher_is_better else "lower is better"
        on.print()
        said = f"{scale.wording} · {direction} · weight {criterion.weight:g}"
        on.print(write.text(criterion.name, "bold"), write.text(said, "dim"))
        on.print(write.text(criterion.definition, lines=True))
        for value, level in zip(scale.values, scale.levels, strict=False):
            on.print(write.text(f"  {value}  {level}"))
    for title, prompt in (("system", found.system), ("prompt", found.prompt)):
        if prompt:
            on.print()
            on.print(Panel(write.text(prompt.strip(), lines=True), title=title, title_align="left"))
