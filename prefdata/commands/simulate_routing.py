"""`prefdata simulate-routing`: what each way of choosing rows for people would have been worth."""

from pathlib import Path
from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, reported


def add_to(app: typer.Typer) -> None:
    app.command("simulate-routing", rich_help_panel=VERSIONS)(simulate_routing)


def simulate_routing(
    version: Annotated[
        str, typer.Argument(metavar="NAME[@ID]", help="A version; without an id, the newest.")
    ],
    label: Annotated[
        str, typer.Option(metavar="ANNOTATOR", help="Whose verdict the rows have: llm:...")
    ],
    person: Annotated[
        str, typer.Option(metavar="ANNOTATOR", help="Whose vote a routed row gets: human:1.")
    ],
    truth: Annotated[
        str, typer.Option(metavar="ANNOTATORS", help="Whose most frequent verdict is right.")
    ] = "human:*",
    routers: Annotated[
        list[str] | None,
        typer.Option("--router", metavar="NAME", help="Only this one, beside random; repeatable."),
    ] = None,
    shares: Annotated[
        str, typer.Option("--at", metavar="SHARES", help="Shares of rows to print, in percent.")
    ] = "5,10,20,30,50",
    accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="A", help="Also say which budget reaches this."),
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="What a person's vote costs.")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, metavar="N", help="Orders of rows of equal gain.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all lots.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .svg of the curves to write.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Simulate routing on a version whose rows have votes of people and of models.

    Every router orders the rows without seeing people's votes; the curve is the accuracy of the
    labels when the first rows of that order have a person's vote.
    """
    with reported(as_json):
        from prefdata.screen import curves, write
        from prefdata.screen import routing as screen
        from prefdata.simulation import chosen, percent, simulate
        from prefdata.version import find

        found = find(data, version)
        simulated = simulate(
            {name: found.table(name) for name in ("prompts", "completions", "votes")},
            label=label,
            person=person,
            truth=truth,
            routers=chosen(routers or []),
            draws=draws,
            seed=seed,
            price=price,
        )
        told = simulated.to_json(percent(shares), accuracy)
        if picture is not None:
            lines = {name: each.mean for name, each in simulated.curves.items()}
            random = simulated.curves["random"]
            title = f"{found.ref}: accuracy of labels, {label} and {person}"
            picture.write_text(
                curves.picture(title, lines, (random.low, random.high)), encoding="utf-8"
            )
        if as_json:
            drawn = {} if picture is None else {"picture": str(picture)}
            write.print_json({"version": found.ref, **told, **drawn})
        else:
            screen.draw_simulated(told, write.out())
