"""A causal model: the log-probabilities of given texts and choices, and its last states."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.models.chat import TOP, choose
from prefdata.models.local.texts import Answer, Row, Text, placed
from prefdata.models.local.transformer import Transformer
from prefdata.models.spec import ModelSpec
from prefdata.models.template import pooled

# Numbers in the logits of one batch: 1 GiB of them in float32.
LOGITS = 1 << 28


class Likelihoods(Transformer):
    """A causal model: what it expects, and its last states."""

    auto = "AutoModelForCausalLM"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._body = self.model.base_model
        config = self.model.config.get_text_config()
        self._vocabulary = int(getattr(config, "vocab_size", 1))
        self._keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def text(self, want: str, row: Row) -> Text:
        return placed(self.template, want, row)

    def batches(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        for batch in super().batches(texts):
            # Logits are much wider than states.
            width = len(batch[0].ids) * self._vocabulary
            n = max(1, LOGITS // width)
            yield from (batch[at : at + n] for at in range(0, len(batch), n))

    def run(self, want: str, batch: Sequence[Text]) -> list[Answer]:
        if want == "hidden":  # one text may be asked for several poolings
            places = {tuple(text.ids): text for text in batch}
            at = {ids: place for place, ids in enumerate(places)}
            given = self.padded([*places.values()], 0)
            states = self._body(**given, use_cache=False).last_hidden_state
            return [self._pooled(text, states[at[tuple(text.ids)]]) for text in batch]
        given = self.padded(batch, 0)
        first = min(text.start for text in batch) - 1
        logits = self._logits(given, first)
        read = self._chosen if want == "choice" else self._scored
        return [read(text, logits[at], first) for at, text in enumerate(batch)]

    def _logits(self, given: Mapping[str, Any], first: int) -> Any:
        """The logits from a position on."""
        if not self._keeps:
            return self.model(**given, use_cache=False).logits[:, first:]
        kept = self._torch.arange(first, given["input_ids"].shape[1], device=self.model.device)
        return self.model(**given, use_cache=False, logits_to_keep=kept).logits

    def _scored(self, text: Text, logits: Any, first: int) -> Answer:
        """The log-probability of each token of a completion, by the position before it."""
        torch = self._torch
        rows = logits[text.start - 1 - first : len(text.ids) - 1 - first].float()
        own = torch.tensor(text.ids[text.start :], device=rows.device)
        picked = rows.gather(1, own[:, None])[:, 0] - torch.logsumexp(rows, dim=1)
        values = [float(each) for each in picked.cpu().tolist()]
        told = [
            {"token": self.template.piece(token), "logprob": value}
            for token, value in zip(text.ids[text.start :], values, strict=True)
        ]
        return {"logprobs": told, "number": sum(values)}

    def _chosen(self, text: Text, logits: Any, first: int) -> Answer:
        spread = self._torch.log_softmax(logits[len(text.ids) - 1 - first].float(), dim=0)
        values, tokens = spread.topk(min(TOP, spread.shape[0]))
        named = zip(tokens.tolist(), values.tolist(), strict=True)
        top = [(self.template.piece(token), value) for token, value in named]
        return choose(top, json.loads(text.row["options"])["choices"])

    def _pooled(self, text: Text, states: Any) -> Answer:
        own = states[text.start - 1 : len(text.ids) - 1].float()
        return pooled(own.cpu(), json.loads(text.row["options"]))
