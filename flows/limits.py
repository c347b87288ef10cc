"""How many batches of requests may be at a model at a time, over all that a Prefect server runs.

A limit is a global one of Prefect's, by the name of the model's tag. Whoever holds a place of it
renews it: that of a worker that was killed is free again after `LEASE` seconds. Prefect's limits by
the tags of tasks leave such a place taken for ever, and every later run waiting for it.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

LEASE = 60.0  # the least that Prefect takes


def put(limits: Mapping[str, int]) -> None:
    """Have the server keep these limits by tag."""
    with get_client(sync_client=True) as client:
        for tag, most in limits.items():
            client.upsert_global_concurrency_limit_by_name(tag, most)


@contextmanager
def held(tags: Iterable[str]) -> Generator[None]:
    """Wait for a place at each of these models that has a limit, and hold it while it is open."""
    with concurrency(sorted(filter(_is_limited, tags)), lease_duration=LEASE):
        yield


def _is_limited(tag: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(tag)
        except ObjectNotFound:
            return False
        return True
