"""Whether the prompt's tokens are how the whole conversation's begin, in a model's own template.

A trainer reads the prompt alone to know where the completion begins. Where template or tokenizer
write it otherwise once the completion follows, tokens of the one count as the other's.

Source: TRL's DPOTrainer and its warning on a mismatch between tokenized prompt and the start of
tokenized prompt + completion.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.check.data import Data
from prefdata.check.finding import Finding, counted, skipped
from prefdata.models.template import Template, Unreadable

Turns = Sequence[Mapping[str, str]]


def template(data: Data, tokenizer: Any = None, max_length: int | None = None) -> list[Finding]:
    """Two findings: prompts that are no stable prefix, and rows beyond `max_length` tokens."""
    if tokenizer is None:
        why = "no tokenizer is given (--tokenizer)"
        return [skipped("template_prefix", why), skipped("too_long", why)]
    read = _Plain(tokenizer) if data.standard else _Chat(tokenizer)
    broken: list[tuple[str, str]] = []
    long: list[tuple[str, str]] = []
    n = 0
    for side in ("chosen", "rejected"):
        rows = data.rows.filter(pl.col("prompt").is_not_null() & pl.col(side).is_not_null())
        n += rows.height
        for place, asked, said in rows.select("place", "prompt", side).iter_rows():
            where = f"{place}, {side}"
            try:
                head, whole = read.ask(asked), read.whole(asked, said)
            except Unreadable as error:
                broken.append((where, f"the template refuses it: {error}"))
                continue
            if whole[: len(head)] != head:
                at = next(
                    (i for i, two in enumerate(zip(head, whole, strict=False)) if two[0] != two[1]),
                    len(whole),
                )
                told = tokenizer.decode(head[max(0, at - 3) : at + 3])
                broken.append((where, f"differs at token {at} of {len(head)}: …{told}…"))
            if max_length is not None and len(whole) > max_length:
                long.append((where, f"{len(whole):,} tokens"))
    found = counted(
        "template_prefix",
        _frame(broken),
        n,
        "completions before which the prompt's tokens are not those that it has alone",
        "let the template end a prompt as it begins an answer; move a blank at the seam",
    )
    if max_length is None:
        return [found, skipped("too_long", "no length is given (--max-length)")]
    return [
        found,
        counted(
            "too_long",
            _frame(long),
            n,
            f"completions that end beyond {max_length:,} tokens with their prompt",
            "a trainer cuts them off: raise its length, or drop them (select.distinct)",
            level="warning",
        ),
    ]


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


def _frame(rows: Sequence[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"place": pl.String, "text": pl.String}, orient="row")
