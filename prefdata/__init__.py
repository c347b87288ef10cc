"""prefdata: preference datasets that one can train on and trust.

built = prefdata.build("quickstart")              # a recipe into a version
pairs = prefdata.load("quickstart", "pairwise")   # an export or a table of a version
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefdata.dataset import build
    from prefdata.recipe import Recipe
    from prefdata.version.stored import load

__all__ = ["Recipe", "build", "load"]

_HOMES = {"build": "dataset", "Recipe": "recipe", "load": "version.stored"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import prefdata` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prefdata' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"prefdata.{_HOMES[name]}"), name)
