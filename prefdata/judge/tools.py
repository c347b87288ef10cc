"""Tools that check a claim: a calculator, a calendar, units, a list of facts, a program's output.

`prefdata.judge.toolbox` runs this file by itself, as a process that reads a call a line and writes
a result a line; it therefore imports the standard library only. What a tool is given was written by
a model and is read here, never evaluated: each input has a small grammar of its own, in ASCII, and
bounds on its length, its depth and the size of every number on the way.

A result has an `observation`, and a `verdict` on what was claimed:

    supports      the claimed value is the computed one (at the decimals that it is given with)
    contradicts   it is another one
    null          it cannot be read as a value, may be a rounded one, or nothing was computed

or an `error`, which says why there is no observation.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

LONGEST = 200  # characters of an input or a claim
DEEPEST = 20  # brackets in brackets
BITS = 4096  # of a numerator or denominator, at every step
MEMORY = 1 << 30

Verdict = bool | None
Checked = tuple[str, Verdict]

_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{_NUMBER})|(?P<sign>\*\*|[-+*/^()%×÷·−]|(?<=\s)(?:x|of)(?=\s)))", re.ASCII
)
_CLAIMED = re.compile(
    rf"(?<![\w.,])([-+−]?)\s*[$€£¥]?\s*({_NUMBER})(?![.,]?[0-9]|\w*[0-9])(\s*/\s*[0-9]+)?(\s*%)?",
    re.ASCII,
)
# What makes a claim another one than the value in it.
_HEDGED = re.compile(
    r"\b(?:not|never|neither|nor|or|about|around|roughly|approximately|nearly|almost|over|under|more"
    r"|less|least|most|half|quarter|third|dozen|hundred|thousand|million|billion|trillion)s?\b"
    r"|n['’]t\b|[~≈<>≤≥±]|[0-9]\s*(?:k|mn|bn|tn)\b",
    re.IGNORECASE,
)
_SAME = {"**": "^", "×": "*", "·": "*", "x": "*", "of": "*", "÷": "/", "−": "-"}
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3, "^": 4}
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Refused(Exception):
    """An input that a tool does not take, and why."""


def calculator(expression: str, claimed: str) -> Checked:
    """A number from + - * / ^ % and brackets, exactly: no function, name, or exponent form."""
    value, computed = calculated(expression)
    return _written(value), _same_number(value, claimed) if computed else None


def calculated(expression: str) -> tuple[Fraction, int]:
    """The value of an expression and how many operations it took.

    Two stacks, after Dijkstra's shunting yard: no recursion, so depth costs no stack.
    """
    values: list[Fraction] = []
    signs: list[str] = []
    count = 0
    is_operand_next = True
    for token in _tokens(expression):
        if is_operand_next:
            if token in ("-", "+"):
                signs += ["negative"] if token == "-" else []
            elif token == "(":
                signs.append(token)
                if signs.count("(") > DEEPEST:
                    raise Refused(f"brackets are nested more than {DEEPEST} deep")
            elif token[0] in "0123456789.":
                values.append(_bounded(Fraction(token.replace(",", ""))))
                is_operand_next = False
            else:
                raise Refused(f"a number is missing before {token!r}")
        elif token == "%":
            values[-1] /= 100
            count += 1
        elif token == ")":
            while signs and signs[-1] != "(":
                _apply(signs.pop(), values)
                count += 1
            if not signs:
                raise Refused("a bracket is closed that was not opened")
            signs.pop()
        elif token in _BINDS:
            # "^" takes what is right of it first: 2^3^2 is 2^9.
            while (
                signs
                and signs[-1] != "("
                and (_BINDS[signs[-1]] > _BINDS[token] or (_BINDS[signs[-1]] == _BINDS[token] != 4))
            ):
                _apply(signs.pop(), values)
                count += 1
            signs.append(token)
            is_operand_next = True
        else:
            raise Refused(f"an operator is missing before {token!r}")
    if is_operand_next:
        raise Refused("it ends where a number is missing")
    while signs:
        sign = signs.pop()
        if sign == "(":
            raise Refused("a bracket is not closed")
        _apply(sign, values)
        count += sign != "negative"
    return values[0], count


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None:
            raise Refused(f"{text[at:end].strip()[:20]!r} is no part of an expression")
        sign = token["sign"]
        found.append(token["number"] or _SAME.get(sign, sign))
        at = token.end()
    return found


def _apply(sign: str, values: list[Fraction]) -> None:
    right = values.pop()
    if sign == "negative":
        values.append(-right)
        return
    left = values.pop()
    if (sign == "/" and right == 0) or (sign == "^" and left == 0 and right < 0):
        raise Refused("it divides by zero")
    if sign == "^":
        values.append(_bounded(_power(left, right)))
    else:
        made = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}
        values.append(_bounded(made[sign](right)))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise Refused("a power has a whole exponent")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > BITS or size * abs(exponent.numerator) > BITS:
        raise Refused(f"a number has more than {BITS} bits")
    return Fraction(base ** int(exponent))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise Refused(f"a number has more than {BITS} bits")
    return value


def _written(value: Fraction) -> str:
    """The number in full if it has an end within twelve decimals, else as a fraction, about."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**12
    whole = round(scaled)
    sign, digits = "-" * (whole < 0), str(abs(whole)).rjust(13, "0")
    said = f"{sign}{digits[:-12]}.{digits[-12:].rstrip('0') or '0'}"
    return said if scaled.denominator == 1 else f"about {said}"


