"""What a million tokens cost: as the recipe says, else as `prices.toml` lists it.

A list price holds where the vendor itself is asked; the same name behind another address may cost
anything, so there it is not known. A wrong price is worse than none.
"""

import os
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from prefdata.errors import BudgetError

DEFAULT_HOST = "api.openai.com"


@dataclass(frozen=True)
class Prices:
    """USD for a million tokens read and written, and for one read from the server's cache.

    `cached` is None where it is not known: then cached tokens are counted as read. `noted` is the
    month of a list price; empty where the recipe states the price.
    """

    read: float
    written: float
    cached: float | None = None
    batch_discount: float = 0.0
    noted: str = ""

    @property
    def is_free(self) -> bool:
        return not self.read and not self.written

    def of(self, read: float, written: float, cached: float = 0.0) -> float:
        """What so many tokens cost; `cached` of those read came from the server's cache."""
        saved = 0.0 if self.cached is None else cached * (self.read - self.cached)
        return (read * self.read + written * self.written - saved) / 1e6

    def in_batches(self) -> "Prices":
        """The prices of the same vendor's batch API."""
        left = 1 - self.batch_discount
        cached = None if self.cached is None else self.cached * left
        return replace(self, read=self.read * left, written=self.written * left, cached=cached)

    @property
    def source(self) -> str:
        """Where the price is from, for people."""
        if self.noted:
            return f"list price of {self.noted}; state price_in and price_out to be exact"
        return "the recipe's price" if not self.is_free else "free"


FREE = Prices(0.0, 0.0)


def priceless(role: str) -> BudgetError:
    """What is raised where a model has no price and there is a budget."""
    return BudgetError(
        f"a budget was given, but what the model {role!r} costs is not known; state its price_in "
        "and price_out (USD per million tokens, 0 where it is free), or bound the build by "
        "max_requests instead"
    )


def boundless(role: str) -> BudgetError:
    """What is raised where a reply of a model may cost anything and there is a budget."""
    return BudgetError(
        f"a budget was given, but a reply of the model {role!r} may be of any length; write its "
        "max_tokens, such as 1024, under its [models] table (for a model that reasons "
        "options.max_completion_tokens, with room to think), or bound the build by max_requests "
        "instead"
    )


def listed(model: str, url: str | None) -> Prices | None:
    """The list price of a model at a base URL (by default the environment's); None if unknown."""
    address = url or os.environ.get("OPENAI_BASE_URL") or f"https://{DEFAULT_HOST}/v1"
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return None
    return _table().get((host, model))


@cache
def _table() -> dict[tuple[str, str], Prices]:
    text = (files("prefdata.models") / "prices.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text)["price"]
    return {
        (entry["at"], model): Prices(
            entry["in"], entry["out"], entry.get("cached"), entry["batch_discount"], entry["noted"]
        )
        for entry in entries
        for model in entry["models"]
    }
