"""A planted secret is nowhere after a run with faults: not in files, logs, errors or output."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.conftest import load

KEY = "sk-planted-0123456789abcdefghij"
PASSWORD = "planted-password-9876"
IN_URL = "planted-in-the-query"
LOGIN = f"planted-user:{PASSWORD}"
SECRETS = (KEY, PASSWORD, base64.b64encode(LOGIN.encode()).decode(), IN_URL)
RECIPE = """
name = "careful"
sources.prompts = "prompts.jsonl"

[models.m]
client = "openai"
model = "repeatable"
retries = 1
{mode}

[[stages]]
use = "generate.sample"
model = "m"

[[stages]]
use = "annotate.pointwise"
judge = "helpfulness-rating"
model = "m"
allow_self = true
"""
# Every log of every library, as if somebody looked for a fault.
RUN = """
import logging, sys
logging.basicConfig(level=1)
from prefdata.cli import main
sys.argv = ["prefdata", "build", "r.toml", "--plain", "--json", "--data", "data"]
main()
"""


@pytest.fixture
def server() -> Iterator[Any]:
    with load("server").Server() as running:
        yield running


def run(folder: Path, url: str) -> tuple[dict[str, Any], str]:
    """The last line of a build and everything that it wrote anywhere."""
    here = str(Path(__file__).parents[1])
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, "PYTHONPATH": here}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env={**environment, "PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    files = [path for path in (folder / "data").rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() + str(path).encode() for path in files)
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr + str(kept)


def addresses(url: str) -> dict[str, str]:
    host = url.removeprefix("http://")
    return {"key": url, "login": f"http://{LOGIN}@{host}?api_key={IN_URL}"}


@pytest.mark.parametrize("mode", ["live", "batch"])
@pytest.mark.parametrize("how", ["key", "login"])
def test_no_secret_is_left_anywhere(mode: str, how: str, server: Any, tmp_path: Path):
    """Where the server repeats it in errors and in answers, and where it refuses everybody."""
    rows = [json.dumps({"prompt": f"Question {i};"}) for i in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    (tmp_path / "r.toml").write_text(RECIPE.format(mode=f'mode = "{mode}"'))
    url = addresses(server.url)[how]

    server.fault("echo", match="v1/files" if mode == "batch" else "Question")
    refused, written = run(tmp_path, url)
    assert "error" in refused
    everything = written

    server.reset()
    server.fault("echo", match="Question 3;")
    server.fault("parrot", match="Question 4;")
    server.fault("500", match="Question 5;", times=1)
    built, written = run(tmp_path, url)
    assert built["tables"]["completions"] == 11
    everything += written
    assert "uthorization" in written, "the server did repeat its headers"

    server.reset()
    server.fault("401")
    (tmp_path / "prompts.jsonl").write_text("\n".join([*rows, json.dumps({"prompt": "One more"})]))
    refused, written = run(tmp_path, url)
    assert "401" in refused["error"]
    everything += written

    assert "Question 6;" in everything, "what may be written was"
    for secret in SECRETS:
        assert secret not in everything
