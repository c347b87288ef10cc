"""What the clients of models need that prefdata does not bring along, looked at without a load."""

import importlib.util
from typing import TYPE_CHECKING

from prefdata.errors import ModelError

if TYPE_CHECKING:
    from prefdata.models.spec import ModelSpec

# The extra that brings them has the client's name.
PACKAGES = {
    "embedded": ("xllamacpp",),
    "local": ("torch", "transformers"),
    "vllm": ("vllm",),
}


def is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is loaded, from nowhere that could be named
        return True


def lacking(role: str, spec: "ModelSpec") -> ModelError | None:
    """What is raised where the packages of a model's client are not installed."""
    absent = [each for each in PACKAGES.get(spec.client, ()) if not is_installed(each)]
    if not absent:
        return None
    return ModelError(
        f"the model {role!r} of the client {spec.client!r} needs {' and '.join(absent)}, which "
        f"this Python has not; install it with: pip install 'prefdata[{spec.client}]'"
    )
