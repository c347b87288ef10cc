"""All checks on one dataset, in order, and whether it passes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prefdata.check.boilerplate import boilerplate
from prefdata.check.contamination import Embed, contamination
from prefdata.check.contradictions import contradictions
from prefdata.check.data import Data, Whole, read
from prefdata.check.duplicates import duplicates
from prefdata.check.finding import Check, Checks
from prefdata.check.identical import identical
from prefdata.check.leakage import leakage
from prefdata.check.leftovers import leftovers
from prefdata.check.length_bias import length_bias
from prefdata.check.malformed import malformed
from prefdata.check.near_identical import near_identical
from prefdata.check.orientation import orientation
from prefdata.check.reading import frames_of
from prefdata.check.refusals import refusals
from prefdata.check.template import template
from prefdata.check.ties import ties
from prefdata.check.truncation import truncation
from prefdata.errors import SourceError
from prefdata.finding import FailOn, Finding
from prefdata.tables import text_of

# Those that need nothing but the data; contamination and the template follow them.
CHECKS: tuple[Callable[[Whole], Check], ...] = (
    malformed, orientation, contradictions, identical, near_identical, ties, duplicates, leakage,
    length_bias, truncation, refusals, boilerplate, leftovers,
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What some checks need: texts of benchmarks, and models of the client `local`."""

    against: Sequence[str] = ()
    embedder: str | None = None
    tokenizer: str | None = None
    max_length: int | None = None


@dataclass(frozen=True)
class Report:
    """What all checks found in a dataset."""

    name: str
    kind: str
    splits: dict[str, int]
    findings: tuple[Finding, ...]

    def passes(self, fail_on: FailOn = "error") -> bool:
        bad = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[fail_on]
        return not any(each.level in bad for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.kind,
            "splits": self.splits,
            "findings": [each.to_json() for each in self.findings],
        }


def run(
    target: str | Whole, options: Options | None = None, data: Path | str | None = None
) -> Report:
    """Check what `target` names (see `data.read`).

    Raises `SourceError` where it, or a benchmark, cannot be read, and `ModelError` where a model
    cannot.
    """
    asked = options or Options()
    what = target if isinstance(target, Whole) else read(target, data)
    benchmark = pl.concat([_texts(each) for each in asked.against]) if asked.against else None
    embed = embedding(asked.embedder) if benchmark is not None else None
    tokenizer = _tokenizer(asked.tokenizer)
    checks: list[Check | Checks] = [check(what) for check in CHECKS]
    checks += [
        contamination(what, benchmark, embed),
        template(what, tokenizer, asked.max_length),
    ]
    splits = Counter[str]()
    findings = over(what, checks, lambda part: splits.update(part.rows["split"]))
    return Report(what.name, what.kind, dict(sorted(splits.items())), tuple(findings))


def over(
    data: Whole, checks: Sequence[Check | Checks], also: Callable[[Data], None] = lambda part: None
) -> list[Finding]:
    """What checks find in the data, which is read once for all of them."""
    found: dict[int, list[Finding]] = {}

    def send(part: Data | None) -> None:
        for at, check in enumerate(checks):
            if at in found:
                continue
            try:
                next(check) if part is NOTHING else check.send(part)
            except StopIteration as stop:
                found[at] = stop.value if isinstance(stop.value, list) else [stop.value]

    send(NOTHING)
    for part in data.parts():
        also(part)
        send(part)
    send(None)
    return [finding for at in range(len(checks)) for finding in found[at]]


NOTHING = Data(pl.DataFrame())


def _texts(target: str) -> pl.Series:
    """Every text of a benchmark's file: of each column of texts, and of the messages in others."""
    found: list[pl.Series] = []
    for part in frames_of(target).values():
        frame = part.collect()
        for name, dtype in frame.schema.items():
            if dtype == pl.String:
                found.append(frame[name])
            elif dtype == pl.List(pl.String):
                found.append(frame[name].explode())
            elif isinstance(dtype, pl.List) and "content" in _fields(dtype.inner):
                found.append(frame.select(text_of(name)).to_series())
    if not found:
        raise SourceError(f"the benchmark {target} has no column of texts")
    return pl.concat([each.rename("text") for each in found])


def _fields(dtype: Any) -> list[str]:
    return [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []


def _tokenizer(name: str | None) -> Any:
    if name is None:
        return None
    from prefdata.models.local.loading import tokenizer

    return tokenizer(_spec(name))


def _spec(name: str) -> Any:
    from prefdata.models.spec import ModelSpec

    return ModelSpec(client="local", model=name)


def embedding(name: str | None) -> Embed | None:
    """Unit vectors of texts by a local model."""
    if name is None:
        return None
    from prefdata.models.local import LocalClient
    from prefdata.stage import requests
    from prefdata.tables import conversations

    spec = _spec(name)
    client, model = LocalClient(spec), spec.resolve("embedder", name)

    def embed(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        turns = conversations("messages", [[{"role": "user", "content": text}] for text in texts])
        asked = requests(model, "embedding", turns)
        told = pl.concat(list(client.answer(asked)))
        vectors = asked.select("request_id").join(told, on="request_id", how="left")["vector"]
        made = np.array(vectors.to_list(), np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    return embed
