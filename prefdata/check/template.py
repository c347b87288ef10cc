"""Whether the prompt's tokens are how the whole conversation's begin, in a model's own template.

A trainer reads the prompt alone to know where the completion begins. Where template or tokenizer
write it otherwise once the completion follows, tokens of the one count as the other's.

Source: TRL's DPOTrainer and its warning on a mismatch between tokenized prompt and the start of
tokenized prompt + completion.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.check.data import SIDES, Whole
from prefdata.check.finding import Checks, Tally, counted, skipped
from prefdata.models.template import Template, Unreadable

Turns = Sequence[Mapping[str, str]]


def template(data: Whole, tokenizer: Any = None, max_length: int | None = None) -> Checks:
    """Two findings: prompts that are no stable prefix, and rows beyond `max_length` tokens."""
    if tokenizer is None:
        why = "no tokenizer is given (--tokenizer)"
        return [skipped("template_prefix", why), skipped("too_long", why)]
    read = _Plain(tokenizer) if data.standard else _Chat(tokenizer)
    broken, long = Tally(), Tally()
    while part := (yield):
        for side in SIDES:
            own = part.rows.filter(pl.col("prompt").is_not_null() & pl.col(side).is_not_null())
            told = [
                _told(read, tokenizer, prompt, said, max_length)
                for prompt, said in own.select("prompt", side).iter_rows()
            ]
            place = pl.format("{}, {}", "place", pl.lit(side))
            both = pl.DataFrame(told, schema=dict.fromkeys(TOLD, pl.String), orient="row")
            both = both.with_columns(own.select(place, side=pl.lit(side)))
            for tally, name in zip((broken, long), TOLD, strict=True):
                tally.add(both.drop_nulls(name), both, text=name)
    found = counted(
        "template_prefix",
        broken,
        "completions before which the prompt's tokens are not those that it has alone",
        "let the template end a prompt as it begins an answer; move a blank at the seam",
    )
    if max_length is None:
        return [found, skipped("too_long", "no length is given (--max-length)")]
    return [
        found,
        counted(
            "too_long",
            long,
            f"completions that end beyond {max_length:,} tokens with their prompt",
            "a trainer cuts them off: raise its length, or drop them (select.distinct)",
            level="warning",
        ),
    ]


TOLD = ("differs", "too_long")


def _told(
    read: "_Chat | _Plain", tokenizer: Any, prompt: Turns, said: Turns, max_length: int | None
) -> tuple[str | None, str | None]:
    """How a prompt's tokens differ from the beginning of the whole, and how long that is."""
    try:
        head, whole = read.ask(prompt), read.whole(prompt, said)
    except Unreadable as error:
        return f"the template refuses it: {error}", None
    n = f"{len(whole):,} tokens" if max_length is not None and len(whole) > max_length else None
    if whole[: len(head)] == head:
        return None, n
    both = enumerate(zip(head, whole, strict=False))
    at = next((i for i, two in both if two[0] != two[1]), len(whole))
    told = tokenizer.decode(head[max(0, at - 3) : at + 3])
    return f"differs at token {at} of {len(head)}: …{told}…", n


class _Chat:
    """Conversations in the tokenizer's template."""

    def __init__(self, tokenizer: Any) -> None:
        self._template = Template(tokenizer)

    def ask(self, prompt: Turns) -> list[int]:
        return self._template.ask(prompt)

    def whole(self, prompt: Turns, completion: Turns) -> list[int]:
        return self._template.read([*prompt, *completion])


class _Plain:
    """Texts of the standard format, one put after the other."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def ask(self, prompt: Turns) -> list[int]:
        return self._encode(prompt)

    def whole(self, prompt: Turns, completion: Turns) -> list[int]:
        return self._encode([*prompt, *completion])

    def _encode(self, turns: Turns) -> list[int]:
        text = "".join(turn["content"] for turn in turns)
        return list(self._tokenizer.encode(text, add_special_tokens=False))
