"""Vectors of texts, and how alike two are token by token, by sentence-transformers."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prefdata.models.bertscore import bertscore
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
        matched = [row for row in rows if row["want"] == "bertscore"]
        yield from self._vectors([row for row in rows if row["want"] != "bertscore"])
        yield from self._matched(matched)

    def _vectors(self, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        texts = [joined(row["messages"]) for row in rows]
        read = self._read(texts)["input_ids"]
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

    def _matched(self, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        """How alike a row's messages and its completion are, by the states of their tokens."""
        sides = [(joined(row["messages"]), joined(row["completion"] or ())) for row in rows]
        texts = sorted({text for two in sides for text in two})
        read = self._read(texts)
        place = {text: at for at, text in enumerate(texts)}
        ids = [[token for text in two for token in read["input_ids"][place[text]]] for two in sides]
        for places in by_length(ids, self._budget):
            states = self._states(
                sorted({text for at in places for text in sides[at]}), place, read
            )
            yield [
                response(
                    rows[at]["request_id"],
                    tokens_in=len(ids[at]),
                    number=bertscore(*(states[text] for text in sides[at])),
                )
                for at in places
            ]

    def _states(
        self, texts: Sequence[str], place: Mapping[str, int], read: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Those of each text's own tokens, without the marks of its begin and end."""
        made = self._model.encode(
            list(texts), batch_size=len(texts), output_value="token_embeddings", prompt=""
        )
        states: dict[str, Any] = {}
        for text, each in zip(texts, made, strict=True):
            mark = np.array(read["special_tokens_mask"][place[text]], dtype=bool)
            # Where texts are padded on the left, that is what stands before their tokens.
            states[text] = each.float().cpu().numpy()[len(each) - len(mark) :][~mark]
        return states

    def _read(self, texts: Sequence[str]) -> Mapping[str, Any]:
        if not texts:
            return {"input_ids": [], "special_tokens_mask": []}
        return self._model.tokenizer(
            list(texts), truncation=True, max_length=self._model.max_seq_length,
            return_special_tokens_mask=True,
        )  # fmt: skip
