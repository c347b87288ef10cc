"""One place where a model is served: its address, its key, its lane, and what it answers.

Whatever goes wrong is a `Trouble`, which says what retrying would help. The proxies and the
authorities of the environment are honoured (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`;
`SSL_CERT_FILE`, `SSL_CERT_DIR`).
"""

import base64
import json
import os
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import aiohttp

from prefdata.errors import ModelError
from prefdata.models.chat import UNREACHED, Trouble
from prefdata.models.client import Health
from prefdata.models.lane import Lane, retry_after
from prefdata.models.spec import ModelSpec, is_address

DEFAULT_URL = "https://api.openai.com/v1"
# Who asks for a longer wait than this cannot be used now.
LONGEST_WAIT = 300.0
# No reply of this protocol is longer; a page or stream without an end would fill the memory.
MOST_BYTES = 1 << 28
# A shorter secret may as well be a word of an answer, which is left as it is.
TELLING = 12
UNUSABLE = {
    401: "refused the key",
    402: "wants to be paid first",
    403: "does not allow this key to use it",
    404: "is not known there",
    501: "does not offer this",
}
NOT_LET_THROUGH = "is not let through by the proxy of the environment"
OVERLOADED = (429, 503, 504, 529)


class Endpoint:
    """Posts to one base URL with one key."""

    def __init__(self, spec: ModelSpec, url: str | None, key_env: str | None) -> None:
        given = url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        if not is_address(given):
            raise ModelError(
                f"the model {spec.model!r} is asked at OPENAI_BASE_URL, which holds no address "
                "such as http://127.0.0.1:8000/v1"
            )
        self.url, login, self._query = _parted(given)
        self.lane = Lane(spec.concurrency, rpm=spec.rpm, tpm=spec.tpm)
        self.answered = self.refused = self.failed = 0
        self.in_a_row = 0
        self.out = ""
        self.out_until = 0.0
        self.pause = 0.0
        self._spec = spec
        self._key_env = key_env or "OPENAI_API_KEY"
        self._key = _key(spec, url, key_env)
        self._authorization = f"Basic {_basic(login)}" if login else f"Bearer {self._key or 'none'}"
        self._proxy = _proxy(spec, self.url)
        self._secrets = _secrets(self._key, self._query, login, _parted(self._proxy or "")[1])
        telling = [each for each in self._secrets if len(each) >= TELLING]
        self._telling = [form.encode() for each in telling for form in (each, _quoted(each))]

    def health(self) -> Health:
        counts = (self.answered, self.refused, self.failed, self.lane.in_flight, self.lane.bound)
        return Health(self.url, self.out or "well", *counts)

    async def start(self) -> None:
        """Connections are kept alive, as many as the lane lets through."""
        secure = _authorities() if self.url.startswith("https:") else True
        spec = self._spec
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=secure, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(
                total=spec.timeout,
                sock_connect=min(spec.connect_timeout, spec.timeout),
                sock_read=spec.read_timeout,
            ),
            headers=self._headers(),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self) -> None:
        await self._session.close()

    async def post(self, path: str, body: bytes) -> Any:
        """The JSON of the reply; `Trouble` where there is none."""
        return await self.call("POST", path, data=body)

    async def call(
        self,
        method: str,
        path: str,
        *,
        take: Callable[[aiohttp.ClientResponse], Awaitable[Any]] | None = None,
        **how: Any,
    ) -> Any:
        """What `take` makes of the reply, by default its JSON; `how` goes to aiohttp."""
        url = f"{self.url}{path}{self._query}"
        # What is asked goes nowhere but where the recipe says; a file may lie elsewhere.
        how = {"proxy": self._proxy, "allow_redirects": method == "GET", **how}
        try:
            async with self._session.request(method, url, **how) as reply:
                if reply.status >= 300:
                    raise self.trouble(reply.status, reply.headers, await _content(reply))
                if take:
                    return await take(reply)
                return json.loads(self.without_secrets(await _content(reply)))
        except aiohttp.ConnectionTimeoutError:
            raise Trouble(f"{UNREACHED}: it takes no connection") from None
        except TimeoutError:
            raise Trouble("timeout", overload=True) from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            why = "has a certificate that nobody vouches for; SSL_CERT_FILE names who may"
            raise Trouble(why, unusable=True) from None
        except aiohttp.InvalidURL:
            raise Trouble("is not a URL", unusable=True) from None
        except aiohttp.ClientHttpProxyError as error:
            raise Trouble(f"{NOT_LET_THROUGH} ({error.status})", unusable=True) from None
        except aiohttp.ClientProxyConnectionError:
            raise Trouble(f"{UNREACHED} by the proxy of the environment") from None
        except aiohttp.ClientConnectorDNSError:
            raise Trouble(f"{UNREACHED}: no such host") from None
        except aiohttp.ClientConnectorError:
            raise Trouble(UNREACHED) from None
        except (aiohttp.ClientError, OSError):
            raise Trouble("connection lost") from None
        except (ValueError, RecursionError):
            raise Trouble("malformed reply") from None

    def _headers(self) -> dict[str, str]:
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Authorization": self._authorization,
            "User-Agent": "prefdata",
        }
        for name in ("Organization", "Project"):
            variable = {"Organization": "OPENAI_ORG_ID", "Project": "OPENAI_PROJECT_ID"}[name]
            if value := os.environ.get(variable):
                sent[f"OpenAI-{name}"] = value
        return sent

    def trouble(self, status: int, headers: Any, content: bytes) -> Trouble:
        """What a reply with such a status means."""
        trouble = self._trouble(status, headers, content)
        trouble.status = status
        return trouble

    def _trouble(self, status: int, headers: Any, content: bytes) -> Trouble:
        wait, said = retry_after(headers), self.said(content)
        if status < 400:
            there = _parted(headers.get("Location", ""))[0] or "nowhere"
            why = f"redirects to {there}, where nothing is sent; give the base_url that leads there"
            return Trouble(why, unusable=True)
        if status == 407:
            return Trouble(f"{NOT_LET_THROUGH} (407)", unusable=True)
        if status == 429 and b"insufficient_quota" in content:
            return self._unusable("has no money left for this key", status, said)
        if status in UNUSABLE:
            return self._unusable(UNUSABLE[status], status, said)
        if wait is not None and wait > LONGEST_WAIT:
            if status in OVERLOADED:
                why = f"asks to come back in {wait:.6g} seconds"
                return self._unusable(why, status, said, wait)
            wait = None
        if status == 429:
            return Trouble("rate limited (429)", wait=wait, overload=True)
        if status in (408, 409) or status >= 500:
            overload = status in OVERLOADED
            return Trouble(f"server error {status}", wait=wait, overload=overload)
        return Trouble(f"bad request ({status}): {said}", again=False)

    def _unusable(self, why: str, status: int, said: str, wait: float | None = None) -> Trouble:
        state = "set" if self._key else "not set"
        why += f" ({status}: {said}); the key was read from {self._key_env}, which is {state}"
        return Trouble(why, unusable=True, wait=wait)

    def said(self, content: bytes) -> str:
        """The server's message, without the secrets that some servers quote."""
        content = self.without_secrets(content)
        text = content[:4000].decode(errors="replace")
        try:
            error: object = json.loads(content)["error"]
            text = str(cast(Any, error)["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError):
            pass
        text = " ".join(text.split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:300]

    def without_secrets(self, content: bytes) -> bytes:
        """A reply without what was sent to identify us, should the server repeat it."""
        content = _plain(content)
        for secret in self._telling:
            content = content.replace(secret, b"***")
        return content


async def _content(reply: aiohttp.ClientResponse) -> bytes:
    """All of a reply, within bounds."""
    content = bytearray()
    async for piece in reply.content.iter_any():
        content += piece
        if len(content) > MOST_BYTES:
            raise Trouble(f"malformed reply: it has more than {MOST_BYTES >> 20} MiB")
    return bytes(content)


def _plain(content: bytes) -> bytes:
    """JSON with each character as itself, where it can be: there are several ways to write "/"."""
    if b"\\/" in content or b"\\u" in content:
        with suppress(ValueError, RecursionError):
            said = json.dumps(json.loads(content), ensure_ascii=False)
            return said.encode("utf-8", "surrogatepass")
    return content


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _parted(url: str) -> tuple[str, str, str]:
    """An address that may be shown, its name and password, and its query.

    A query may hold a key, so it is sent and never shown.
    """
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    shown = parts._replace(netloc=host, path=parts.path.rstrip("/"), query="", fragment="")
    return shown.geturl(), unquote(login), f"?{parts.query}" if parts.query else ""


def _basic(login: str) -> str:
    return base64.b64encode(login.encode()).decode()


def _secrets(key: str, query: str, *logins: str) -> tuple[str, ...]:
    """What must not be written down, in every form in which it was sent or might come back."""
    values = [value for _, value in parse_qsl(query[1:])]
    encoded = [pair.partition("=")[2] for pair in query[1:].split("&")]
    given = [each for each in logins if each]
    forms = [form for each in given for form in (each, each.partition(":")[2], _basic(each))]
    known = {key, *values, *encoded, *forms}
    known |= {each.replace("/", "\\/") for each in known}  # JSON within an answer
    return tuple(sorted((each for each in known if len(each) >= 4), key=len, reverse=True))


def _proxy(spec: ModelSpec, url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.netloc):
        return None
    named = urllib.request.getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    if not proxy:
        return None
    kind, given, _ = proxy.rpartition("://")
    if kind.lower() not in ("", "http", "https"):
        raise ModelError(
            f"the model {spec.model!r} is at {url}, for which the environment names a proxy of the "
            f"kind {kind!r}; only http and https proxies can be used. Name another in HTTPS_PROXY "
            "or HTTP_PROXY, or except the host by NO_PROXY"
        )
    return proxy if given else f"http://{proxy}"


def _authorities() -> ssl.SSLContext:
    """Those of the environment; without them the system's and Mozilla's."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        return ssl.create_default_context(cafile=file, capath=folder)
    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context


def _key(spec: ModelSpec, url: str | None, key_env: str | None) -> str:
    """The key from the environment; empty where none is needed."""
    variable = key_env or "OPENAI_API_KEY"
    # A line break at the end is that of the file that the key was read from.
    key = os.environ.get(variable, "").strip()
    if not key.isprintable() or " " in key:
        raise ModelError(
            f"the environment variable {variable}, from which the model {spec.model!r} takes its "
            "key, holds a blank or a line break in its middle, as no key does; set it to the key "
            "alone"
        )
    if key_env and not key:
        raise ModelError(
            f"the model {spec.model!r} takes its key from the environment variable "
            f"{key_env}, which is not set; set it, and never write the key in a recipe"
        )
    if not key and not url and not os.environ.get("OPENAI_BASE_URL"):
        raise ModelError(
            f"the model {spec.model!r} needs a key: set OPENAI_API_KEY, name another variable with "
            "api_key_env, or name the server with base_url or OPENAI_BASE_URL"
        )
    return key
