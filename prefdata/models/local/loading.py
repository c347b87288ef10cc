"""Models and tokenizers with their weights, as `engine` of the recipe wants them."""

import importlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

from prefdata.errors import ModelError, RecipeError, nearest
from prefdata.models.spec import ModelSpec

SETTINGS = (
    *("dtype", "device", "device_map", "attn_implementation", "trust_remote_code"),
    *("max_model_len", "max_num_batched_tokens", "threads", "use_safetensors"),
)
DTYPES = ("float32", "bfloat16", "float16")
# While transformers loads a model it changes its classes for the whole process, so that of two
# that are loaded at once one may be left with a head that is not tied to its embeddings.
ONE_AT_A_TIME = threading.Lock()


def libraries(spec: ModelSpec) -> tuple[Any, Any]:
    """torch and transformers; `ModelError` where they are not installed."""
    try:
        torch: Any = importlib.import_module("torch")
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise absent("torch and transformers") from error
    if threads := spec.engine.get("threads"):
        torch.set_num_threads(int(threads))
    return torch, transformers


def absent(what: str) -> ModelError:
    return ModelError(
        f"the client 'local' needs {what}; install it with: pip install 'prefdata[local]'"
    )


def tokenizer(spec: ModelSpec) -> Any:
    _, transformers = libraries(spec)
    auto = transformers.AutoTokenizer
    return loaded(spec, lambda: auto.from_pretrained(spec.model, **source(spec)))


def transformer(spec: ModelSpec, kind: str) -> Any:
    """The model as transformers' class `kind` reads it, on its device.

    `ModelError` where the weights cannot be loaded or are those of another kind: transformers
    would go on with a head of random numbers.
    """
    torch, transformers = libraries(spec)
    how = reading(spec, torch)
    auto = getattr(transformers, kind)

    def load() -> tuple[Any, list[str]]:
        given = {**source(spec), **how}
        model, told = auto.from_pretrained(spec.model, output_loading_info=True, **given)
        return model, _lacking(model, told["missing_keys"])

    model, missing = loaded(spec, load)
    if missing:
        raise ModelError(
            f"the weights of {spec.model!r} lack {missing[0]!r}: they are not those of "
            f"transformers' {kind}, which what was asked needs"
        )
    if "device_map" not in how:
        model.to(device(spec, torch))
    model.eval()
    return model


def reading(spec: ModelSpec, torch: Any) -> dict[str, Any]:
    """From which files weights are read, in which numbers and where they are kept, and how
    attention is computed with them.

    Other files than safetensors are pickles, which may run code; they are read if asked for.
    """
    name = str(spec.engine.get("dtype", DTYPES[0]))
    if name not in DTYPES:
        raise RecipeError(f"engine.dtype is {name!r}; {nearest(name, DTYPES)}")
    further = ("device_map", "attn_implementation")
    given = {name: spec.engine[name] for name in further if name in spec.engine}
    safe = bool(spec.engine.get("use_safetensors", True))
    return {"use_safetensors": safe or None, "dtype": getattr(torch, name), **given}


def device(spec: ModelSpec, torch: Any) -> str:
    return str(spec.engine.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))


def source(spec: ModelSpec) -> dict[str, Any]:
    """What every loader is told beside the model's name."""
    revision = {"revision": spec.revision} if spec.revision else {}
    return {"trust_remote_code": bool(spec.engine.get("trust_remote_code", False)), **revision}


def loaded(spec: ModelSpec, load: Callable[[], Any]) -> Any:
    """What `load` gives, without a bar; `ModelError` where it fails."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    with ONE_AT_A_TIME:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # a build has a display of its own
        try:
            return load()
        except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
            said = " ".join(str(error).split())[:500]
            raise ModelError(
                f"transformers cannot load the model {spec.model!r}: {said}. Expected a model of "
                "the hub or a folder of weights"
            ) from error
        finally:
            if shown:
                logging.enable_progress_bar()


def _lacking(model: Any, missing: Iterable[str]) -> list[str]:
    """The parameters that the checkpoint does not give, less those that share another's numbers.

    Whether transformers names a head that is tied to the embeddings as missing depends on what
    else was loaded in the process.
    """
    model.tie_weights()
    held = dict(model.named_parameters(remove_duplicate=False))
    names = set(missing)
    given = {each.data_ptr() for name, each in held.items() if name not in names}
    return sorted(n for n in names if n not in held or held[n].data_ptr() not in given)
