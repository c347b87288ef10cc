"""What all transformers do: texts in, padded batches through the model, responses out."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prefdata.models.client import response
from prefdata.models.local import loading
from prefdata.models.local.texts import Answer, Row, Text, budget, by_length
from prefdata.models.spec import ModelSpec
from prefdata.models.template import Template, Unreadable


class Transformer:
    """A transformer with its tokenizer.

    A head says how a request is read (`text`) and what a batch of them gives (`run`).
    """

    auto = "AutoModel"

    def __init__(self, spec: ModelSpec) -> None:
        self._torch, _ = loading.libraries(spec)
        self.tokenizer = loading.tokenizer(spec)
        self.template = Template(self.tokenizer)
        self.model = loading.transformer(spec, self.auto)
        self.most = int(spec.engine.get("max_model_len") or self._context())
        self.budget = budget(spec, loading.device(spec, self._torch))

    def text(self, row: Row) -> Text:
        """A request as tokens; `Unreadable` where that cannot be."""
        raise NotImplementedError

    def run(self, batch: Sequence[Text]) -> list[Answer]:
        """The values of a batch's responses, row for row."""
        raise NotImplementedError

    def answer(self, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        texts: list[Text] = []
        refused: list[Answer] = []
        for row in rows:
            try:
                text = self.text(row)
                if len(text.ids) > self.most:
                    raise Unreadable(f"{len(text.ids)} tokens; the model reads {self.most}")
                texts.append(text)
            except Unreadable as error:
                refused.append(response(row["request_id"], error=f"bad request: {error}"))
        if refused:
            yield refused
        for batch in self.batches(texts):
            yield self._tried(batch)

    def batches(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        for places in by_length([text.ids for text in texts], self.budget):
            yield [texts[at] for at in places]

    def padded(self, batch: Sequence[Text], filler: int) -> dict[str, Any]:
        """The model's input, padded on the right."""
        width = max(len(text.ids) for text in batch)
        ids = np.full((len(batch), width), filler)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        kinds = np.zeros((len(batch), width), dtype=np.int64)
        for at, text in enumerate(batch):
            ids[at, : len(text.ids)] = text.ids
            mask[at, : len(text.ids)] = 1
            kinds[at, : len(text.ids)] = text.kinds or 0
        given = {"input_ids": ids, "attention_mask": mask}
        if batch[0].kinds is not None:
            given["token_type_ids"] = kinds
        place = self.model.device
        return {name: self._torch.from_numpy(each).to(place) for name, each in given.items()}

    def _tried(self, batch: Sequence[Text]) -> list[Answer]:
        """A batch that does not fit into memory is halved; a text that does not is a reason."""
        try:
            with self._torch.inference_mode():
                said = self.run(batch)
        except self._torch.OutOfMemoryError:
            said = None
        if said is not None:
            return [
                response(text.row["request_id"], tokens_in=len(text.ids), **given)
                for text, given in zip(batch, said, strict=True)
            ]
        self._torch.cuda.empty_cache()
        if len(batch) == 1:
            ids = len(batch[0].ids)
            return [response(batch[0].row["request_id"], error=f"out of memory at {ids} tokens")]
        half = len(batch) // 2
        return self._tried(batch[:half]) + self._tried(batch[half:])

    def _context(self) -> int:
        """How many tokens the model reads, as it says itself."""
        said = [getattr(self.model.config, "max_position_embeddings", None)]
        said.append(getattr(self.tokenizer, "model_max_length", None))
        # Tokenizers that know no bound name a huge number.
        known = [int(each) for each in said if each and 0 < each < 1 << 40]
        return min(known, default=1 << 40)
