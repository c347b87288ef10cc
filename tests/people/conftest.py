"""The planted dataset, built once; each test has a copy of its folder."""

import shutil
from pathlib import Path

import pytest

from prefdata.dataset import Built
from tests.people.planted import build


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Path]:
    """The dataset before anybody was asked, and its folder."""
    folder = tmp_path_factory.mktemp("asked")
    return build(folder), folder


@pytest.fixture
def asked(first: tuple[Built, Path], tmp_path: Path) -> Path:
    """A folder in which the dataset is built."""
    return shutil.copytree(first[1], tmp_path / "asked")
