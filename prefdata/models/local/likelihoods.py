"""A causal model: the log-probabilities of given texts and choices, and its states.

Requests about one text are answered from one pass of it, and so is a text with which another one
begins, such as a completion without the token that ends it.
"""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefdata.models.chat import TOP, choose
from prefdata.models.local.states import Layers, Wanted
from prefdata.models.local.texts import Answer, Row, Text, by_length, placed
from prefdata.models.local.transformer import Transformer
from prefdata.models.spec import ModelSpec
from prefdata.models.template import pooled

# Numbers in the logits of one batch: 1 GiB of them in float32.
LOGITS = 1 << 28


class Likelihoods(Transformer):
    """A causal model: what it expects, and its states."""

    auto = "AutoModelForCausalLM"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._layers = Layers(self.model, spec.model, self._torch)
        config = self.model.config.get_text_config()
        self._vocabulary = int(getattr(config, "vocab_size", 1))
        self._keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def text(self, row: Row) -> Text:
        return placed(self.template, row)

    def batches(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        # What begins alike is neighbours, the longest first.
        passes = one_pass(sorted(texts, key=lambda text: text.ids, reverse=True))
        for with_logits in (True, False):
            some = [each for each in passes if any(map(_needs_logits, each)) == with_logits]
            for places in by_length([each[0].ids for each in some], self.budget):
                # Logits are much wider than states.
                width = len(some[places[0]][0].ids) * self._vocabulary
                n = max(1, LOGITS // width) if with_logits else len(places)
                for at in range(0, len(places), n):
                    yield [text for place in places[at : at + n] for text in some[place]]

    def run(self, batch: Sequence[Text]) -> list[Answer]:
        passes = one_pass(batch)
        given = self.padded([each[0] for each in passes], 0)
        first = min((text.start for text in batch if _needs_logits(text)), default=0) - 1
        wanted = {Wanted.of(_options(text)) for text in batch if text.row["want"] == "hidden"}
        with self._layers.watched(wanted) as states:
            logits: Any = self._logits(given, first) if first >= 0 else self._read(given)
        said: list[Answer] = []
        for at, texts in enumerate(passes):
            for nth, text in enumerate(texts):
                match text.row["want"]:
                    case "hidden":
                        answer = self._pooled(text, states[Wanted.of(_options(text))][at])
                    case "choice":
                        answer = self._chosen(text, logits[at], first)
                    case _:
                        answer = self._scored(text, logits[at], first)
                said.append(answer | ({"tokens_cached": len(text.ids)} if nth else {}))
        return said

    def _read(self, given: Mapping[str, Any]) -> None:
        """A pass that is watched for states only."""
        self._layers.body(**given, use_cache=False)

    def _logits(self, given: Mapping[str, Any], first: int) -> Any:
        """The logits from a position on."""
        if not self._keeps:
            return self.model(**given, use_cache=False).logits[:, first:]
        kept = self._torch.arange(first, given["input_ids"].shape[1], device=self.model.device)
        return self.model(**given, use_cache=False, logits_to_keep=kept).logits

    def _scored(self, text: Text, logits: Any, first: int) -> Answer:
        """The log-probability of each token of a completion, by the position before it."""
        torch, options = self._torch, _options(text)
        rows = logits[text.start - 1 - first : len(text.ids) - 1 - first].float()
        spread = rows.log_softmax(dim=1)
        own = torch.tensor(text.ids[text.start :], device=rows.device)
        values: list[float] = spread.gather(1, own[:, None])[:, 0].tolist()
        told = [
            {"token": self.template.piece(token), "logprob": value}
            for token, value in zip(text.ids[text.start :], values, strict=True)
        ]
        answer: Answer = {"logprobs": told, "number": sum(values)}
        if options.get("ids"):
            answer["token_ids"] = text.ids
        if top := int(options.get("top", 0)):
            answer |= self._likeliest(spread, top)
        return answer

    def _likeliest(self, spread: Any, top: int) -> Answer:
        """In each place the likeliest tokens, and how likely all others are together."""
        values, tokens = spread.topk(min(top, spread.shape[1]), dim=1)
        left = self._torch.logsumexp(spread.scatter(1, tokens, -self._torch.inf), dim=1)
        both = zip(tokens.tolist(), values.tolist(), strict=True)
        return {
            "top": [
                [{"id": i, "logprob": value} for i, value in zip(*each, strict=True)]
                for each in both
            ],
            "rest": [each if each > -self._torch.inf else None for each in left.tolist()],
        }

    def _chosen(self, text: Text, logits: Any, first: int) -> Answer:
        spread = self._torch.log_softmax(logits[len(text.ids) - 1 - first].float(), dim=0)
        values, tokens = spread.topk(min(TOP, spread.shape[0]))
        named = zip(tokens.tolist(), values.tolist(), strict=True)
        top = [(self.template.piece(token), value) for token, value in named]
        return choose(top, _options(text)["choices"])

    def _pooled(self, text: Text, states: Any) -> Answer:
        own = states[text.start - 1 : len(text.ids) - 1].float()
        return pooled(own, _options(text))


def one_pass(texts: Sequence[Text]) -> list[list[Text]]:
    """Runs of neighbours of which the first one begins with all others."""
    passes: list[list[Text]] = []
    for text in texts:
        if passes and passes[-1][0].ids[: len(text.ids)] == text.ids:
            passes[-1].append(text)
        else:
            passes.append([text])
    return passes


def _needs_logits(text: Text) -> bool:
    return text.row["want"] != "hidden"


def _options(text: Text) -> Mapping[str, Any]:
    return json.loads(text.row["options"])
