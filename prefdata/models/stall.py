"""A model that does not answer: which request waits, where, since when, and what will happen."""

from collections.abc import Iterable
from dataclasses import dataclass

from prefdata.models.client import Client, Sending
from prefdata.models.spec import ModelSpec


@dataclass(frozen=True)
class Stall:
    """No answer for `quiet` seconds; `request_id` has waited longest, for `waited` seconds.

    `times_out_in` is None where nothing ends the wait but the engine itself.
    """

    role: str
    model: str
    where: str
    request_id: str
    quiet: float
    waited: float
    in_flight: int
    times_out_in: float | None


def stall(
    role: str, spec: ModelSpec, client: Client, held: Iterable[str], quiet: float, now: float
) -> Stall:
    """What is known of a client that has been quiet for so long; `held` are its requests."""
    waiting = client.waiting() if isinstance(client, Sending) else ()
    if waiting:
        first = min(waiting, key=lambda each: each.since)
        left = max(0.0, first.until - now)
        waited = now - first.since
        return Stall(
            role, spec.model, first.url, first.request_id, quiet, waited, len(waiting), left
        )
    ids = list(held)
    where = f"the client {spec.client!r} in this process"
    if isinstance(client, Sending):
        where = "no endpoint yet: all have to be waited for"
    return Stall(role, spec.model, where, ids[0] if ids else "", quiet, quiet, len(ids), None)
