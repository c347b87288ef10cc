"""Requests as tokens, and tokens in batches of about one length."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.models.spec import ModelSpec
from prefdata.models.template import Template, ending

# Padded tokens of one batch, on a CPU and on an accelerator.
BATCH_TOKENS = (2048, 16384)
BATCH_ROWS = 256
Row = Mapping[str, Any]
Answer = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """One request's tokens. `kinds` tells two texts in one apart, where the model wants that."""

    row: Row
    ids: list[int]
    start: int = 0
    kinds: list[int] | None = None


def placed(template: Template, row: Row) -> Text:
    """What a causal model reads; its completion, where there is one, begins at `start`."""
    want, options = row["want"], json.loads(row["options"])
    extra = options.get("chat_template_kwargs")
    if want == "choice":
        ids = template.ask(row["messages"], extra)
        return Text(row, ids, len(ids))
    if want == "tokens" and not row["completion"]:
        return Text(row, template.read(row["messages"], extra))
    end = ending(options)
    placed = template.place(row["messages"], row["completion"], end=end, extra=extra)
    return Text(row, placed.ids, placed.start)


def budget(spec: ModelSpec, device: str) -> int:
    """How many tokens one batch has at the most, padding counted."""
    return int(spec.engine.get("max_num_batched_tokens") or BATCH_TOKENS[device != "cpu"])


def by_length(ids: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Which texts, by their places, are read together: the longest first, within the budget.

    Equal texts are neighbours, so that a head may read them once.
    """
    left = sorted(range(len(ids)), key=lambda at: (-len(ids[at]), ids[at]))
    at = 0
    while at < len(left):
        n = min(BATCH_ROWS, max(1, budget // max(1, len(ids[left[at]]))))
        yield left[at : at + n]
        at += n
