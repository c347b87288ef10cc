"""Hand out what a version asks of people, take back what they answered: export, import, sync."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefdata import judge as judges
from prefdata.errors import RecipeError, SourceError, nearest
from prefdata.judge import Judge
from prefdata.people import argilla, label_studio, rows
from prefdata.people.form import KINDS, Form, Layout, form_of
from prefdata.people.server import Server
from prefdata.people.store import Store
from prefdata.people.taking import Given, Taken, gold_accuracy
from prefdata.people.tasks import READ, Choice, Task, make_tasks
from prefdata.sources.chunk import Chunk
from prefdata.sources.files import DELIMITERS, chunks, locate
from prefdata.sources.kinds import PromptSource
from prefdata.version import Version

Tool = Literal["label-studio", "csv", "jsonl", "argilla"]
TOOLS: tuple[Tool, ...] = ("label-studio", "csv", "jsonl", "argilla")


@dataclass(frozen=True)
class Asked:
    """What a version asks of people."""

    form: Form
    tasks: list[Task]

    def to_json(self) -> dict[str, Any]:
        gold = sum(task.gold is not None for task in self.tasks)
        return {"judge": self.form.judge, "layout": self.form.layout,
                "tasks": len(self.tasks), "gold": gold}  # fmt: skip


def ask(version: Version, store: Store, layout: Layout, judge: str | None, choice: Choice) -> Asked:
    """The tasks of a version, remembered as handed out."""
    form = form_of(_judge(version, layout, judge), layout)
    tables = {name: version.table(name) for name in READ}
    tasks = make_tasks(tables, form, choice, store.answered(form))
    store.hand_out(form, tasks, version.ref)
    return Asked(form, tasks)


def _judge(version: Version, layout: Layout, named: str | None) -> Judge:
    """The judge whose rubric is asked by: the named one, else the only one of the version."""
    own = {path.stem: path for path in sorted((version.path / "judges").glob("*.toml"))}
    if named is not None:
        return judges.load(own.get(named, named))
    loaded = [judges.load(path) for path in own.values()]
    fitting = [judge for judge in loaded if judge.kind == KINDS[layout]]
    if len(fitting) != 1:
        names = ", ".join(judge.name for judge in fitting) or "none"
        raise RecipeError(
            f"{version.ref} has {len(fitting)} {KINDS[layout]} judges ({names}); say by whose "
            "rubric people are to answer: --judge NAME"
        )
    return fitting[0]


def export(folder: Path, asked: Asked, tool: Tool, name: str, choice: Choice) -> list[Path]:
    """Write the files of a tool into a folder; their paths."""
    if tool == "label-studio":
        made = label_studio.files(asked.form, asked.tasks, hints=choice.hints)
    elif tool == "argilla":
        made = argilla.files(asked.form, asked.tasks, name, overlap=choice.overlap)
    else:
        made = rows.files(tool, asked.form, asked.tasks)
    rows.write(folder, made)
    return [folder / each for each in made]


def read(paths: Sequence[Path], annotator: str | None, names: Mapping[str, str]) -> Iterator[Given]:
    """The answers in files that came back: of whichever tool, told by what stands in them.

    `annotator` is who answered where a row does not say; `names` maps those of a tool to ours.
    """
    for path in paths:
        spec = PromptSource(path=str(path.resolve()))
        _, suffix = locate(spec, Path())
        tool = "csv" if suffix in DELIMITERS else "jsonl"
        for chunk in chunks(spec, Path(), ()):
            for line, reason, row in chunk.bad:
                yield _unreadable(f"{path.name}, line {line}", tool, reason, row)
            for place, row in _rows(path, chunk):
                yield from _given(place, row, tool, annotator, names)


def _rows(path: Path, chunk: Chunk) -> Iterator[tuple[str, dict[str, Any]]]:
    for at, line in enumerate(chunk.line):
        yield f"{path.name}, line {line}", json.loads(chunk.row(at))


def _given(
    place: str, row: Any, tool: str, annotator: str | None, names: Mapping[str, str]
) -> Iterator[Given]:
    try:
        if label_studio.is_one(row):
            yield from label_studio.given(row, place, names)
        elif argilla.is_one(row):
            yield from argilla.given(row, place, names)
        else:
            named = row.get("annotator") or annotator or ""
            yield rows.given({**row, "annotator": names.get(str(named), named)}, place, tool)
    except (AttributeError, TypeError) as error:
        yield _unreadable(place, tool, f"it is no row of a known tool: {error}", row)


def _unreadable(place: str, tool: str, reason: str, row: Any) -> Given:
    return Given(place, tool, "", "", {}, {}, wrong=reason, row=row)


def names_of(pairs: Sequence[str]) -> dict[str, str]:
    """Annotators by what their tool calls them, from "3=anna"."""
    parted = [each.partition("=") for each in pairs]
    for tool, equals, ours in parted:
        if not (tool and equals and ours.strip()):
            raise RecipeError(f"--name {tool!r}: expected its name there = ours, as in 3=anna")
    return {tool: ours.strip() for tool, _, ours in parted}


def take(store: Store, given: Iterator[Given], *, replace: bool = False) -> Taken:
    """Take answers into the store; `SourceError` if nothing was ever handed out."""
    if not store.tasks():
        raise SourceError(
            f"{store.folder} has no tasks: nothing was handed out for this dataset; "
            "prefdata annotate export does"
        )
    return store.take(given, replace=replace)


def sync(server: Server, store: Store, name: str, asked: Asked, choice: Choice) -> tuple[int, int]:
    """Send to Label Studio what is not there yet; the project, and how many tasks were sent.

    Of two at once the second one waits, and then finds all there.
    """
    form = asked.form
    with store.sending():
        project = server.project(
            f"prefdata {name} {form.layout} {form.digest}",
            f"{name}: {form.judge} ({form.layout})",
            config=label_studio.config(form, hints=choice.hints),
            instruction=label_studio.instruction(form),
            overlap=choice.overlap,
        )
        return project, server.send(project, label_studio.tasks(form, asked.tasks))


def pull(server: Server, project: int, names: Mapping[str, str]) -> Iterator[Given]:
    """The answers in a project."""
    for task in server.export(project):
        place = f"project {project}, task {task.get('id')}"
        yield from _given(place, task, "label-studio", None, names)


def taken_json(taken: Taken) -> dict[str, Any]:
    """What an import came to."""
    gold = gold_accuracy(taken.rows)
    return {
        "new": taken.new, "known": taken.known, "mended": taken.mended, "waiting": taken.waiting,
        "quarantined": [each._asdict() for each in taken.quarantined],
        "annotators": sorted({row["annotator"] for row in taken.rows}),
        "gold": {who: {"accuracy": share, "n": n} for who, (share, n) in gold.items()},
    }  # fmt: skip


def refuse_unknown(tool: str) -> Tool:
    """The tool of a name; `RecipeError` for one that there is not."""
    for each in TOOLS:
        if tool == each:
            return each
    raise RecipeError(f"there is no tool {tool!r}; {nearest(tool, TOOLS)}")
