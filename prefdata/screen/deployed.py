"""A deployment, as drawn on a terminal."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from prefdata.screen import write


def draw(found: Mapping[str, Any], on: Console) -> None:
    """What was deployed, and what has to run for it to be built."""
    on.print()
    on.print(write.text(found["name"], "bold green"), write.text("is deployed"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    schedule = found["schedule"]
    when = (
        f"every {schedule['interval']} seconds"
        if "interval" in schedule
        else f"{schedule['cron']}  ({schedule['timezone']})"
    )
    facts.add_row("when", write.text(when))
    for name, value in found["parameters"].items():
        said = value if isinstance(value, str) else json.dumps(value)
        facts.add_row(write.text(name), write.text(said))
    for tag, most in found["limits"].items():
        facts.add_row("limit", write.text(f"{tag}: {most} batches of requests at a time"))
    facts.add_row("described in", write.text(found["file"]))
    on.print(facts)
    on.print()
    name = shlex.quote(found["name"])
    for what, command in (
        ("have it built    ", f"prefect worker start --pool {shlex.quote(found['pool'])}"),
        ("build it now     ", f"prefect deployment run {name}"),
        ("change it        ", f"edit {found['file']}, then: prefect deploy --all"),
    ):
        on.print(write.text(what), write.text(command, "bold"), sep="", soft_wrap=True)
