"""`prefdata annotate`: hand tasks out to people and take back what they answered."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from prefdata.commands.common import (
    VERSIONS,
    Data,
    Json,
    VersionName,
    flag,
    reported,
    with_options_of,
)

if TYPE_CHECKING:
    from prefdata.people.tasks import Choice


class Asking(NamedTuple):
    """What is asked of people, and how: the options that export and sync share."""

    layout: Annotated[
        str,
        typer.Option(
            metavar="LAYOUT", help="pairwise (two side by side) or rating (one by itself)."
        ),
    ] = "pairwise"
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="JUDGE",
            help="By whose rubric; by default that of the version's only judge of this kind.",
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="At most N tasks, the first of the queue."),
    ] = None
    overlap: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many people answer the same task.")
    ] = 1
    gold: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Gold questions, as a share of the tasks."
        ),
    ] = 0.0
    gold_by: Annotated[
        str | None,
        typer.Option(metavar="ANNOTATOR", help="Whose answers are gold, such as human:expert."),
    ] = None
    hints: Annotated[
        bool, flag("--show-votes", "Show what models voted; by default no one is told.")
    ] = False
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Which side is first comes from it.")
    ] = 0

    def choice(self, annotators: tuple[str, ...] = ()) -> "Choice":
        from prefdata.people.tasks import Choice

        return Choice(
            self.limit, annotators, self.overlap, self.gold, self.gold_by, self.hints, self.seed
        )


Replace = Annotated[bool, flag("--replace", "Take a new answer in place of a kept one.")]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="THERE=OURS", help="Whom a tool calls 3: 3=anna. Repeatable."),
]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        name="annotate",
        help="Ask people: hand tasks out, take back what they answered.",
        no_args_is_help=True,
    )
    group.command()(export)
    group.command("import")(take_in)
    group.command()(sync)
    app.add_typer(group, rich_help_panel=VERSIONS)


@with_options_of(Asking)
def export(
    asking: Asking,
    version: VersionName,
    tool: Annotated[str, typer.Option(metavar="TOOL", help="label-studio, csv, jsonl or argilla.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to; by default out/ of the dataset's annotations."),
    ] = None,
    annotators: Annotated[
        list[str] | None,
        typer.Option("--annotator", metavar="WHO", help="Whom the tasks are for; may be repeated."),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write the queue of a version as tasks for people, with instructions from the rubric."""
    with reported(as_json):
        from prefdata.people import exchange
        from prefdata.screen import write

        chosen = exchange.refuse_unknown(tool)
        choice = asking.choice(tuple(annotators or ()))
        found, store, asked = _asked(data, version, asking, choice)
        folder = out or store.folder / "out"
        paths = exchange.export(folder, asked, chosen, found.name, choice)
        told = {"version": found.ref, **asked.to_json(), "files": [str(each) for each in paths]}
        if as_json:
            write.print_json(told)
            return
        write.out().print(write.text(_counted(told)), soft_wrap=True)
        for path in paths:
            write.out().print(write.text(f"  {path}"), soft_wrap=True)


def take_in(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dataset that was exported.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="What came back."),
    ],
    annotator: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Who answered, where a row does not say."),
    ] = None,
    names: Names = None,
    replace: Replace = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Take in what people answered; the next build of the dataset has their votes."""
    with reported(as_json):
        from prefdata.people import exchange
        from prefdata.people.store import Store

        store = Store(data, name.partition("@")[0])
        given = exchange.read(files, annotator, exchange.names_of(names or []))
        _tell(exchange.taken_json(exchange.take(store, given, replace=replace)), store, as_json)


@with_options_of(Asking)
def sync(
    asking: Asking,
    version: VersionName,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where Label Studio runs; by default LABEL_STUDIO_URL."),
    ] = None,
    names: Names = None,
    replace: Replace = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send the queue to a running Label Studio and take in what was answered there.

    The token is read from LABEL_STUDIO_API_KEY. Run it as often as you like: nothing is sent or
    taken twice.
    """
    with reported(as_json):
        from prefdata.people import exchange
        from prefdata.people.server import Server

        server = Server(url)
        choice = asking.choice()
        found, store, asked = _asked(data, version, asking, choice)
        project, sent = exchange.sync(server, store, found.name, asked, choice)
        answers = exchange.pull(server, project, exchange.names_of(names or []))
        taken = exchange.taken_json(exchange.take(store, answers, replace=replace))
        place = f"{server.url}/projects/{project}"
        _tell({"version": found.ref, "project": place, "sent": sent, **taken}, store, as_json)


def _asked(data: Path | None, version: str, asking: Asking, choice: "Choice") -> Any:
    from prefdata.people import exchange
    from prefdata.people.form import refuse_unknown
    from prefdata.people.store import Store
    from prefdata.version import find

    found = find(data, version)
    store = Store(data, found.name)
    layout = refuse_unknown(asking.layout)
    return found, store, exchange.ask(found, store, layout, asking.judge, choice)


def _counted(told: dict[str, Any]) -> str:
    gold = f", {told['gold']} of them gold questions" if told["gold"] else ""
    return f"{told['version']}: {told['tasks']} tasks by the rubric of {told['judge']}{gold}"


def _tell(told: dict[str, Any], store: Any, as_json: bool) -> None:
    from prefdata.screen import write

    if as_json:
        write.print_json(told)
        return
    out = write.out()
    if "sent" in told:
        out.print(write.text(f"{told['project']}: {told['sent']} tasks sent"), soft_wrap=True)
    counts = f"{told['new']} answers taken, {told['mended']} mended, {told['known']} known already"
    out.print(write.text(f"{counts}, {told['waiting']} tasks not answered yet"), soft_wrap=True)
    for who, each in told["gold"].items():
        said = f"{who}: right on {each['accuracy']:.0%} of {each['n']} gold questions"
        out.print(write.text(said), soft_wrap=True)
    refused = told["quarantined"]
    for each in refused[:10]:
        out.print(write.text(f"left out: {each['place']}: {each['reason']}"), soft_wrap=True)
    if refused:
        said = f"{len(refused)} answers were left out; all are in {store.folder}/quarantine.jsonl"
        out.print(write.text(said), soft_wrap=True)
