"""Chance that can be had again, an undisturbed build, and a place for disturbed ones.

`PREFDATA_CHAOS_ROUNDS` is how often each test is tried, `PREFDATA_CHAOS_SEED` what chance comes
from; both stand in the name of a test that fails.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos.place import Calm, Place, undisturbed, write_recipe
from tests.models.conftest import load

SEED = os.environ.get("PREFDATA_CHAOS_SEED") or "0"
ROUNDS = int(os.environ.get("PREFDATA_CHAOS_ROUNDS") or 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "chance" in metafunc.fixturenames:
        rounds = max(1, ROUNDS // getattr(metafunc.module, "SELDOM", 1))
        named = [f"seed {SEED} round {at}" for at in range(rounds)]
        metafunc.parametrize("chance", named, indirect=True, ids=named)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> Random:
    """The same draws for the same test, seed and round."""
    return Random(request.node.name)


@pytest.fixture(autouse=True, scope="session")
def no_prefect() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("OPENAI_API_KEY", "none")
        yield


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """The recipe built by one process that nothing disturbs, asked of people, and built again."""
    return undisturbed(tmp_path_factory.mktemp("calm"))


@pytest.fixture
def server() -> Iterator[Any]:
    with load("server").Server() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, calm: Calm, server: Any) -> Place:
    """A folder with the recipe and no data yet."""
    write_recipe(tmp_path, server.url)
    return Place(tmp_path, server, calm)
