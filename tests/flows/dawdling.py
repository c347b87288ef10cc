"""A stage of a user's own that asks a model and then takes its time, for tests that kill it."""

import os
import time
from pathlib import Path

import polars as pl

from prefdata.stage import Asks, Model, requests
from prefdata.tables import Completions, Scores, empty

# Names a folder in which it notes what it is at, and waits while there is a file `hold`.
FOLDER = "PREFDATA_DAWDLING"


def dawdle(completions: Completions, *, model: Model) -> Asks[Scores]:
    """The length of what a model says of each completion."""
    asked = requests(model, "text", completions["completion"])
    responses = yield asked
    _wait(completions)
    said = asked.select("request_id").join(
        responses, on="request_id", how="left", maintain_order="left"
    )
    return Scores(
        completions.select(
            subject_id="completion_id",
            subject=pl.lit("completion"),
            score=pl.lit("remarks"),
            value=said["text"].str.len_chars().cast(pl.Float64),
        )
    )


def _wait(completions: Completions) -> None:
    if not os.environ.get(FOLDER) or completions.is_empty():
        return
    folder = Path(os.environ[FOLDER])
    node = os.environ.get("PREFDATA_NODE", "-")
    with (folder / "log").open("a") as log:
        log.write(f"{completions['completion_id'].min()} {os.getpid()} {node}\n")
    while (folder / "hold").exists():
        time.sleep(0.05)


def deadly(completions: Completions) -> Scores:
    """Ends the process that it is in."""
    if os.environ.get(FOLDER):
        os._exit(1)
    return Scores(empty("scores"))
