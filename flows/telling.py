"""What a flow run tells: lines in its log, and artifacts of what came of it."""

# pyright: basic, reportMissingImports=false

from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from prefdata.dataset import Built
from prefdata.screen.progress import Lines
from prefdata.watch import Event, Made, Watch


class Telling:
    """Tells the flow's log, and whoever else watches, what happens; keeps the counts of stages."""

    def __init__(self, watch: Watch) -> None:
        self._lines = Lines(get_run_logger().info)
        self._watch = watch
        self._stages: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        self._lines(event)
        self._watch(event)
        if isinstance(event, Made):
            said = {"stage": event.stage, "seconds": round(event.seconds, 1)}
            lost = {"dropped": event.dropped, "unscored": sum(event.unscored.values())}
            rows = ", ".join(f"{n} {name}" for name, n in event.tables.items())
            self._stages.append({**said, "rows": rows, **lost})

    def publish(self, built: Built, spent: float) -> None:
        """What came of it, as artifacts of the flow run: the funnel, what it cost, the report.

        `spent` is what all tries of the build cost together, in USD.
        """
        key = f"prefdata-{built.name}".replace(".", "-").replace("_", "-").lower()
        version = f"{built.name}@{built.id}"
        create_table_artifact(
            self._stages, key=key, description=f"Rows by stage of {version} in {built.path}"
        )
        create_markdown_artifact(
            _told(built, spent), key=f"{key}-cost", description=f"Cost of {version}"
        )
        report = Path(built.path) / "report.html"
        if report.exists():
            create_link_artifact(
                report.as_uri(),
                link_text="report.html",
                key=f"{key}-report",
                description=f"Report of {version}, on the machine that built it",
            )


def _told(built: Built, spent: float) -> str:
    """What a build came to, in Markdown."""
    what = "a new version" if built.is_new else "nothing new: this version was there already"
    asked = built.requests
    said = [
        f"**{built.name}@{built.id}**, {what}",
        f"- {spent:.4f} USD, {built.tokens['in']:,} tokens in, {built.tokens['out']:,} out",
        f"- requests: {', '.join(f'{n:,} {name}' for name, n in asked.items())}",
        f"- rows: {', '.join(f'{n:,} {name}' for name, n in built.tables.items())}",
    ]
    if built.partial:
        said.append(f"- partial: {built.partial['reason']}; {built.partial['go_on']}")
    return "\n".join(said)
