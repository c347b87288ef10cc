"""What the answers in a ledger teach about those to come: how long replies are, and how many bytes
a token has."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdata.models.segment import Entry
from prefdata.models.tokens import n_bytes
from prefdata.tables import Requests, Responses, digest

# Fewer answers than this teach nothing.
ENOUGH = 20
# Answers to other prompts of the same kind may differ so much, whatever the sample says.
LEAST_ERROR = 0.1
Z = 1.96


@dataclass
class Sample:
    """Numbers as they come: how many, and their mean with its relative error (95 %)."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value
        self.squares += value * value

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def error(self) -> float:
        spread = math.sqrt(max(self.squares / self.n - self.mean**2, 0.0))
        return max(Z * spread / math.sqrt(self.n) / self.mean, LEAST_ERROR) if self.mean else 1.0


def kind(want: str, options: Mapping[str, Any]) -> str:
    """Requests of one kind have replies of about one length: a judge's, a writer's."""
    schema = options.get("schema")
    return f"{want} {digest('kind', schema)}" if schema else want


def size(messages: Iterable[Mapping[str, str]], completion: Any) -> int:
    """Bytes of what is read."""
    turns = (*messages, *(completion or ()))
    return sum(n_bytes(turn["content"]) for turn in turns)


@dataclass
class Experience:
    """Samples by what was served and the kind of request."""

    written: dict[tuple[str, str], Sample] = field(default_factory=lambda: defaultdict(Sample))
    read: dict[tuple[str, str], Sample] = field(default_factory=lambda: defaultdict(Sample))

    def see(self, entries: Iterable[Entry]) -> "Experience":
        """Learn from lines of a ledger."""
        for entry in entries:
            asked = entry.request
            self._add(str(asked.get("model")), asked, asked.get("options") or {}, entry.response)
        return self

    def hear(
        self, requests: Requests, known: Responses, identities: Mapping[str, str], options: Any
    ) -> None:
        """Learn from responses to some of these requests; `options` reads an options string."""
        counts = known.select("request_id", "tokens_in", "tokens_out", "error")
        for row in requests.join(counts, on="request_id").iter_rows(named=True):
            self._add(identities[row["model"]], row, options(row["options"]), row)

    def _add(
        self, identity: str, asked: Mapping[str, Any], options: Any, answer: Mapping[str, Any]
    ) -> None:
        if answer.get("error"):
            return
        key = identity, kind(str(asked.get("want")), options)
        # Draws that were asked for together are counted as read once.
        read, given = answer.get("tokens_in"), asked.get("messages") or ()
        if not read and not answer.get("tokens_out"):
            return  # not every server says how many they were
        self.written[key].add(answer.get("tokens_out") or 0)
        if read and (n_bytes := size(given, asked.get("completion"))):
            self.read[key].add(read / n_bytes)

    def length(self, identity: str, kind: str) -> Sample | None:
        """Tokens of a reply of this kind, if enough are known."""
        found = self.written.get((identity, kind))
        return found if found and found.n >= ENOUGH else None

    def density(self, identity: str, kind: str) -> Sample | None:
        """Tokens a byte of what is read, the template's included, if enough are known."""
        found = self.read.get((identity, kind))
        return found if found and found.n >= ENOUGH else None
