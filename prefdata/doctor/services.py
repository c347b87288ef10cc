"""What is reached over the network for all recipes: Prefect's API, the Hub."""

import os
import urllib.request
from collections.abc import Iterator
from functools import partial

from prefdata.finding import Finding
from prefdata.way import prefect_api, without_login

_found = partial(Finding, part="services")
PATIENCE = 10.0


def findings() -> Iterator[Finding]:
    yield _prefect()
    yield _hub()


def _prefect() -> Finding:
    about, url = "Prefect", prefect_api()
    if not url:
        do = "for schedules: `prefect server start`, and PREFECT_API_URL in the environment"
        return _found(about, "absent", "no API is set up; builds run directly", do)
    shown = without_login(url)
    try:
        health = urllib.request.Request(f"{url.rstrip('/')}/health", headers=_bearer())
        with urllib.request.urlopen(health, timeout=PATIENCE):
            return _found(about, "ok", f"the API at {shown} answers")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        do = "start it with `prefect server start`, or build without it: --plain"
        return _found(about, "error", f"the API at {shown} does not answer: {why}", do)


def _bearer() -> dict[str, str]:
    key = os.environ.get("PREFECT_API_KEY", "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _hub() -> Finding:
    if os.environ.get("HF_TOKEN"):
        return _found("Hugging Face Hub", "ok", "HF_TOKEN is set")
    do = "set HF_TOKEN, or log in with `hf auth login`, to push and to read private datasets"
    return _found("Hugging Face Hub", "absent", "HF_TOKEN is not set", do)
