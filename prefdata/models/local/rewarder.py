"""Reward models and cross-encoders: one number for one text or two."""

import json
from collections.abc import Mapping, Sequence

from prefdata.errors import ModelError
from prefdata.models.local.texts import Answer, Row, Text
from prefdata.models.local.transformer import Transformer
from prefdata.models.spec import ModelSpec


class Rewarder(Transformer):
    """A sequence classifier with one label."""

    auto = "AutoModelForSequenceClassification"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        labels = int(self.model.config.num_labels)
        if labels != 1:
            raise ModelError(
                f"the model {spec.model!r} has {labels} labels: expected a reward model or a "
                "cross-encoder with one"
            )

    def text(self, row: Row) -> Text:
        messages, completion = list(row["messages"]), list(row["completion"] or ())
        if self.template.is_own:
            extra = json.loads(row["options"]).get("chat_template_kwargs")
            return Text(row, self.template.read([*messages, *completion], extra))
        if not completion:
            messages, completion = messages[:-1], messages[-1:]
        sides = [self._joined(each) for each in (messages, completion) if each]
        read = self.tokenizer(*sides, return_token_type_ids=True)
        typed = "token_type_ids" in self.tokenizer.model_input_names
        return Text(row, read["input_ids"], 0, read["token_type_ids"] if typed else None)

    def run(self, batch: Sequence[Text]) -> list[Answer]:
        config = self.model.config.get_text_config()
        known = config.pad_token_id
        # A causal classifier finds the end of a text by its padding, which then must not be in it.
        used = {token for text in batch for token in text.ids} if known is None else set[int]()
        filler = next(at for at in range(len(used) + 1) if at not in used)
        filler = filler if known is None else known
        given = self.padded(batch, filler)
        config.pad_token_id = filler
        try:
            logits = self.model(**given).logits
        finally:
            config.pad_token_id = known
        return [{"number": float(each)} for each in logits[:, 0].float().cpu().tolist()]

    def _joined(self, turns: Sequence[Mapping[str, str]]) -> str:
        between = f" {self.tokenizer.sep_token} " if self.tokenizer.sep_token else "\n\n"
        return between.join(turn["content"] for turn in turns)
