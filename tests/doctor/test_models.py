"""The doctor asks of each model what a build asks of it, and refuses what a build refuses."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import prefdata
from prefdata import holding
from prefdata.doctor import examine
from prefdata.errors import PrefdataError
from prefdata.finding import Finding
from prefdata.models import packages
from tests.models.server import Server

RECIPE = """
name = "examined"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"
[models.asked]
{model}

[[stages]]
use = "generate.sample"
model = "writer"
n = 2
"""
SCORED = RECIPE + '[[stages]]\nuse = "annotate.reward_model"\nmodels = ["asked"]\n'
VOTED = '[[stages]]\nuse = "annotate.pairwise"\njudge = "helpfulness"\nallow_self = true\n'
EMBEDDED = f"""{RECIPE}{VOTED}model = "writer"
[[stages]]
use = "route.features"
model = "asked"
"""
WRITTEN = RECIPE.replace('model = "writer"', 'model = "asked"')
JUDGED = f'{RECIPE}{VOTED}model = "asked"\n'


@pytest.fixture(autouse=True)
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def write(folder: Path, recipe: str, model: str) -> str:
    (folder / "prompts.jsonl").write_text('{"prompt": "Say one."}\n{"prompt": "Say two."}\n')
    (folder / "examined.toml").write_text(recipe.format(model=model))
    return str(folder / "examined.toml")


def at(url: str, *more: str) -> str:
    return "\n".join(['client = "openai"\nmodel = "m"', f'base_url = "{url}"', *more])


def told(folder: Path, recipe: str, about: str = "asked", **how: Any) -> Finding:
    examination = examine(recipe, data=folder / "data", **how)
    assert not (folder / "data").exists()
    (finding,) = [each for each in examination.findings if each.check == about]
    return finding


class Newer(Server):
    """A server of a model that knows only the newer name of the bound, and thinks first."""

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        noted = self._note(request.headers, body)
        if "max_tokens" in body or body.get("max_completion_tokens") != 1:
            return self._refuse(noted, "400")
        said = {"error": {"message": "Could not finish: model output limit was reached."}}
        return web.json_response(said, status=400)


def test_a_reward_model_is_asked_for_a_reward(tmp_path: Path):
    with Server() as server:
        path = write(tmp_path, SCORED, at(server.url.removesuffix("/v1")))
        finding = told(tmp_path, path)
        (asked,) = server.requests
        assert prefdata.build(path, data=tmp_path / "built").tables["scores"] == 4
    assert (finding.level, "a reward" in finding.says) == ("ok", True)
    assert asked["body"]["messages"][-1]["role"] == "assistant"


def test_a_model_of_embeddings_is_asked_for_one(tmp_path: Path):
    with Server() as server:
        path = write(tmp_path, EMBEDDED, at(server.url))
        finding = told(tmp_path, path)
        (asked,) = server.requests
        assert prefdata.build(path, data=tmp_path / "built").is_new
    assert (finding.level, "an embedding" in finding.says) == ("ok", True)
    assert "input" in asked["body"]


@pytest.mark.parametrize("options", ["", "options.max_completion_tokens = 900"])
def test_a_model_that_knows_the_newer_bound_only_is_asked_for_one_token(
    tmp_path: Path, options: str
):
    with Newer() as server:
        finding = told(tmp_path, write(tmp_path, WRITTEN, at(server.url, options)))
        bodies = [each["body"] for each in server.requests]
    assert finding.level == "ok", finding
    assert bodies[-1]["max_completion_tokens"] == 1
    assert len(bodies) == (1 if options else 2)


def test_a_bound_that_the_model_does_not_know_is_told_as_a_build_would_meet_it(tmp_path: Path):
    """A judge bounds its replies by `max_tokens`, unless the recipe has the newer name."""
    with Newer() as server:
        finding = told(tmp_path, write(tmp_path, JUDGED, at(server.url)))
        assert len(server.requests) == 1
        assert finding.level == "error"
        assert "bad request" in finding.says
        newer = at(server.url, "options.max_completion_tokens = 900")
        assert told(tmp_path, write(tmp_path, JUDGED, newer)).level == "ok"


def test_what_is_asked_without_a_key_is_not_said_to_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path, WRITTEN, at("http://127.0.0.1:9/v1"))
    assert "its key is set" in told(tmp_path, path, ask=False).says
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "asked without a key" in told(tmp_path, path, ask=False).says


@pytest.mark.parametrize("client", ["embedded", "local", "vllm"])
def test_a_client_whose_package_is_absent_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
):
    (tmp_path / "weights.gguf").write_bytes(b"x")
    path = write(tmp_path, WRITTEN, f'client = "{client}"\nmodel = "{tmp_path}/weights.gguf"')
    find, absent = importlib.util.find_spec, packages.PACKAGES[client]
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name in absent else find(name)
    )
    finding = told(tmp_path, path, path)
    assert finding.level == "error"
    assert f"prefdata[{client}]" in finding.says


REFUSED = {
    "an option": lambda text: text.replace("n = 2", "n = 0"),
    "a budget without prices": lambda text: f"budget = 1\n{text}",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_a_build_refuses_is_an_error(tmp_path: Path, change: str):
    path = write(tmp_path, REFUSED[change](WRITTEN), at("http://127.0.0.1:9/v1"))
    with pytest.raises(PrefdataError) as raised:
        prefdata.build(path, data=tmp_path / "built")
    finding = told(tmp_path, path, path)
    assert (finding.level, finding.says) == ("error", str(raised.value))


def test_sources_that_cannot_be_read_are_in_the_way(tmp_path: Path):
    path = write(tmp_path, WRITTEN, at("http://127.0.0.1:9/v1"))
    (tmp_path / "prompts.jsonl").unlink()
    assert "prompts.jsonl" in told(tmp_path, path, path).says


def test_room_that_a_build_on_disk_would_not_have_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Server() as server:
        path = write(tmp_path, WRITTEN, at(server.url))
        monkeypatch.setattr(holding, "LARGE", 1)
        monkeypatch.setattr(holding, "ROOM", 1e15)
        with pytest.raises(PrefdataError, match="Make room"):
            prefdata.build(path, data=tmp_path / "built")
        finding = told(tmp_path, path, path)
        assert len(server.requests) == 1, "the endpoint is asked all the same"
    assert finding.level == "error"
    assert "Make room" in finding.says
    assert str(tmp_path) in finding.says
