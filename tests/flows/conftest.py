"""A Prefect server of the tests' own and a planted recipe, for all of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain import CHAIN

RECIPE = (
    """
name = "planted"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[models.judge]
client = "scripted"
accuracy = 0.9
malformed_rate = 0.1
"""
    + CHAIN
    + """
[[exports]]
use = "export.pairwise"
"""
)
# Of a server that may be slow, which is asked six times at once.
SLOW = """
name = "slow"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "openai"
model = "repeatable"
temperature = 0.9
seed = 1
concurrency = 6

[[stages]]
use = "generate.sample"
model = "writer"
n = 4
"""
N_PROMPTS = 9


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of the tests' own; its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield PREFECT_API_URL.value()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    prompts = (
        json.dumps({"prompt": f"Say something about the number {i}."}) for i in range(N_PROMPTS)
    )
    (tmp_path / "prompts.jsonl").write_text("\n".join(prompts))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"
