"""What is reached over the network for all recipes: Prefect's API, the Hub."""

import base64
import os
from collections.abc import Iterator
from functools import partial

from prefdata import telemetry
from prefdata.finding import Finding
from prefdata.models.knock import Unanswered, knock
from prefdata.secrets import without_login
from prefdata.way import prefect_api, prefect_setting

_found = partial(Finding, part="services")
PATIENCE = 10.0


def findings() -> Iterator[Finding]:
    yield _prefect()
    yield _hub()
    yield from _telemetry()


def _prefect() -> Finding:
    about, url = "Prefect", prefect_api()
    if not url:
        do = "for schedules: `prefect server start`, and PREFECT_API_URL in the environment"
        return _found(about, "absent", "no API is set up; builds run directly", do)
    shown = without_login(url)
    why = _unsendable() or _unhealthy(url)
    if why is None:
        return _found(about, "ok", f"the API at {shown} answers")
    do = "see PREFECT_API_URL; `prefect server start` starts one, --plain builds without it"
    return _found(about, "error", f"the API at {shown} does not answer: {why}", do)


def _unhealthy(url: str) -> str | None:
    """Why an API is none that works; None if it does."""
    try:
        said = knock(f"{url.rstrip('/')}/health", _headers(), patience=PATIENCE)
    except Unanswered as why:
        return str(why)
    if said.status in (401, 403):
        wanted = "PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        return f"it refuses who asks ({said.status}); it wants {wanted}"
    if 300 <= said.status < 400:
        return f"it redirects to {without_login(said.location) or 'nowhere'}"
    if said.status != 200:
        return f"it says {said.status}"
    if said.beginning.strip() != b"true":
        return "what answers is not Prefect's API, whose address ends in /api"
    return None


def _unsendable() -> str | None:
    for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
        if not prefect_setting(name).strip().isprintable():
            return f"{name} holds a line break, as no key does; set it to the key alone"
    return None


def _headers() -> dict[str, str]:
    if key := prefect_setting("PREFECT_API_KEY").strip():
        return {"Authorization": f"Bearer {key}"}
    if login := prefect_setting("PREFECT_API_AUTH_STRING").strip():
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {}


def _telemetry() -> Iterator[Finding]:
    """Where traces and metrics go; that they do not get there is in the way of no build."""
    about, asked = "OpenTelemetry", telemetry.endpoints()
    if asked and not telemetry.is_installed():
        lacking = "what sends traces and metrics is not installed"
        yield _found(about, "error", lacking, "pip install 'prefdata[telemetry]'")
    elif said := telemetry.misfit():
        yield _found(about, "error", said, "or set OTEL_SDK_DISABLED=true")
    else:
        for variable, url in dict.fromkeys(asked.values()):
            try:
                knock(url, {}, patience=PATIENCE)
            except Unanswered as why:
                says = f"the collector at {without_login(url)} does not answer: {why}"
                do = f"see {variable}, or set OTEL_SDK_DISABLED=true"
                yield _found(about, "warning", says, do)
            else:
                yield _found(about, "ok", f"something answers at {without_login(url)}")


def _hub() -> Finding:
    if os.environ.get("HF_TOKEN", "").strip():
        return _found("Hugging Face Hub", "ok", "HF_TOKEN is set")
    do = "set HF_TOKEN to push; to read private datasets, that or `hf auth login`"
    return _found("Hugging Face Hub", "absent", "HF_TOKEN is not set", do)
