"""`prefdata deploy`."""

import re
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from prefdata.commands.common import (
    BUILD,
    Budget,
    Changes,
    Data,
    Engine,
    Json,
    Limit,
    MaxRequests,
    RecipeName,
    Store,
    flag,
    reported,
)

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=BUILD)(deploy)


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    said = re.fullmatch(r"([1-9]\d*)([smhd])", text.strip())
    if not said:
        raise typer.BadParameter(f"{text!r} is no interval such as 30s, 15m, 6h or 1d")
    return int(said[1]) * SECONDS[said[2]]


def _limits(texts: list[str] | None) -> dict[str, int]:
    limits: dict[str, int] = {}
    for text in texts or []:
        role, _, most = text.rpartition("=")
        if not role or not most.isdigit():
            raise typer.BadParameter(f"{text!r} is not MODEL=N, such as judge=2")
        limits[role] = int(most)
    return limits


def deploy(
    recipe: RecipeName,
    cron: Annotated[
        str | None,
        typer.Option(metavar="CRON", help='When to build: "0 3 * * *" is every night at three.'),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Instead of --cron, an interval: 30s, 15m, 6h, 1d."),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Of --cron, as Europe/Berlin; else UTC.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the deployment, else the recipe's.")
    ] = None,
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Work pool; made if there is none, of processes.")
    ] = "prefdata",
    file: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the deployment is described.")
    ] = Path("prefect.yaml"),
    retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="How often a run that fails is tried again.")
    ] = 2,
    model_limits: Annotated[
        list[str] | None,
        typer.Option(
            "--model-limit",
            metavar="MODEL=N",
            help="At most N batches of requests at a model at a time, over all deployments; 0 "
            "takes the limit away.",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/REPO",
            help="Push each version that is built to the Hub, unless a limit left it partial.",
        ),
    ] = None,
    push_partial: Annotated[
        bool, flag("--push-partial", "With --push: push a partial version, too.")
    ] = False,
    limit: Limit = None,
    changes: Changes = None,
    budget: Budget = None,
    max_requests: MaxRequests = None,
    engine: Engine = None,
    store: Store = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Have a recipe built on a schedule, by a Prefect server and its workers."""
    interval, limits = _seconds(every), _limits(model_limits)
    with reported(as_json):
        from prefdata import way
        from prefdata.screen import deployed, write

        way.need_prefect("prefdata deploy")
        if engine is not None:
            way.need_engine(engine)
        elif store is not None:
            raise typer.BadParameter("--store is where --engine hands tables on; give that, too")
        if push_partial and push is None:
            raise typer.BadParameter("--push-partial is of --push; give that, too")
        flows = import_module("prefdata.flows.deploy")
        done = flows.deploy(
            recipe,
            flows.Schedule(cron, interval, timezone),
            file=file,
            name=name,
            pool=pool,
            retries=retries,
            model_limits=limits,
            data=data,
            changes=changes or None,
            limit=limit,
            budget=budget,
            max_requests=max_requests,
            push=push,
            push_partial=push_partial or None,
            engine=engine,
            store=store,
        ).to_json()
        if as_json:
            write.print_json(done)
        else:
            deployed.draw(done, write.out())
