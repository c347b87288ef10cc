"""Nothing that looks like a secret gets into a recipe, a ledger or a version."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from prefdata.errors import RecipeError

# The forms in which providers issue keys; a prompt or a comma in a judge never looks like them.
TOKEN = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|AKIA[A-Z0-9]{16}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|gsk_\w{30,}"
    r"|(xai|nvapi|glpat)-[\w-]{16,})"
    r"|Bearer\s+[\w.~+/-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\s:@]+:[^/\s:@]+@"
)
_KEY = re.compile(r"(^|_)(key|secret|passwd|password|authorization|bearer|token|headers?)$")
_QUERY = re.compile(r"[?&][\w-]*(key|token|secret|password|sig|signature|credential)=[^&\s]+", re.I)
# A password may hold what ends a host elsewhere; what follows a host as digits is its port.
_LOGIN = re.compile(r"://[^/\s:@]+:(?!\d{1,5}(?:/|$))[^\s@\"'<>]+@")


def holds_secret(text: str) -> bool:
    """Whether something in a text looks like a key, a password or the login of a URL."""
    return any(form.search(text) for form in (TOKEN, _QUERY, _LOGIN))


def without_login(url: str) -> str:
    """A URL as it may be shown: a query may hold a key too."""
    return re.sub(r"//.*@", "//", url, flags=re.DOTALL).partition("?")[0]


def refuse_secrets(where: str, said: Any) -> None:
    """`RecipeError` if a text, or anything in a nested value, is or is named as a secret.

    The message names the place and never the secret.
    """
    if isinstance(said, str):
        if holds_secret(said):
            raise RecipeError(_message(where, "a text that looks like a key or password"))
    elif isinstance(said, Mapping):
        for key, value in cast(Mapping[str, Any], said).items():
            if isinstance(value, str | Mapping) and value and _KEY.search(str(key).lower()):
                raise RecipeError(_message(f"{where}.{key}", "a secret by its name"))
            refuse_secrets(f"{where}.{key}", value)
    elif isinstance(said, Sequence) and not isinstance(said, (bytes, bytearray)):
        for at, value in enumerate(cast(Sequence[Any], said)):
            refuse_secrets(f"{where}[{at}]", value)


def _message(where: str, what: str) -> str:
    return (
        f"{where} holds {what}, and what it says is kept in every version; put it into an "
        'environment variable and name that, as in api_key_env = "OPENAI_API_KEY"'
    )
