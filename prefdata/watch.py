"""What happens during a build, as it happens: for a progress bar, a log, a notebook."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefdata.models.client import Health


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
    ended in an error and `unsent` were not sent, because a limit was reached. Of the others,
    `awaited` are asked `by` another build, whose answers are waited for.
    """

    stage: str
    done: int
    total: int
    cached: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost: float
    unsent: int = 0
    awaited: int = 0
    by: str = ""


@dataclass(frozen=True)
class Made:
    """A stage is done: rows that its tables now have, rows dropped, rows unscored by reason.

    `nothing` says so where it made no row of the votes, ratings or rankings that it was given.
    """

    stage: str
    tables: Mapping[str, int]
    dropped: int
    unscored: Mapping[str, int]
    seconds: float
    nothing: str = ""


@dataclass(frozen=True)
class Spilling:
    """A build holds its tables on disk, in so many shards: about `needed` bytes of the `free`."""

    shards: int
    needed: int
    free: int


@dataclass(frozen=True)
class Advanced:
    """Of a build that is on disk by shards: how many rows are read, or shards of a stage done.

    `of` is 0 where nobody knows how many there are.
    """

    what: str
    done: int
    of: int


@dataclass(frozen=True)
class Pulse:
    """Once a second while models are asked: how their endpoints are; and once without any after."""

    endpoints: tuple["Health", ...]


@dataclass(frozen=True)
class Stuck:
    """A model has not answered for `quiet` seconds.

    `request_id` has waited longest, for `waited` seconds, at `where`; `times_out_in` seconds its
    attempt ends, and is tried again; None where the engine sets no time-out. `in_flight` are asked.
    """

    stage: str
    role: str
    model: str
    where: str
    request_id: str
    quiet: float
    waited: float
    in_flight: int
    times_out_in: float | None


@dataclass(frozen=True)
class Stopping:
    """Ctrl-C: nothing more is sent, and for `seconds` at most what is in flight is waited for."""

    in_flight: int
    seconds: float


@dataclass(frozen=True)
class Warned:
    """Something beside the build did not go well, in a sentence; the build goes on."""

    says: str


Event = Imported | Started | Asking | Spilling | Advanced | Made | Pulse | Stuck | Stopping | Warned
Watch = Callable[[Event], None]


def silent(event: Event) -> None:
    """Watch nothing."""
