"""What happens during a build, as it happens: for a progress bar, a log, a notebook."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Imported:
    """The sources are read: rows a table, rows quarantined, what the orientation audit says."""

    tables: Mapping[str, int]
    quarantined: int
    audit: tuple[str, ...]


@dataclass(frozen=True)
class Started:
    """A stage begins, the `index`-th of `of`, counted from 1."""

    stage: str
    index: int
    of: int


@dataclass(frozen=True)
class Asking:
    """How far the requests of the running stage are, of all shards and rounds together.

    `total` grows when a stage asks again; of those `done`, `cached` came from the ledger, `failed`
    ended in an error and `refused` were not sent, because a limit was reached.
    """

    stage: str
    done: int
    total: int
    cached: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost: float
    refused: int = 0


@dataclass(frozen=True)
class Made:
    """A stage is done: rows that its tables now have, rows dropped, rows unscored by reason."""

    stage: str
    tables: Mapping[str, int]
    dropped: int
    unscored: Mapping[str, int]
    seconds: float


Event = Imported | Started | Asking | Made
Watch = Callable[[Event], None]


def silent(event: Event) -> None:
    """Watch nothing."""
