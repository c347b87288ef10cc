import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.judge.family import family_of

LISTED = tomllib.loads(files("prefdata.judge").joinpath("families.toml").read_text("utf-8"))
ENTRIES = [(entry, family) for family, entries in LISTED.items() for entry in entries]

KNOWN = {
    "gpt-4o-mini-2024-07-18": "gpt",
    "openai/gpt-oss-120b": "gpt",
    "ChatGPT-0301": "gpt",
    "gpt35_turbo_instruct": "gpt",
    "text_davinci_003": "gpt",
    "o3-mini": "gpt",
    "claude-3-5-sonnet-20240620": "claude",
    "anthropic/claude-sonnet-4": "claude",
    "bedrock_claude": "claude",
    "google/gemma-2-9b-it": "gemini",
    "PaLM2": "gemini",
    "Qwen/Qwen2.5-7B-Instruct": "qwen",
    "qwen3:8b": "qwen",
    "meta-llama/Meta-Llama-3.1-70B-Instruct": "llama",
    "LLaMA2": "llama",
    "allenai/tulu-2-dpo-7b": "llama",
    "deepseek-ai/DeepSeek-R1": "deepseek",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "qwen",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": "llama",
    "mistralai/Mixtral-8x22B-Instruct-v0.1": "mistral",
    "HuggingFaceH4/zephyr-7b-beta": "mistral",
    "microsoft/Phi-3-mini-4k-instruct": "phi",
    "01-ai/Yi-34B-Chat": "yi",
    "smollm2-135m": "smollm",
    "EleutherAI/gpt-neox-20b": "gpt-neo",
    "CohereForAI/c4ai-command-r-plus": "command",
    "tiiuae/falcon-40b-instruct": "falcon",
    "cerebras/Cerebras-GPT-6.7B": "cerebras",
    "facebook/opt-6.7b": "opt",
}


@pytest.mark.parametrize(("name", "family"), KNOWN.items())
def test_known_models(name, family):
    assert family_of(name) == family


UNKNOWN = [
    "",
    "-",
    "/",
    "my-own-model",
    "NullModel",
    "gpt4all-13b",
    "tayi-7b",
    "o100",
    "Octopus-7B",
    "delphi-7b",
    "alphinity",
    "judge",
    "writer",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_says_nothing_is_of_no_family(name):
    assert family_of(name) is None


def test_two_families_of_equal_length_are_not_decided():
    assert family_of("llama-gemma-merge") is family_of("gemma-llama-merge") is None
    assert family_of("llama-2-gemma-merge") is None


def test_the_organisation_counts_where_the_model_says_nothing():
    assert family_of("openai/some-new-name") == "gpt"
    assert family_of("anthropic/gpt-4") == "gpt"


@pytest.mark.parametrize(("entry", "family"), ENTRIES)
def test_every_entry_finds_its_family_and_stands_once(entry, family):
    assert family_of(entry) == (family or None)
    assert [each for each, _ in ENTRIES].count(entry) == 1


@given(st.text(max_size=40))
def test_any_text_has_a_known_family_or_none(name):
    assert family_of(name) is None or family_of(name) in LISTED


@given(
    st.sampled_from(sorted(KNOWN)), st.sampled_from(["upper", "lower", "title"]),
    st.sampled_from("-_ ."), st.sampled_from(["", "-q4_0", ".gguf", ":latest"]),
)  # fmt: skip
def test_how_a_name_is_spelt_does_not_matter(name, case, separator, ending):
    spelt = getattr(name, case)().replace("-", separator) + ending
    assert family_of(spelt) == KNOWN[name]
