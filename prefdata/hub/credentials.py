"""Keys and passwords in texts, by detect-secrets and by the forms that `prefdata.secrets` knows.

Taken are its detectors of the forms in which keys are issued. Those of high entropy and of words
like "password" are for source code: in prose and in answers about code they find what is none.

Source: Yelp, detect-secrets, https://github.com/Yelp/detect-secrets.
"""

# pyright: basic
# detect-secrets does not say what its plugins are

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice

import polars as pl

from prefdata.errors import PushError
from prefdata.secrets import TOKEN

BLOCK = 2_000  # texts that are searched at once: nearly none holds a key
NO_SECRET = {"Public IP (ipv4)"}
OWN = "Key of a provider"
Detector = Callable[[str], Iterable[str]]


def credentials(texts: pl.DataFrame) -> pl.DataFrame:
    """What was found in `texts`, as (kind, place, sample)."""
    rows = texts.select("place", "text").iter_rows()
    blocks = iter(lambda: list(islice(rows, BLOCK)), [])
    found = [each for block in blocks for each in _in(block)]
    return pl.DataFrame(found, schema=dict.fromkeys(("kind", "place", "sample"), pl.String))


def _in(block: list[tuple[str, str]]) -> Iterator[dict[str, str]]:
    joined = "\n".join(text for _, text in block)
    kinds = {kind: find for kind, find in detectors().items() if any(map(bool, find(joined)))}
    for place, text in block if kinds else ():
        found: dict[str, str] = {}
        for kind, find in kinds.items():
            # one key is often known to several, in more or less of what is around it
            new = [each for each in find(text) if not any(old in each for old in found)]
            found |= dict.fromkeys(new, kind)
        yield from ({"kind": kind, "place": place, "sample": each} for each, kind in found.items())


@cache
def detectors() -> dict[str, Detector]:
    """How each kind is found; `PushError` where the library is not installed."""
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.plugins.base import RegexBasedDetector
    except ImportError:
        raise PushError(
            "whether texts hold keys is told by detect-secrets; install it with: "
            "pip install 'prefdata[hub]'"
        ) from None
    kinds = get_mapping_from_secret_type_to_class()
    plugins = {
        kind: plugin().analyze_string
        for kind, plugin in kinds.items()
        if issubclass(plugin, RegexBasedDetector) and kind not in NO_SECRET
    }
    return {**plugins, OWN: lambda text: (found[0] for found in TOKEN.finditer(text))}
