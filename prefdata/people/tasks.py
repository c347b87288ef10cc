"""What of a version people are asked, in which order, with which side first.

The queue is what its table `assignments` gives to people, by priority; of a version without one,
its pairs, the least sure first. A rating layout asks about each completion of the queue by itself.

Which of two completions stands first is drawn by lot from the seed and the two ids. If annotators
are named, each task goes to `overlap` of them in turn, half of them with the other side first.

Gold questions are comparisons (or ratings) that a trusted annotator has answered. They stand among
the others, look like them, and their answers stay here: no file that is handed out has them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from prefdata.errors import RecipeError, nearest
from prefdata.people.form import Form
from prefdata.tables import SIDES, digest, with_sides, written

READ = ("prompts", "completions", "assignments", "pairs", "votes", "ratings")
PEOPLE = r"^human(:|$)"

Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Task:
    """One thing to answer. `texts` stand in the order shown; `gold` is the known P(a) or rating.

    `annotator` is whom it is for, if that is settled; `hint` is what others say of it, if that is
    to be shown.
    """

    task_id: str
    completion_a: str
    completion_b: str | None
    a_first: bool | None
    prompt: str
    texts: tuple[str, ...]
    annotator: str | None = None
    gold: float | None = None
    hint: str | None = None

    @property
    def subject(self) -> str:
        """What it is about, however it is shown."""
        return subject(self.completion_a, self.completion_b)


def seen(text: str) -> str:
    """The digest of a text that was shown, whatever a tool does to line ends and outer blanks."""
    return digest("shown", "\n".join(text.splitlines()).strip())


@dataclass(frozen=True)
class Choice:
    """Which tasks are made of a version; see `prefdata annotate export --help`."""

    limit: int | None = None
    annotators: tuple[str, ...] = ()
    overlap: int = 1
    gold: float = 0.0
    gold_by: str | None = None
    hints: bool = False
    seed: int = 0


def make_tasks(
    tables: Tables, form: Form, choice: Choice, answered: Mapping[str, int]
) -> list[Task]:
    """The tasks of a version, in the order in which they are to be answered.

    `answered` says how many people have answered a question on what `subject` names: one that as
    many have answered as are asked for is left out.
    """
    _refuse(choice)
    queue = _queue(tables)
    units = _pairs(queue) if form.layout == "pairwise" else _singles(queue)
    left = [unit for unit in units if answered.get(subject(*unit), 0) < choice.overlap]
    chosen = left[: choice.limit]
    known = _known(tables, form, choice.gold_by)
    mixed = _with_gold(chosen, sorted(known.keys() - set(units)), choice)
    votes = _others(tables) if choice.hints and form.layout == "pairwise" else {}
    texts = _texts(tables, mixed)
    made: list[Task] = []
    for at, unit in enumerate(mixed):
        for who, turned in _slots(at, choice):
            task = _task(unit, form, texts, choice.seed, turned)
            hint = _hint(task, *votes[unit]) if unit in votes else None
            made.append(replace(task, annotator=who, gold=known.get(unit), hint=hint))
    return made


Unit = tuple[str, str | None]


def subject(completion_a: str, completion_b: str | None) -> str:
    """A name of a completion, or of two."""
    return completion_a if completion_b is None else f"{completion_a} {completion_b}"


def _refuse(choice: Choice) -> None:
    if choice.annotators and choice.overlap > len(set(choice.annotators)):
        raise RecipeError(
            f"overlap = {choice.overlap} annotators a task, but only {len(set(choice.annotators))} "
            "are named"
        )
    if choice.gold and choice.gold_by is None:
        raise RecipeError("gold questions need an annotator whose answers are right: --gold-by")


def _queue(tables: Tables) -> pl.DataFrame:
    assigned = tables["assignments"].filter(pl.col("annotator").str.contains(PEOPLE))
    if assigned.height:
        ordered = assigned.sort("priority", *SIDES)
    else:
        ordered = with_sides(tables["pairs"]).sort("soft_label", *SIDES)
    if ordered.is_empty():
        raise RecipeError(
            "this version has no assignments for people and no pairs: give its recipe a route.* "
            "stage, or a pair.* one"
        )
    return ordered.select(SIDES).unique(maintain_order=True)


def _pairs(queue: pl.DataFrame) -> list[Unit]:
    return [(a, b) for a, b in queue.rows()]


def _singles(queue: pl.DataFrame) -> list[Unit]:
    return [(each, None) for each in dict.fromkeys(id for two in queue.rows() for id in two)]


def _known(tables: Tables, form: Form, gold_by: str | None) -> dict[Unit, float]:
    """What a trusted annotator has said of each pair or completion, where they decided."""
    if gold_by is None:
        return {}
    pairwise = form.layout == "pairwise"
    frame = tables["votes" if pairwise else "ratings"]
    key = SIDES if pairwise else ["completion_id"]
    value = pl.col("preference" if pairwise else "rating")
    if gold_by not in frame["annotator"]:
        there = frame["annotator"].unique().to_list()
        raise RecipeError(f"--gold-by {gold_by!r} has answered nothing; {nearest(gold_by, there)}")
    told = frame.filter(pl.col("annotator") == gold_by).group_by(key).agg(value.mean().round(12))
    told = told.drop_nulls().filter((value != 0.5) if pairwise else pl.lit(True))
    return {(row[0], row[1] if pairwise else None): row[-1] for row in told.rows()}


def _with_gold(units: Sequence[Unit], known: Sequence[Unit], choice: Choice) -> list[Unit]:
    """The units with gold questions at random places, at equal distances on the whole."""
    lot = random.Random(digest("gold", choice.seed))
    n = min(len(known), round(choice.gold * len(units)))
    mixed = list(units)
    step = len(units) / n if n else 0.0
    for at, unit in reversed(list(enumerate(lot.sample(known, n)))):
        mixed.insert(int((at + lot.random()) * step), unit)
    return mixed


def _slots(at: int, choice: Choice) -> Iterator[tuple[str | None, bool]]:
    """Who answers a task, and whether with the sides turned."""
    names = tuple(dict.fromkeys(choice.annotators))
    if not names:
        yield None, False
        return
    for slot in range(choice.overlap):
        yield names[(at * choice.overlap + slot) % len(names)], slot % 2 == 1


def _task(unit: Unit, form: Form, texts: Mapping[str, Any], seed: int, turned: bool) -> Task:
    a, b = unit
    if b is None:
        id = digest("task", form.layout, form.digest, a)
        return Task(id, a, None, None, texts[a][0], (texts[a][1],))
    lot = random.Random(digest("sides", seed, a, b)).random() < 0.5
    a_first = lot != turned
    first, second = (a, b) if a_first else (b, a)
    prompts = list(dict.fromkeys((texts[first][0], texts[second][0])))
    id = digest("task", form.layout, form.digest, a, b, a_first)
    both = (texts[first][1], texts[second][1])
    return Task(id, a, b, a_first, "\n\n".join(prompts), both)


def _texts(tables: Tables, units: Sequence[Unit]) -> dict[str, tuple[str, str]]:
    """The prompt and the completion, as text, of every completion of some units."""
    wanted = pl.DataFrame({"completion_id": [id for unit in units for id in unit if id]})
    rows = (
        tables["completions"]
        .join(wanted.cast({"completion_id": pl.String}), on="completion_id", how="semi")
        .join(tables["prompts"].select("prompt_id", "prompt"), on="prompt_id")
        .select("completion_id", "prompt", "completion")
    )
    return {id: (written(prompt), written(completion)) for id, prompt, completion in rows.rows()}


def _others(tables: Tables) -> dict[Unit, tuple[float, int]]:
    """What all but people say of each two completions: the mean P(a preferred), of how many."""
    others = tables["votes"].filter(~pl.col("annotator").str.contains(PEOPLE))
    told = others.drop_nulls("preference").group_by("completion_a", "completion_b")
    means = told.agg(pl.col("preference").mean(), n=pl.len())
    return {(a, b): (mean, n) for a, b, mean, n in means.rows()}


def _hint(task: Task, mean: float, n: int) -> str:
    first = mean if task.a_first else 1 - mean
    return f"{n} votes of models give the first {first:.0%} and the second {1 - first:.0%}"