def _same_number(value: Fraction, claimed: str) -> Verdict:
    """Whether a claim states the value; None if it states no single number, or may round it."""
    found = _CLAIMED.findall(claimed)
    if len(found) != 1:
        return None
    sign, digits, below, percent = found[0]
    said = Fraction(digits.replace(",", "")) * (-1 if sign in ("-", "−") else 1)
    if below:
        under = int(below.strip().lstrip("/"))
        if not under:
            return None
        said /= under
    if said == value or (percent and said == 100 * value):
        return True
    decimals = len(digits.partition(".")[2])
    off = min(abs(said - value), abs(said - 100 * value)) if percent else abs(said - value)
    if below or off > Fraction(1, 2 * 10**decimals):
        return False
    return True if decimals else None


def calendar(question: str, claimed: str) -> Checked:
    """`weekday DATE`, `days DATE DATE` (how many lie between) or `add DATE DAYS`; DATE is ISO."""
    match question.replace(",", " ").split():
        case ["weekday", day]:
            right = _DAYS[_date(day).weekday()]
            words = [word.capitalize() for word in re.findall(r"[a-z]{5,}", claimed.lower())]
            meant = [word for word in words if _is_weekday(word)]
            # "Thurs." is one.
            return right, right.startswith(meant[0]) if len(meant) == 1 else None
        case ["days", one, other]:
            apart = abs((_date(one) - _date(other)).days)
            return str(apart), _same_number(Fraction(apart), claimed)
        case ["add", day, count] if re.fullmatch(r"[-+]?[0-9]{1,7}", count, re.ASCII):
            try:
                right = (_date(day) + timedelta(int(count))).isoformat()
            except OverflowError as error:
                raise Refused("that is beyond the years 1 to 9999") from error
            dates = _DATE.findall(claimed)
            return right, None if len(dates) != 1 else "-".join(dates[0]) == right
        case _:
            raise Refused('it takes "weekday DATE", "days DATE DATE" or "add DATE DAYS"')


def _date(text: str) -> date:
    found = _DATE.fullmatch(text)
    if found is None:
        raise Refused(f"{text[:20]!r} is no date of the form 2024-02-29")
    try:
        return date(*map(int, found.groups()))
    except ValueError as error:
        raise Refused(f"there is no {text}: {error}") from error


def _is_weekday(word: str) -> bool:
    """Whether a word is a weekday, or was to be one: "Wendesday" is meant and is none."""
    return bool(get_close_matches(word, _DAYS, n=1, cutoff=0.75))


def _units() -> dict[str, tuple[str, Fraction]]:
    """What is measured and how many of its first unit each unit is, by every name of the unit."""
    stated = {
        "length": "m meter metre=1 km kilometer kilometre=1000 cm centimeter centimetre=1/100 "
        "mm millimeter millimetre=1/1000 in inch inches=127/5000 ft foot feet=381/1250 "
        "yd yard=1143/1250 mi mile=201168/125 nmi=1852",
        "mass": "kg kilogram=1 g gram=1/1000 mg milligram=1/1000000 t tonne=1000 "
        "lb lbs pound=45359237/100000000 oz ounce=45359237/1600000000",
        "time": "s second=1 ms millisecond=1/1000 min minute=60 h hour=3600 day=86400 week=604800",
        "volume": "l liter litre=1 ml milliliter millilitre=1/1000 m3=1000 "
        "gal gallon=473176473/125000000 qt quart=473176473/500000000 "
        "pt pint=473176473/1000000000 cup=473176473/2000000000",
        "area": "m2=1 km2=1000000 cm2=1/10000 ha hectare=10000 acre=316160658/78125 "
        "ft2=145161/1562500",
        "speed": "m/s=1 km/h kmh=5/18 mph=1397/3125 knot=463/900",
        "data": "byte=1 bit=1/8 kb=1000 mb=1000000 gb=1000000000 "
        "kib=1024 mib=1048576 gib=1073741824",
    }
    units: dict[str, tuple[str, Fraction]] = {}
    for kind, text in stated.items():
        names: list[str] = []
        for word in text.split():
            name, _, size = word.partition("=")
            names.append(name)
            if size:
                plurals = [f"{each}s" for each in names if len(each) > 2 and each.isalpha()]
                units.update(dict.fromkeys([*names, *plurals], (kind, Fraction(size))))
                names = []
    return units


