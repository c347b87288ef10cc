"""How many tokens a text is for a model: by its own tokenizer where that is at hand, no engine.

At hand are the tokenizer of a folder of weights, of a model in the hub's cache of this machine, of
a .gguf file with a byte-level vocabulary, and tiktoken's where the package and its file are there.
Nothing is downloaded. Otherwise `BYTES_A_TOKEN` is taken: English text has 3.7 to 5.2 bytes a token
with a vocabulary of 49,000 tokens, which is the stated error; other languages and code have fewer.
"""

import hashlib
import importlib
import os
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from prefdata.models import weights
from prefdata.models.spec import ModelSpec

BYTES_A_TOKEN = 4.3
ERROR = 0.25
# What a free text is taken to have that nobody has bounded and of whose kind none was seen yet.
GUESSED_TOKENS = 256
# Marks that chat templates put around a message.
TOKENS_A_TURN = 5
# What a template may add besides: a system message of its own, a date.
ERROR_OF_TEMPLATES = 0.05
TIKTOKEN_FILES = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"

Count = Callable[[Sequence[str]], Sequence[int]]
_SCALARS: Mapping[int, str] = dict(
    zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
)
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class TokenCounter:
    """Counts tokens of texts. `error` is relative; `how` says how, for people."""

    count: Count
    how: str
    error: float


def estimated() -> TokenCounter:
    said = f"{BYTES_A_TOKEN:g} bytes a token (±{ERROR:.0%})"
    return TokenCounter(
        lambda texts: [round(n_bytes(t) / BYTES_A_TOKEN) for t in texts], said, ERROR
    )


def n_bytes(text: str) -> int:
    """How many bytes a text has; a lone surrogate, which no server is sent, has three."""
    return len(text.encode("utf-8", "surrogatepass"))


def counter(spec: ModelSpec) -> TokenCounter:
    """The best count at hand for a model."""
    if spec.client == "scripted":
        return TokenCounter(
            lambda texts: [len(t.split()) for t in texts], "words, as it counts them", 0
        )
    for find in (_of_weights, _of_hub_cache, _of_tiktoken):
        try:
            if found := find(spec):
                return found
        except Exception:  # noqa: BLE001 - whatever is wrong with a tokenizer, there is the estimate
            continue
    return estimated()


def _of_weights(spec: ModelSpec) -> TokenCounter | None:
    path = weights.locate(spec)
    if path is None:
        return None
    if path.is_file() and path.suffix == ".gguf":
        return _of_gguf(path)
    return _of_file(path / "tokenizer.json")


def _of_hub_cache(spec: ModelSpec) -> TokenCounter | None:
    if "/" not in spec.model or weights.is_path(spec.model):
        return None
    hub: Any = importlib.import_module("huggingface_hub")
    found = hub.try_to_load_from_cache(spec.model, "tokenizer.json", revision=spec.revision)
    return _of_file(Path(found)) if isinstance(found, str) else None


def _of_file(path: Path) -> TokenCounter | None:
    if not path.is_file():
        return None
    library: Any = importlib.import_module("tokenizers")
    return _counting(library.Tokenizer.from_file(str(path)))


def _counting(tokenizer: Any) -> TokenCounter:
    def count(texts: Sequence[str]) -> list[int]:
        return [
            len(each.ids) for each in tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]

    return TokenCounter(count, "its own tokenizer", ERROR_OF_TEMPLATES)


def _of_tiktoken(spec: ModelSpec) -> TokenCounter | None:
    if spec.client != "openai":
        return None
    library: Any = importlib.import_module("tiktoken")
    name = library.encoding_name_for_model(spec.model)
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    cache = Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache")
    address = TIKTOKEN_FILES.format(name)
    # Without this file tiktoken would fetch it.
    if not (cache / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()).is_file():
        return None
    encoding = library.get_encoding(name)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(each) for each in encoding.encode_ordinary_batch(list(texts))]

    return TokenCounter(count, f"tiktoken's {name}", ERROR_OF_TEMPLATES)


def _of_gguf(path: Path) -> TokenCounter | None:
    """The byte-level tokenizer in a .gguf file; None where it is of another kind."""
    said = gguf_fields(path, "tokenizer.ggml.")
    if said.get("model") != "gpt2":
        return None
    library: Any = importlib.import_module("tokenizers")
    split = library.pre_tokenizers
    vocabulary = {token: at for at, token in enumerate(said["tokens"])}
    merges = [tuple(each.split(" ", 1)) for each in said["merges"]]
    tokenizer = library.Tokenizer(library.models.BPE(vocabulary, merges))
    digits = [split.Digits(individual_digits=True)] if said.get("pre") == "smollm" else []
    bytes_ = split.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = split.Sequence([*digits, bytes_])
    return _counting(tokenizer)


def gguf_fields(path: Path, start: str) -> Mapping[str, Any]:
    """The metadata of a .gguf file whose names begin so, by the rest of their names."""
    with path.open("rb") as file:
        magic, version = file.read(4), _number(file, "I")
        if magic != b"GGUF" or version < 2:
            raise ValueError(f"{path} is no GGUF file of version 2 or later")
        _number(file, "Q")
        fields = {_text(file): _value(file, _number(file, "I")) for _ in range(_number(file, "Q"))}
    return {k.removeprefix(start): v for k, v in fields.items() if k.startswith(start)}


def _number(file: BinaryIO, kind: str) -> Any:
    return struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        inner, n = _number(file, "I"), _number(file, "Q")
        return [_value(file, inner) for _ in range(n)]
    return _number(file, _SCALARS[kind])
