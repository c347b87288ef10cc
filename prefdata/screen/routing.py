"""What a simulation of routers found, as drawn on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from prefdata.screen import write


def draw_simulated(found: Mapping[str, Any], on: Console) -> None:
    on.print(
        write.text(
            f"{write.count(found['rows'])} rows: labels right {found['label_accuracy']:.3f}, "
            f"people right {found['person_accuracy']:.3f}",
            "bold",
        )
    )
    on.print()
    routers: Mapping[str, Any] = found["routers"]
    shares = [point["share"] for point in next(iter(routers.values()))["at"]]
    wanted = any(each["reaches"] is not None for each in routers.values())
    columns = ["router", *(f"{share:.0%}#" for share in shares), "area over random"]
    table = write.table(*columns, *(["rows needed"] if wanted else []))
    table.columns[0].no_wrap = True
    for name, each in routers.items():
        cells = [f"{point['accuracy']:.3f}{_mark(point)}" for point in each["at"]]
        area = f"{each['area']:+.4f} ({each['area_low']:+.4f} to {each['area_high']:+.4f})"
        table.add_row(
            write.text(name + (" †" if each["taught"] else ""), "bold"),
            *cells,
            area,
            *([_budget(each["reaches"])] if wanted else []),
        )
    on.print(table)
    on.print("\n* above the 95 % interval of rows by lot", style="dim")
    if any(each["taught"] for each in routers.values()):
        on.print("† learns from people's votes on the other half, not in its budget", style="dim")


def _mark(point: Mapping[str, Any]) -> str:
    return "*" if point["above_random"] else " "


def _budget(reaches: Mapping[str, Any] | None) -> str:
    if reaches is None:
        return "never"
    money = f", {reaches['cost']:.2f}" if "cost" in reaches else ""
    return f"{write.count(reaches['rows'])} ({reaches['share']:.0%}{money})"
