"""Vectors of texts, by sentence-transformers."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prefdata.models.chat import cut, joined
from prefdata.models.client import response
from prefdata.models.local import loading
from prefdata.models.local.texts import Answer, Row, budget, by_length
from prefdata.models.spec import ModelSpec


class Embedder:
    """A model of sentence-transformers; of a plain transformer it makes one with mean pooling."""

    def __init__(self, spec: ModelSpec) -> None:
        torch, _ = loading.libraries(spec)
        try:
            sentences: Any = importlib.import_module("sentence_transformers")
        except ImportError as error:
            raise loading.absent("sentence-transformers") from error
        device, kept = loading.device(spec, torch), loading.reading(spec, torch)
        self._model = loading.loaded(
            spec,
            lambda: sentences.SentenceTransformer(
                spec.model, device=device, model_kwargs=kept, **loading.source(spec)
            ),
        )
        if most := spec.engine.get("max_model_len"):
            self._model.max_seq_length = int(most)
        tokenizer = self._model.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._budget = budget(spec, device)

    def answer(self, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        texts = [joined(row["messages"]) for row in rows]
        most = self._model.max_seq_length
        read = self._model.tokenizer(texts, truncation=True, max_length=most)["input_ids"]
        for places in by_length(read, self._budget):
            given = [texts[at] for at in places]
            vectors = self._model.encode(given, batch_size=len(given))
            yield [
                response(
                    rows[at]["request_id"],
                    tokens_in=len(read[at]),
                    vector=cut(vector, rows[at]["options"]).tolist(),
                )
                for at, vector in zip(places, np.asarray(vectors, dtype=np.float64), strict=True)
            ]
