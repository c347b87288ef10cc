"""`prefdata build` and `prefdata plan`."""

import uuid
from typing import Annotated, Any

import typer

from prefdata.commands.common import (
    BUILD,
    Budget,
    Changes,
    Data,
    Engine,
    Json,
    Limit,
    LogFormat,
    MaxRequests,
    RecipeName,
    Store,
    Strict,
    flag,
    reported,
)

Fresh = Annotated[bool, flag("--fresh", "Ask again what the ledger has answered.")]


def add_to(app: typer.Typer) -> None:
    for command in (build, plan):
        app.command(rich_help_panel=BUILD)(command)


def build(
    recipe: RecipeName,
    limit: Limit = None,
    changes: Changes = None,
    budget: Budget = None,
    max_requests: MaxRequests = None,
    fresh: Fresh = False,
    strict: Strict = False,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Split each stage's prompts into N parts; by default 1, with --engine as many as "
            "it has processors.",
        ),
    ] = None,
    on_disk: Annotated[
        bool | None,
        typer.Option(
            "--on-disk/--in-memory",
            help="Where tables are held; by default on disk for sources of more than 256 MiB.",
        ),
    ] = None,
    plain: Annotated[bool, flag("--plain", "Run directly, never by Prefect.")] = False,
    prefect: Annotated[
        bool, flag("--prefect", "Run as a Prefect flow, even if no API is set up.")
    ] = False,
    engine: Engine = None,
    store: Store = None,
    dry_run: Annotated[
        bool, flag("--dry-run", "Only say what would run, as `prefdata plan` does.")
    ] = False,
    log_format: LogFormat = "text",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Build a dataset from a recipe. What was ever answered is not asked again."""
    if plain and prefect:
        raise typer.BadParameter("--plain and --prefect exclude each other")
    if plain and engine is not None:
        raise typer.BadParameter("--plain and --engine exclude each other")
    if store is not None and engine is None:
        raise typer.BadParameter("--store is where --engine hands tables on; give that, too")
    if dry_run:
        plan(recipe, limit, changes, budget, max_requests, fresh, strict, data, as_json)
        return
    options: dict[str, Any] = {
        "data": None if data is None else str(data),
        "changes": changes or [],
        "limit": limit,
        "n_shards": shards or (None if engine else 1),
        "on_disk": on_disk,
        "fresh": fresh,
        "strict": strict,
        "budget": budget,
        "max_requests": max_requests,
        **({"engine": engine, "store": store} if engine else {}),
    }
    log = {"run": uuid.uuid4().hex[:12], "recipe": recipe} if log_format == "json" else None
    with reported(as_json, data, building=True, log=log):
        from prefdata import way
        from prefdata.screen import progress, records, write

        builds, how = way.choose(plain=plain, prefect=prefect, engine=engine)
        if log is None:
            write.err().print(write.text(f"building {recipe} {how}", "dim"))
        else:
            records.tell(log, "building", how=how)
        with progress.watching(write.err(), records=log) as watch:
            built = builds(recipe, watch=watch, **options)
        if log is not None:
            records.tell(log, "built", **built.to_json())
        if as_json:
            write.print_json(built.to_json())
        else:
            from prefdata.screen import summary

            summary.draw_built(built, write.out())


def plan(
    recipe: RecipeName,
    limit: Limit = None,
    changes: Changes = None,
    budget: Budget = None,
    max_requests: MaxRequests = None,
    fresh: Fresh = False,
    strict: Strict = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Say what a build would run, ask and cost. Checks everything, spends nothing."""
    with reported(as_json):
        from prefdata.dataset import estimate
        from prefdata.screen import plan as screen
        from prefdata.screen import write

        estimated = estimate(
            recipe,
            data=data,
            changes=changes or [],
            limit=limit,
            fresh=fresh,
            strict=strict,
            budget=budget,
        )
        found = screen.plan_json(estimated, budget=budget, max_requests=max_requests)
        if as_json:
            write.print_json(found)
        else:
            screen.draw_plan(found, write.out())