_UNITS = _units()
_HEAT: Mapping[str, tuple[Fraction, Fraction]] = {
    "k": (Fraction(1), Fraction(0)),
    "c": (Fraction(1), Fraction(27315, 100)),
    "f": (Fraction(5, 9), Fraction(45967, 180)),
}


def unit(question: str, claimed: str) -> Checked:
    """`NUMBER UNIT to UNIT`, exactly."""
    found = re.fullmatch(
        rf"\s*(-?)({_NUMBER})\s*([^\s0-9]\S*)\s+(?:to|in)\s+(\S+)\s*", question, re.ASCII
    )
    if found is None:
        raise Refused('it takes "NUMBER UNIT to UNIT"')
    value = Fraction(found[2].replace(",", "")) * (-1 if found[1] else 1)
    one, other = (found[at].lower().lstrip("°") for at in (3, 4))
    if one in _HEAT and other in _HEAT:
        (size, zero), (other_size, other_zero) = _HEAT[one], _HEAT[other]
        made = (value * size + zero - other_zero) / other_size
        return _written(made), _same_number(made, claimed)
    for name in (one, other):
        if name not in _UNITS:
            raise Refused(f"there is no unit {name[:20]!r}")
    (kind, size), (other_kind, other_size) = _UNITS[one], _UNITS[other]
    if kind != other_kind:
        raise Refused(f"{one} measures {kind}, and {other} measures {other_kind}")
    made = value * size / other_size
    return _written(made), _same_number(made, claimed)


def lookup(key: str, claimed: str, facts: Mapping[str, str]) -> Checked:
    """What the facts say about a key: text that the claim holds as whole words, or a number."""
    known = {_words(each): fact for each, fact in facts.items()}
    if _words(key) not in known:
        raise Refused("the facts do not say")
    fact = known[_words(key)]
    return fact, _same(fact, claimed)


def code(printed: str, claimed: str) -> Checked:
    """What a program printed; it ran elsewhere (`prefdata.judge.programs`)."""
    return printed, _same(printed, claimed)


def _same(value: str, claimed: str) -> Verdict:
    """Whether a claim states a value: the number, or the text as whole words."""
    if re.fullmatch(rf"[-+]?(?:{_NUMBER})", value.strip(), re.ASCII):
        return _same_number(Fraction(value.strip().replace(",", "")), claimed)
    words = _words(value)
    return (words and f" {words} " in f" {_words(claimed)} ") or None


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


TOOLS: Mapping[str, Callable[..., Checked]] = {
    "calculator": calculator,
    "calendar": calendar,
    "unit": unit,
    "lookup": lookup,
    "code": code,
}
_VERDICTS = {True: "supports", False: "contradicts", None: None}


def result(call: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, str | None]:
    """What a tool says to a call; whatever it raises is the result's `error`."""
    name, question, claimed = (str(call.get(key, "")) for key in ("tool", "input", "claimed"))
    blank: dict[str, str | None] = {"observation": None, "verdict": None, "error": None}
    try:
        if name not in TOOLS:
            raise Refused("there is no such tool")
        if max(len(question), len(claimed)) > LONGEST:
            raise Refused(f"it takes at most {LONGEST} characters")
        more = (facts,) if name == "lookup" else ()
        observation, verdict = TOOLS[name](question, claimed, *more)
    except Refused as refusal:
        return {**blank, "error": str(refusal)}
    except Exception as error:  # noqa: BLE001  (a fault of a tool is a reason, not the end)
        return {**blank, "error": f"{type(error).__name__}: {error}"}
    verdict = None if _HEDGED.search(claimed) else verdict
    return {**blank, "observation": observation, "verdict": _VERDICTS[verdict]}


def main() -> None:
    """The facts in the first line, an empty line to say so, then a result for each call, a line."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # where there is no such limit, the bounds of the tools are the only ones
    facts = json.loads(sys.stdin.readline())
    print(flush=True)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(result(json.loads(line), facts)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
