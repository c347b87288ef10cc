"""The client: which head answers what, and in which order requests are read."""

import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import polars as pl

from prefdata.errors import ModelError, RecipeError, nearest
from prefdata.models.client import responses
from prefdata.models.local.counter import Counter
from prefdata.models.local.embedder import Embedder
from prefdata.models.local.likelihoods import Likelihoods
from prefdata.models.local.loading import SETTINGS
from prefdata.models.local.rewarder import Rewarder
from prefdata.models.local.texts import Answer, Row
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests, Responses

# Texts that are read into tokens at a time.
CHUNK = 2048


class Head(Protocol):
    """What is loaded of a model to answer wants of one kind."""

    def answer(self, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        """Responses to rows of requests, in batches and any order."""
        ...


HEADS: Mapping[str, Callable[[ModelSpec], Head]] = {
    "logprobs": Likelihoods,
    "choice": Likelihoods,
    "hidden": Likelihoods,
    "reward": Rewarder,
    "embedding": Embedder,
    "bertscore": Embedder,
    "tokens": Counter,
}


class LocalClient:
    """Loads what a want needs with its first request; one batch at a time."""

    def __init__(self, spec: ModelSpec) -> None:
        for name in spec.engine:
            if name not in SETTINGS:
                raise RecipeError(
                    f"the client 'local' has no engine setting {name!r}; {nearest(name, SETTINGS)}"
                )
        self._spec = spec
        self._turn = threading.Lock()
        self._heads: dict[Callable[[ModelSpec], Head], Head] = {}
        self._closed = False

    def answer(self, requests: Requests) -> Iterator[Responses]:
        for want, role in requests.select("want", "model").unique().sort("want").iter_rows():
            _refuse(want, role)
        # A head is asked all of its wants of a text at once, and may read it once for them.
        for kind in dict.fromkeys(HEADS[want] for want in requests["want"].unique().sort()):
            wants = [want for want, each in HEADS.items() if each is kind]
            for rows in _chunks(requests.filter(pl.col("want").is_in(wants))):
                with self._turn:
                    self._refuse_closed()
                    head = self._head(kind)
                told = head.answer(list(rows.iter_rows(named=True)))
                while True:
                    with self._turn:
                        self._refuse_closed()
                        answered = next(told, None)
                    if answered is None:
                        break
                    yield responses(answered)

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._heads.clear()
            gc.collect()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ModelError(f"the model {self._spec.model!r} was closed while asked")

    def _head(self, kind: Callable[[ModelSpec], Head]) -> Head:
        if kind not in self._heads:
            self._heads[kind] = kind(self._spec)
        return self._heads[kind]


def _refuse(want: str, role: str) -> None:
    if want not in HEADS:
        raise ModelError(
            f"the model {role!r} was asked for {want!r}, but the client 'local' gives "
            f"{', '.join(HEADS)}; use the client 'vllm', 'embedded' or 'openai' for it"
        )


def _chunks(part: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows about so many texts at a time, the longest texts first.

    So what does not fit into memory is found at once.
    """
    text = pl.struct("messages", "completion").hash()
    rows = part.with_columns(_bytes().alias("bytes"), text.alias("text"))
    rows = rows.sort("bytes", "text", descending=[True, False], maintain_order=True)
    chunk = rows["text"].rle_id() // CHUNK
    for _, each in rows.drop("bytes", "text").group_by(chunk, maintain_order=True):
        yield each


def _bytes() -> pl.Expr:
    """The length of a request's texts."""
    lengths = [
        pl.col(name).list.eval(pl.element().struct.field("content").str.len_bytes()).list.sum()
        for name in ("messages", "completion")
    ]
    return pl.sum_horizontal(lengths)
