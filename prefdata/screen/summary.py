"""A plan, a finished build, the versions there are and how two of them differ."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from prefdata.dataset import Built
from prefdata.errors import VersionError, nearest
from prefdata.expectation import Figures
from prefdata.forecast import Forecast, total
from prefdata.models.prices import Prices
from prefdata.plan import Plan, PlannedStage
from prefdata.screen import write
from prefdata.screen.catalogue import flow
from prefdata.version import Version, data_folder, listed

FIGURES = ("requests", "answered", "tokens_in", "tokens_out")


def plan_json(
    planned: Plan,
    rows: Mapping[str, int],
    forecasts: Sequence[Forecast],
    *,
    budget: float | None = None,
    max_requests: int | None = None,
) -> dict[str, Any]:
    """What would run, and what it would ask and cost. `cost` is null where a price is missing.

    `interval` has the least and the most of each figure of the requests still to be asked, and
    `basis` what these rest on; `limits` are those of the build, by default the recipe's.
    """
    recipe = planned.recipe
    by_stage = {each.stage: each for each in forecasts}
    stages = [_planned(stage, planned, by_stage.get(stage.name)) for stage in planned.stages]
    costs = [stage["cost"] for stage in stages]
    return {
        "name": planned.recipe.name,
        "sources": dict(rows),
        "models": {
            role: {
                "client": planned.recipe.models[role].client,
                "label": model.label,
                "identity": model.identity,
                "options": dict(model.options),
                "price": _price(planned.recipe.models[role].prices),
            }
            for role, model in planned.models.items()
        },
        "judges": {name: judge.digest for name, judge in planned.judges.items()},
        "stages": stages,
        "exports": [_planned(stage, planned, None) for stage in planned.exports],
        "total": {
            **{figure: sum(stage[figure] for stage in stages) for figure in FIGURES},
            "cost": None if None in costs else sum(costs),
            "interval": _interval(*total(list(forecasts)), priced=None not in costs),
        },
        "limits": {
            "budget": recipe.budget if budget is None else budget,
            "max_requests": recipe.max_requests if max_requests is None else max_requests,
        },
    }


def _planned(stage: PlannedStage, planned: Plan, forecast: Forecast | None) -> dict[str, Any]:
    roles = sorted({model.role for model in stage.models})
    expected = forecast or Forecast(stage.name)
    priceless = [role for role in roles if planned.recipe.models[role].prices is None]
    unknown = expected.unknown
    return {
        "name": stage.name,
        "use": stage.use,
        "reads": list(stage.contract.reads),
        "reads_if_there": list(stage.contract.reads_if_there),
        "writes": list(stage.contract.writes),
        "models": roles,
        "judges": sorted({judge.name for judge in stage.judges}),
        **{figure: getattr(expected, figure) for figure in FIGURES},
        "cost": None if unknown or (priceless and expected.requests) else expected.cost,
        "interval": _interval(
            expected.expected.low, expected.expected.high, priced=not (unknown or priceless)
        ),
        "basis": [asdict(each) for each in expected.expected.basis],
        "unpriced": priceless if expected.requests else [],
        "unknown": unknown,
    }


def _price(prices: Prices | None) -> dict[str, Any] | None:
    return None if prices is None else {**asdict(prices), "source": prices.source}


def _interval(low: Figures, high: Figures, *, priced: bool) -> dict[str, Any]:
    names = ("requests", "tokens_in", "tokens_out")
    whole = {name: [round(getattr(low, name)), round(getattr(high, name))] for name in names}
    return {**whole, "cost": [low.cost, high.cost] if priced else None}


def draw_plan(plan: Mapping[str, Any], on: Console) -> None:
    on.print(write.text(plan["name"], "bold"), write.text(write.rows(plan["sources"]) or "no rows"))
    on.print()
    table = write.table(
        "stage", "requests#", "answered#", "tokens in#", "out#", "cost#", "interval#"
    )
    table.columns[0].ratio = 1
    table.expand = on.width <= 100
    for stage in (*plan["stages"], *plan["exports"]):
        table.add_row(_stage_cell(stage), *_figures(stage))
    if len(plan["stages"]) > 1:
        table.add_row(Text("total", "bold"), *_figures(plan["total"], always=True))
    on.print(table)
    _draw_models(plan["models"], on)
    for stage in plan["stages"]:
        if stage["unknown"]:
            said = f"{stage['name']}: not known before it runs: {stage['unknown']}"
            on.print(write.text(said, "yellow"))
    _draw_basis(plan["stages"], on)
    if any(model["price"] and model["price"]["noted"] for model in plan["models"].values()):
        said = "List prices may have changed since: state price_in and price_out to be exact."
        on.print(write.text(said, "yellow"))
    for role in sorted({role for stage in plan["stages"] for role in stage["unpriced"]}):
        said = f"no price for {role}: set its price_in and price_out (USD a million tokens)"
        on.print(write.text(said, "yellow"))
    _draw_limits(plan, on)
    on.print("\n[dim]Nothing was spent. Figures are estimates; the answered cost nothing.[/dim]")


def _draw_limits(plan: Mapping[str, Any], on: Console) -> None:
    """Whether a limit will end the asking."""
    within: Mapping[str, Any] = plan["total"]["interval"]
    budget, most = plan["limits"]["budget"], plan["limits"]["max_requests"]
    for name, limit, bounds in (
        (f"the budget of {write.dollars(budget or 0)}", budget, within["cost"]),
        (f"the limit of {write.count(most or 0)} requests", most, within["requests"]),
    ):
        if limit is None or bounds is None or bounds[1] <= limit:
            continue
        sure = "will" if bounds[0] > limit else "may"
        said = f"{name} {sure} be reached: the version would then be partial"
        on.print(write.text(said, "yellow"))


def _draw_basis(stages: Sequence[Mapping[str, Any]], on: Console) -> None:
    """What the figures rest on: how tokens were counted, how long replies are taken to be."""
    table = write.table("stage", "model", "read", "written")
    for stage in stages:
        for basis in stage["basis"]:
            table.add_row(
                write.text(stage["name"]),
                write.text(basis["model"], "bold"),
                *(write.text(basis[what], "dim") for what in ("tokens", "replies")),
            )
    if table.row_count:
        on.print()
        on.print(table)


def _stage_cell(stage: Mapping[str, Any]) -> RenderableType:
    who = [*(f"model {role}" for role in stage["models"])]
    who += [f"judge {name}" for name in stage["judges"]]
    lines = [write.text(flow(stage), "cyan")] + ([write.text(", ".join(who), "dim")] if who else [])
    return Group(
        write.text(stage["name"], "bold"), *(Padding(each, (0, 0, 0, 2)) for each in lines)
    )


def _figures(figures: Mapping[str, Any], *, always: bool = False) -> list[str]:
    if figures.get("unknown") and not figures["requests"]:
        return ["?"] * 6
    if not figures.get("requests") and not always:
        return [""] * 6
    cost = "?" if figures["cost"] is None else write.dollars(figures["cost"])
    return [
        write.count(figures["requests"]),
        write.count(figures["answered"]),
        write.brief(figures["tokens_in"]),
        write.brief(figures["tokens_out"]),
        cost,
        _between(figures["interval"]["cost"]) if figures["cost"] else "",
    ]


def _between(bounds: Sequence[float] | None) -> str:
    """ "$0.80–2.10"."""
    if bounds is None:
        return ""
    low, high = (write.dollars(bound) for bound in bounds)
    return low if low == high else f"{low}–{high.removeprefix('$')}"


def _draw_models(models: Mapping[str, Any], on: Console) -> None:
    if not models:
        return
    table = write.table("model", "client", "served", "options", "USD per million in, out")
    for role, model in models.items():
        options = ", ".join(f"{name} {value}" for name, value in model["options"].items())
        table.add_row(
            write.text(role, "bold"),
            model["client"],
            write.text(model["label"]),
            write.text(options, "dim"),
            write.text(_priced(model["price"]), "dim"),
        )
    on.print()
    on.print(table)


def _priced(price: Mapping[str, Any] | None) -> str:
    if price is None:
        return "not known"
    if not price["read"] and not price["written"]:
        return "free"
    listed = f", list price of {price['noted']}" if price["noted"] else ""
    return f"{price['read']:g}, {price['written']:g}{listed}"


def draw_built(built: Built, on: Console) -> None:
    """What a build came to and what to do with it."""
    fate = "new version" if built.is_new else "was there already: nothing new to write"
    style = "bold green" if built.is_new else "bold"
    if built.partial:
        fate, style = f"{fate}, partial", "bold yellow"
    on.print()
    on.print(write.text(f"{built.name}@{built.id}", style), write.text(fate))
    on.print(write.text(built.path), soft_wrap=True)
    on.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    for name, said in _facts(built):
        facts.add_row(name, write.text(said))
    on.print(facts)
    if built.partial:
        on.print()
        draw_partial(built.partial, on)
    ref = f"{built.name}@{built.id}"
    on.print()
    on.print(write.text("look at it   "), write.text(f"prefdata show {ref}", "bold"), sep="")
    for view in list(built.exports)[:1]:
        said = f'prefdata.load("{ref}", "{view}")'
        on.print(write.text("load it      "), write.text(said, "bold"), sep="", soft_wrap=True)


def draw_partial(partial: Mapping[str, Any], on: Console) -> None:
    """Why a version is not whole, what is missing, and how to go on."""
    missing = ", ".join(f"{name} {write.count(n)}" for name, n in partial["missing"].items())
    said = f"partial: {partial['reason']}; requests that were not sent: {missing}"
    on.print(write.text(said, "yellow"))
    on.print(write.text(f"to go on: {partial['go_on']}", "dim"))
    if partial.get("advice"):
        on.print(write.text(partial["advice"], "dim"))


def _facts(built: Built) -> list[tuple[str, str]]:
    requests, tokens = built.requests, built.tokens
    asked = [f"{write.count(requests['asked'])} asked"]
    asked += [f"{write.count(requests['cached'])} from the ledger"]
    refused = sum(built.partial["missing"].values()) if built.partial else 0
    failed = requests["failed"] - refused
    asked += [f"{write.count(failed)} failed"] if failed else []
    asked += [f"{write.count(refused)} not sent"] if refused else []
    asked += [write.dollars(built.cost)] if built.cost else []
    found = [
        ("tables", write.rows(built.tables)),
        ("exports", ", ".join(f"{name} {write.count(n)}" for name, n in built.exports.items())),
        ("dropped", write.reasons(built.dropped)),
        ("unscored", "; ".join(f"{s}: {write.reasons(by)}" for s, by in built.unscored.items())),
        ("quarantined", f"{write.count(built.quarantined)} rows" if built.quarantined else ""),
        ("requests", ", ".join(asked) if any(requests.values()) else "none"),
        ("tokens", ", ".join(f"{write.count(n)} {way}" for way, n in tokens.items() if n)),
    ]
    return [(name, said) for name, said in found if said]


def versions(data: Path | None, name: str | None = None) -> list[dict[str, Any]]:
    """Every version, or those of one dataset, the newest last."""
    found = listed(data)
    if name is not None and name not in {version.name for version in found}:
        known = nearest(name, {version.name for version in found})
        raise VersionError(f"there is no version of {name!r} in {data_folder(data)}; {known}")
    return [_version(each) for each in found if name in (None, each.name)]


def _version(version: Version) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "name": version.name,
        "id": version.id,
        "created": version.created,
        "path": str(version.path),
        "tables": {name: each["rows"] for name, each in manifest["tables"].items()},
        "exports": {
            view: sum(each["splits"].values()) for view, each in manifest["exports"].items()
        },
        "bytes": sum(each["bytes"] for each in manifest["files"].values()),
        "partial": manifest.get("partial"),
    }


def draw_versions(found: Sequence[Mapping[str, Any]], data: Path | None, on: Console) -> None:
    if not found:
        where = f"There is no version in {data_folder(data)} yet."
        on.print(write.text(where), "Build one: prefdata build quickstart")
        return
    table = write.table("version", "made (UTC)", "pairs#", "rows#", "size#", "exports", "")
    table.columns[0].no_wrap = True
    for entry in found:
        table.add_row(
            write.text(f"{entry['name']}@{entry['id']}", "bold"),
            write.text(write.moment(entry["created"])),
            write.count(entry["tables"].get("pairs", 0)),
            write.count(sum(entry["tables"].values())),
            write.size(entry["bytes"]),
            write.text(", ".join(entry["exports"])),
            write.text("partial" if entry["partial"] else "", "yellow"),
        )
    on.print(table)
