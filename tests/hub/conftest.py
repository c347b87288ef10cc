"""A loopback Hub, versions to push to it, and a process of its own that loads from it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import polars as pl
import pytest

from prefdata import version
from prefdata.export.binary import binary
from prefdata.export.listwise import listwise
from prefdata.export.pairwise import pairwise
from prefdata.hub import pushing
from prefdata.version import Version
from tests.hub.server import TOKEN, Hub

RECIPE = 'name = "mini"\n[[stages]]\nuse = "aggregate.bradley_terry"\n'
LOADER = """
import json, os, sys, tempfile
import datasets
datasets.disable_progress_bars()
for line in sys.stdin:
    asked = json.loads(line)
    with tempfile.TemporaryDirectory() as cache:
        try:
            loaded = datasets.load_dataset(**asked, cache_dir=cache)
            said = {split: rows.to_list() for split, rows in loaded.items()}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)
"""


def views(made: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    texts = made["prompts"], made["completions"]
    return {
        "pairwise": pairwise(*texts, made["pairs"]),
        "listwise": listwise(*texts, made["strengths"]),
        "binary": binary(*texts, made["pairs"]),
    }


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """What a user of this Hub has set; nothing of what this machine's user has."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


@pytest.fixture(scope="session")
def _running() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture
def hub(_running: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Without repositories and faults; `prefdata` looks for it here, and does not wait long."""
    _running.reset()
    _running.repos.clear()
    _running.objects.clear()
    monkeypatch.setenv("HF_ENDPOINT", _running.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(pushing, "WAITS", (0.0,) * 5)
    return _running


@pytest.fixture
def made(tmp_path: Path, world: Callable[..., Any]) -> Callable[..., Version]:
    """Writes a version of the small world, changed as told."""

    def make(n: int = 6, **changes: Any) -> Version:
        tables = changes.pop("tables", None) or world(n)
        said = {
            **({} if "exports" in changes else {"exports": views(tables)}),
            "recipe_text": RECIPE,
            "resolved": {"name": "mini"},
            "judges": {"helpfulness": 'criterion = "helpfulness"\n'},
            **changes,
        }
        name = said.pop("name", "mini")
        written = version.write(tmp_path / "data", name, tables=tables, **said)
        return version.find(tmp_path / "data", f"{name}@{written.id}")

    return make


class Loader:
    """`datasets.load_dataset` in a process whose environment names the Hub, as a user has it."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOADER],
            env=environment(hub, home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, path: str, **how: Any) -> dict[str, list[dict[str, Any]]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"path": path, **how}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def load(_running: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    loader = Loader(_running, tmp_path_factory.mktemp("home"))
    yield loader
    loader.close()
