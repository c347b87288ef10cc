"""Whether and what something answers at an address: one GET, for the doctor."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

MOST_BYTES = 1000


class Unanswered(Exception):
    """Why nothing was answered; nothing of the address or of a key is in it."""


@dataclass(frozen=True)
class Answer:
    status: int
    location: str
    beginning: bytes


def knock(url: str, headers: Mapping[str, str], *, patience: float) -> Answer:
    """The answer, or its first bytes, within `patience` seconds. No redirect is followed."""
    return asyncio.run(_knock(url, headers, patience))


async def _knock(url: str, headers: Mapping[str, str], patience: float) -> Answer:
    within = aiohttp.ClientTimeout(total=patience)
    try:
        async with (
            aiohttp.ClientSession(timeout=within, headers=headers, trust_env=True) as session,
            session.get(url, allow_redirects=False) as said,
        ):
            beginning = await said.content.read(MOST_BYTES)
            return Answer(said.status, said.headers.get("Location", ""), beginning)
    except TimeoutError:
        raise Unanswered(f"nothing came for {patience:.0f} seconds") from None
    except aiohttp.InvalidURL:
        raise Unanswered("it is no URL") from None
    except aiohttp.ClientConnectorError as error:
        raise Unanswered(error.strerror or "nobody listens there") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unanswered(f"what comes is no answer ({type(error).__name__})") from None
