"""How many batches of requests may be at a model at a time, over all that a Prefect server runs.

A limit is a global one of Prefect's, by the name of the model's tag. Whoever holds a place of it
renews it: that of a worker that was killed is free again after `LEASE` seconds. Prefect's limits by
the tags of tasks leave such a place taken for ever, and every later run waiting for it.
"""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress

import httpx
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from prefdata.errors import PrefdataError
from prefdata.models.spec import ModelSpec
from prefdata.tables import digest

LEASE = 60.0  # the least that Prefect takes
LOOK = 2.0  # seconds between two looks whether a place is free
OUTAGE = 600.0  # seconds for which an API that does not answer is waited for
TAKEN = 423  # what the API says where no place is free
TURNS: dict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)


def tag(spec: ModelSpec) -> str:
    """The tag of a model: the same for whoever is served the same at the same address.

    It begins with the model's name, in letters that Prefect takes.
    """
    where = sorted({url or "" for url, _ in spec.endpoints()})
    name = re.sub(r"[^\w.+-]+", "-", spec.model.rpartition("/")[2] or spec.client)
    return f"model:{name}-{digest('limit', spec.client, spec.identity(), where)[:8]}"


def put(limits: Mapping[str, int]) -> None:
    """Have the server keep these limits by tag; 0 is none."""
    with get_client(sync_client=True) as client:
        for each, most in limits.items():
            if most:
                client.upsert_global_concurrency_limit_by_name(each, most)
                continue
            with suppress(ObjectNotFound):
                client.delete_global_concurrency_limit_by_name(each)


def limited(tags: Iterable[str]) -> set[str]:
    """Those of the tags that have a limit now."""
    found: set[str] = set()
    try:
        with get_client(sync_client=True) as client:
            for each in set(tags):
                with suppress(ObjectNotFound):
                    client.read_global_concurrency_limit_by_name(each)
                    found.add(each)
    except httpx.HTTPError as error:
        raise PrefdataError(
            f"Prefect's API does not say which models have a limit ({type(error).__name__})"
        ) from error
    return found


@contextmanager
def held(tags: Iterable[str], check: Callable[[], None]) -> Generator[None]:
    """Wait for a place at each of these models, and hold it while it is open.

    `check` raises where it need not be waited for any more.
    """
    wanted = sorted(tags)
    places = _taken(wanted, check) if wanted else ExitStack()
    try:
        yield
    finally:
        with suppress(httpx.HTTPError):  # a place that nobody renews is free again soon
            places.close()


def _taken(tags: list[str], check: Callable[[], None]) -> ExitStack:
    """A place at each, to be closed. One thread at a time looks for the same."""
    turn = TURNS[tuple(tags)]
    while not turn.acquire(timeout=LOOK):
        check()
    try:
        return _free(tags, check)
    finally:
        turn.release()


def _free(tags: list[str], check: Callable[[], None]) -> ExitStack:
    silent = None
    while True:
        places = ExitStack()
        try:
            places.enter_context(concurrency(tags, max_retries=0, lease_duration=LEASE))
            return places
        except ConcurrencySlotAcquisitionError as error:
            cause = error.__cause__
            status = getattr(getattr(cause, "response", None), "status_code", None)
            if status == TAKEN:
                silent = None
            elif silent is None:
                silent = time.monotonic()
            elif time.monotonic() - silent > OUTAGE:
                raise PrefdataError(
                    f"Prefect's API, which counts who asks {', '.join(tags)}, did not answer for "
                    f"{OUTAGE:.0f} s ({type(cause).__name__}); what was answered is kept: build "
                    "again when it does"
                ) from error
        check()
        time.sleep(LOOK)
