"""Personal data that has a form: addresses of mail and machines, numbers of phones and of people.

A pattern proposes, and a kept library disposes: phonenumbers knows the numbering plans of the
world, python-stdnum the check digits of cards, accounts and national numbers. What stands for
nobody (example.com, private networks) is none. Names and places have no form: they are not found.
What is missed leaves the house, so a part of a longer number counts where it has the form.

Presidio was tried: its recognisers of patterns find the same kinds by the same means, but bring
spaCy and 400 MB along, ask the network for a list of domains, and take 0.29166667 for a phone
number; its finding of names needs a language model besides.

Source: Google, libphonenumber; de Jong, python-stdnum; RFC 2606 and RFC 6761 (reserved names).
"""

# pyright: basic
# python-stdnum has no types

import importlib
import ipaddress
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from prefdata.errors import PushError

REGION = "US"
RESERVED = ("example.com", "example.org", "example.net", "test", "example", "invalid", "localhost")
PHONE = r"\d(?:[ ().\-/]{0,3}\d){6}"


@dataclass(frozen=True)
class Form:
    """What may be of a kind, and whether it is: a module of stdnum, or a function."""

    pattern: str
    holds: str | Callable[[str], bool]


# As people write it who hide an address from machines, or by whose keyboard it is wide.
AT = r"(?:[@＠﹫]| ?[\[({<] ?at ?[\])}>] ?)"
DOT = r"(?:[.．]| ?[\[({<] ?dot ?[\])}>] ?)"
LABEL = r"[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?"


def _mails(text: str) -> bool:
    plain = re.sub(DOT, ".", re.sub(AT, "@", text, flags=re.IGNORECASE), flags=re.IGNORECASE)
    domain = unicodedata.normalize("NFKC", plain).rpartition("@")[2].lower()
    return not any(domain == each or domain.endswith(f".{each}") for each in RESERVED)


def _is_global(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_card(text: str) -> bool:
    digits = "".join(each for each in text if each.isdigit())
    return digits[0] in "3456" and len({*digits}) > 2 and _stdnum("luhn").is_valid(digits)


FORMS: dict[str, Form] = {
    "email address": Form(rf"(?i)\b[\w.+%-]+{AT}(?:{LABEL}{DOT})+\p{{L}}{{2,24}}\b", _mails),
    "IP address": Form(r"\b(?:\d{1,3}\.){3}\d{1,3}\b", _is_global),
    "card number": Form(r"\b\d(?:[ -]?\d){12,18}\b", _is_card),
    "bank account (IBAN)": Form(
        r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", "iban"
    ),
    "national number (US)": Form(r"\b\d{3}-\d{2}-\d{4}\b", "us.ssn"),
    "national number (BR)": Form(r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b", "br.cpf"),
    "national number (CA)": Form(r"\b\d{3}[ -]\d{3}[ -]\d{3}\b", "ca.sin"),
    "national number (ES)": Form(r"\b(?:\d{8}|[XYZ]\d{7})-?[A-Z]\b", "es.nif"),
    "national number (FI)": Form(r"\b\d{6}[-+A]\d{3}[0-9A-Y]\b", "fi.hetu"),
    "national number (FR)": Form(
        r"\b[12](?: ?\d{2}){2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}\b", "fr.nir"
    ),
    "national number (IN)": Form(r"\b\d{4} \d{4} \d{4}\b", "in_.aadhaar"),
    "national number (IT)": Form(r"\b[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]\b", "it.codicefiscale"),
    "national number (SE)": Form(r"\b(?:\d{2})?\d{6}[-+]\d{4}\b", "se.personnummer"),
}


def personal(texts: pl.DataFrame, region: str = REGION) -> pl.DataFrame:
    """What was found in `texts`, as (kind, place, sample).

    `region` is the country in which phone numbers without their country's code are dialled.
    """
    parts = [_of(texts, kind, form) for kind, form in FORMS.items()]
    return pl.concat([*parts, _phones(texts, region)])


def _of(texts: pl.DataFrame, kind: str, form: Form) -> pl.DataFrame:
    proposed = texts.select("place", sample=pl.col("text").str.extract_all(form.pattern))
    proposed = proposed.explode("sample").drop_nulls("sample")
    holds = _stdnum(form.holds).is_valid if isinstance(form.holds, str) else form.holds
    once = proposed["sample"].unique()
    true = once.filter(pl.Series([holds(each) for each in once], dtype=pl.Boolean))
    found = proposed.filter(pl.col("sample").is_in(true.implode()))
    return found.select(pl.lit(kind).alias("kind"), "place", "sample")


def _phones(texts: pl.DataFrame, region: str) -> pl.DataFrame:
    """Phone numbers, which are told by what stands around them too."""
    numbers = _library("phonenumbers")
    if region not in numbers.SUPPORTED_REGIONS:
        raise PushError(f"there are no phone numbers in {region!r}; give a code such as US or DE")
    valid = numbers.Leniency.VALID
    found = [
        {"kind": "phone number", "place": place, "sample": match.raw_string}
        for place, text in texts.filter(pl.col("text").str.contains(PHONE)).iter_rows()
        for match in numbers.PhoneNumberMatcher(text, region, leniency=valid)
    ]
    return pl.DataFrame(found, schema=dict.fromkeys(("kind", "place", "sample"), pl.String))


def _stdnum(name: str) -> Any:
    return _library(f"stdnum.{name}")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise PushError(
            "whether texts hold personal data is told by phonenumbers and python-stdnum; install "
            "them with: pip install 'prefdata[hub]'"
        ) from None
