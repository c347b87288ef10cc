"""What a plan says, as JSON and as drawn on a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from prefdata.dataset import Estimate
from prefdata.models.prices import Prices
from prefdata.planning.expectation import Figures
from prefdata.planning.forecast import Forecast, total
from prefdata.planning.plan import Plan, PlannedStage
from prefdata.planning.refusals import absent, of_roles, to_ask
from prefdata.screen import write
from prefdata.screen.catalogue import flow

FIGURES = ("requests", "answered", "tokens_in", "tokens_out")


# Of a stage that asks for replies of many forms.
KINDS_SHOWN = 3


def plan_json(
    estimate: Estimate, *, budget: float | None = None, max_requests: int | None = None
) -> dict[str, Any]:
    """What would run, and what it would ask and cost. `cost` is null where a price is missing.

    `interval` has the least and the most of each figure of the requests still to be asked,
    `by_model` the share of each of several models or members of a jury, and `basis` what these rest
    on; `limits` are those of the build, by default the recipe's; `lacking` says what a build here
    would not find installed. `share` is how much of the sources was read: where it is below 1
    their first rows, and all figures are scaled.
    """
    planned, forecasts, recipe = estimate.plan, estimate.asked, estimate.plan.recipe
    by_stage = {each.stage: each for each in forecasts}
    stages = [_planned(stage, planned, by_stage.get(stage.name)) for stage in planned.stages]
    costs = [stage["cost"] for stage in stages]
    return {
        "name": planned.recipe.name,
        "sources": dict(estimate.rows),
        "share": estimate.share,
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
            "interval": _interval(*total(forecasts), priced=None not in costs),
        },
        "limits": {
            "budget": recipe.budget if budget is None else budget,
            "max_requests": recipe.max_requests if max_requests is None else max_requests,
        },
        "lacking": [str(each) for each in absent(of_roles(planned, to_ask(planned, forecasts)))],
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
        "by_model": _by_model(stage, expected, priceless),
        "basis": [asdict(each) for each in expected.expected.basis],
        "unpriced": priceless if expected.requests else [],
        "unknown": unknown,
    }


def _by_model(
    stage: PlannedStage, forecast: Forecast, priceless: Sequence[str]
) -> list[dict[str, Any]]:
    """The figures of each model that a stage asks, in the order of the stage's options."""
    rows: list[dict[str, Any]] = []
    for role in dict.fromkeys(model.role for model in stage.models):
        requests, answered = forecast.models.get(role, (0, 0))
        likely = forecast.expected.models.get(role, Figures())
        rows.append(
            {
                "model": role,
                "judges": [judge.name for judge in stage.judges_of(role)],
                "requests": requests,
                "answered": answered,
                "tokens_in": round(likely.tokens_in),
                "tokens_out": round(likely.tokens_out),
                "cost": None if role in priceless and requests else likely.cost,
            }
        )
    return rows


def _price(prices: Prices | None) -> dict[str, Any] | None:
    return None if prices is None else {**asdict(prices), "source": prices.source}


def _interval(low: Figures, high: Figures, *, priced: bool) -> dict[str, Any]:
    names = ("requests", "tokens_in", "tokens_out")
    whole = {name: [round(getattr(low, name)), round(getattr(high, name))] for name in names}
    return {**whole, "cost": [low.cost, high.cost] if priced else None}


def draw_plan(plan: Mapping[str, Any], on: Console) -> None:
    on.print(write.text(plan["name"], "bold"), write.text(write.rows(plan["sources"]) or "no rows"))
    if plan["share"] < 1:
        said = f"about, after the first {plan['share']:.2%} of the sources: they are large"
        on.print(write.text(said, "yellow"))
    on.print()
    table = write.table(
        "stage", "requests#", "answered#", "tokens in#", "out#", "cost#", "interval#"
    )
    table.columns[0].ratio = 1
    table.expand = on.width <= 100
    for stage in (*plan["stages"], *plan["exports"]):
        table.add_row(_stage_cell(stage), *_figures(stage))
        for each in stage["by_model"] if len(stage["by_model"]) > 1 else ():
            table.add_row(_model_cell(each), *_figures({**each, "interval": {"cost": None}}))
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
    for said in plan["lacking"]:
        on.print(write.text(f"here a build would fail: {said}", "yellow"))
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
        for basis in stage["basis"][:KINDS_SHOWN]:
            table.add_row(
                write.text(stage["name"]),
                write.text(basis["model"], "bold"),
                *(write.text(basis[what], "dim") for what in ("tokens", "replies")),
            )
        if more := len(stage["basis"][KINDS_SHOWN:]):
            said = f"and {more} more kinds of replies: --json has all"
            table.add_row(write.text(stage["name"]), "", "", write.text(said, "dim"))
    if table.row_count:
        on.print()
        on.print(table)


def _stage_cell(stage: Mapping[str, Any]) -> RenderableType:
    who = [*(f"model {role}" for role in stage["models"])]
    who += [f"judge {name}" for name in stage["judges"]]
    who = who if len(stage["models"]) < 2 else []
    lines = [write.text(flow(stage), "cyan")] + ([write.text(", ".join(who), "dim")] if who else [])
    return Group(
        write.text(stage["name"], "bold"), *(Padding(each, (0, 0, 0, 2)) for each in lines)
    )


def _model_cell(share: Mapping[str, Any]) -> RenderableType:
    said = ", ".join((share["model"], *share["judges"]))
    return Padding(write.text(said, "dim"), (0, 0, 0, 2))


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
