"""`prefdata serve`: the command of each engine, and servers that start, answer and end."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from prefdata import cli
from prefdata.errors import ModelError
from prefdata.models import serving, vllm
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.serving import Server
from prefdata.models.spec import ModelSpec
from tests.models.conftest import VERDICT, ask

ENGINE = """
max_model_len = 4096
enforce_eager = true
enable_prefix_caching = false
gpu_memory_utilization = 0.5
hf_overrides = { rope = [1, 2] }
"""
RECIPE = f"""
name = "served"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "vllm"
model = "some/model"
temperature = 0.9
[models.writer.engine]{ENGINE}

[models.judge]
client = "vllm"
model = "some/model"
temperature = 0.0
[models.judge.engine]{ENGINE}

[models.other]
client = "vllm"
model = "an/other"
revision = "abc"

[models.elsewhere]
client = "openai"
model = "far/away"

[[stages]]
use = "generate.sample"
model = "writer"
"""
INSTALLED = importlib.util.find_spec("vllm") is not None
ANSWERING = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def shown(*words: str) -> Any:
    done = CliRunner().invoke(cli.app, ["serve", *words, "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])["servers"]


def test_a_recipe_is_a_server_for_each_engine(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    one, two = shown(str(path), "--port", "9000")
    assert one["models"] == {"writer": "some/model", "judge": "some/model"}
    assert one["base_url"] == "http://127.0.0.1:9000/v1"
    said = " ".join(one["command"])
    for words in (
        "--port 9000",
        "--max-model-len 4096",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--gpu-memory-utilization 0.5",
        '--hf-overrides {"rope": [1, 2]}',
    ):
        assert words in said
    assert "some/model" in one["command"]
    assert "temperature" not in said
    assert two["models"] == {"other": "an/other"}
    assert two["base_url"] == "http://127.0.0.1:9001/v1"
    assert "--revision abc" in " ".join(two["command"])


def test_what_is_shown_goes_into_a_recipe(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    done = CliRunner().invoke(cli.app, ["serve", str(path), "--dry-run"])
    models = tomllib.loads(done.stdout)["models"]
    assert set(models) == {"writer", "judge", "other"}
    specs = {role: ModelSpec.model_validate(each) for role, each in models.items()}
    assert specs["writer"].served() == specs["judge"].served() != specs["other"].served()


def test_a_name_is_a_model_and_an_adapter_a_name_of_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vllm, "_knows", lambda _: True)
    (one,) = shown("org/model")
    assert one["models"] == {"org/model": "org/model"}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"r": 12, "target_modules": ["v", "q"]})
    )
    specs = {
        "plain": ModelSpec(client="vllm", model="m"),
        "tuned": ModelSpec(client="vllm", model="m", adapter=str(adapter)),
    }
    (server,) = serving.servers(specs, "127.0.0.1", 8000)
    assert server.names == {"plain": "m", "tuned": "tuned"}
    said = " ".join(server.command)
    assert "--enable-lora --max-loras 1 --max-lora-rank 16" in said
    assert "--lora-target-modules q v --" in said
    assert said.endswith(f"--lora-modules tuned={adapter}")


def test_a_recipe_without_such_models_has_nothing_to_serve():
    done = CliRunner().invoke(cli.app, ["serve", "quickstart", "--dry-run"])
    assert done.exit_code == 1
    assert "nothing to serve" in done.output


def test_servers_are_waited_for_and_ended():
    ports = [free_port(), free_port()]
    wanted = [
        Server([sys.executable, "-c", ANSWERING, str(port)], "127.0.0.1", port, {"m": "m"})
        for port in ports
    ]
    with serving.running(wanted) as started:
        serving.ready(wanted, started)
        serving.refuse_ended(wanted, started)
    assert all(each.returncode is not None for each in started)


def test_a_server_that_ends_is_an_error_and_ends_the_others():
    port = free_port()
    sleeping = Server([sys.executable, "-c", ANSWERING, str(port)], "127.0.0.1", port, {"a": "m"})
    failing = Server(
        [sys.executable, "-c", "raise SystemExit(3)"], "127.0.0.1", free_port(), {"b": "m"}
    )
    with (
        pytest.raises(ModelError, match=r"server of b .* exit code 3"),
        serving.running([sleeping, failing]) as started,
    ):
        serving.ready([sleeping, failing], started)
    assert started[0].returncode is not None
    absent = Server(["no-such-program-here"], "127.0.0.1", port, {"a": "m"})
    with pytest.raises(ModelError, match="pip install"), serving.running([absent]):
        pass


@contextmanager
def served(model: Path, folder: Path) -> Iterator[str]:
    port = free_port()
    recipe = folder / "served.toml"
    recipe.write_text(
        f'name = "served"\nsources.prompts = "prompts.jsonl"\n[models.m]\nclient = "vllm"\n'
        f"model = {json.dumps(str(model))}\n"
        "engine = { max_model_len = 1024, enforce_eager = true }\n"
    )
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2",
    }
    command = [sys.executable, "-m", "prefdata", "serve", str(recipe), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        (server,) = json.loads(process.stdout.readline())["servers"]  # comes when it is ready
        yield server["base_url"]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        time.sleep(0.5)
        with socket.socket() as tried:
            assert tried.connect_ex(("127.0.0.1", port)), "the server outlives the command"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not INSTALLED, reason="vllm is not installed (make test-slow)")
def test_a_real_server_of_vllm_answers_the_openai_client(tmp_path: Path, small_model: Path):
    """Chat, several draws, schemas and choices, as in process; a bad row is a row with a reason."""
    with served(small_model, tmp_path) as url:
        spec = ModelSpec(
            client="openai", model=str(small_model), base_url=url, max_tokens=24, timeout=300,
            temperature=0.0, max_n=4,
        )  # fmt: skip
        with Edge({"m": spec}, Ledger(tmp_path / "ledger")) as edge:
            texts = [f"Name {n} colours." for n in range(2, 6)]
            said = edge(ask(spec, texts))
            assert said["error"].null_count() == len(texts)
            assert 0 < said["tokens_out"].min() <= said["tokens_out"].max() <= 24  # pyright: ignore
            kept = edge(ask(spec, texts, options={"logprobs": True}))
            for row in kept.iter_rows(named=True):
                assert len(row["logprobs"]) == row["tokens_out"]
                assert all(each["logprob"] <= 0 for each in row["logprobs"])
            warm = spec.model_copy(update={"temperature": 1.0})
            draws = pl.Series("draw", range(4), dtype=pl.Int64)
            drawn = edge(ask(warm, ["Tell a story."] * 4, draw=draws))
            assert drawn["text"].n_unique() > 1
            verdicts = edge(ask(spec, texts, options={"schema": VERDICT, "max_tokens": 64}))
            whole = verdicts.filter(pl.col("finish_reason") == "stop")["text"]
            assert len(whole)
            assert all(json.loads(each)["verdict"] in ("A", "B", "tie") for each in whole)
            options = {"choices": ["The", "I", "A"]}
            chosen = edge(ask(spec, texts, want="choice", options=options))
            for row in chosen.filter(pl.col("error").is_null())["logprobs"]:
                shares = np.exp([each["logprob"] for each in row])
                np.testing.assert_allclose(shares.sum(), 1, atol=1e-6)
            assert chosen["error"].null_count()
            mixed = edge(ask(spec, ["Say hello.", "word " * 3000]))
            assert mixed["error"].is_null().to_list() == [True, False]
