"""Transformers in this process: what a model thinks of texts that are given.

`logprobs` and `choice` are those of a causal model, `hidden` its last states, `reward` the one
number of a sequence classifier, `embedding` a vector of sentence-transformers (mean pooling where
the model has no pooling of its own), `tokens` a count. It writes no text: `vllm` and `embedded` do.

- `logprobs`: of the completion's tokens, given the messages in the model's chat template (see
  `prefdata.models.template`); `number` is their sum. The option `end` also counts the token that
  ends the completion's turn.
- `hidden`: the mean, over the completion's tokens, of the state that predicts each of them: the
  output of the last layer after its norm, from the last token before the completion to its last but
  one. `number` is how many there are, so that `vector * number` is their sum.
- `choice`: as in every client, from the likeliest tokens of an unconstrained next step.
- `reward`: a model with a chat template reads messages and completion as one conversation. One
  without (a cross-encoder) reads two texts: the messages and the completion or, where no completion
  is given, all messages but the last and the last. So a ranker of pairs, whose number says by how
  much the first candidate is better, is given the prompt and the candidates as messages.
  Several messages on one side are joined by the tokenizer's separator.
- `embedding`: the contents of the messages, joined by blank lines. What is longer than the model
  reads is cut off, as its makers do. The option `dimensions` keeps the first ones, at the length
  that the vector had.
- `tokens`: the `number` of tokens of the completion or, where none is given, of the messages; with
  the option `ids`, `vector` has their numbers in the vocabulary.

`model` is a name on the model hub or a folder of weights. `engine` takes `dtype` (`float32`, which
is the reference and the default, `bfloat16` or `float16`), `device` (by default a GPU where there
is one), `device_map`, `attn_implementation`, `trust_remote_code`, `max_model_len` (tokens of one
text; longer ones are answered with a reason), `max_num_batched_tokens` (of one batch, padding
counted) and `threads`. The option `chat_template_kwargs` goes to the chat template.

Texts of about one length are read together, padded on the right: in float32 the answers are those
of one text at a time to 1e-4.
"""

import gc
import importlib
import inspect
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from prefdata.errors import ModelError, RecipeError, nearest
from prefdata.models.chat import TOP, choose, cut
from prefdata.models.client import response, responses
from prefdata.models.spec import ModelSpec
from prefdata.models.template import Placed, Template, Unreadable, counted, pooled
from prefdata.tables import Requests, Responses

WANTS = ("logprobs", "choice", "hidden", "reward", "embedding", "tokens")
SETTINGS = (
    *("dtype", "device", "device_map", "attn_implementation", "trust_remote_code"),
    *("max_model_len", "max_num_batched_tokens", "threads"),
)
DTYPES = ("float32", "bfloat16", "float16")
# Rows that are read into tokens at a time.
CHUNK = 2048
# Padded tokens of one batch, on a CPU and on an accelerator.
BATCH_TOKENS = (2048, 16384)
BATCH_ROWS = 256
# Numbers in the logits of one batch: 1 GiB of them in float32.
LOGITS = 1 << 28
Row = Mapping[str, Any]
Answer = dict[str, Any]


class LocalClient:
    """Loads what a want needs with its first request; one table at a time."""

    def __init__(self, spec: ModelSpec) -> None:
        for name in spec.engine:
            if name not in SETTINGS:
                raise RecipeError(
                    f"the client 'local' has no engine setting {name!r}; {nearest(name, SETTINGS)}"
                )
        self._spec = spec
        self._turn = threading.Lock()
        self._readers: dict[str, Any] = {}
        self._closed = False

    def answer(self, requests: Requests) -> Iterator[Responses]:
        for (want,), part in requests.group_by("want", maintain_order=True):
            self._refuse(str(want), part["model"][0])
            # The longest first: what does not fit into memory is found at once.
            longest = part.sort(_bytes(), descending=True, maintain_order=True)
            for rows in longest.iter_slices(CHUNK):
                with self._turn:
                    self._refuse_closed()
                    reader = self._reader(str(want))
                told = reader.answer(str(want), list(rows.iter_rows(named=True)))
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
            self._readers.clear()
            gc.collect()

    def _refuse(self, want: str, role: str) -> None:
        if want not in WANTS:
            raise ModelError(
                f"the model {role!r} was asked for {want!r}, but the client 'local' gives "
                f"{', '.join(WANTS)}; use the client 'vllm', 'embedded' or 'openai' for it"
            )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ModelError(f"the model {self._spec.model!r} was closed while asked")

    def _reader(self, want: str) -> Any:
        kind = KINDS.get(want, Likelihoods)
        if kind.__name__ not in self._readers:
            self._readers[kind.__name__] = kind(self._spec)
        return self._readers[kind.__name__]


def _bytes() -> pl.Expr:
    """The length of a request's texts."""
    lengths = [
        pl.col(name).list.eval(pl.element().struct.field("content").str.len_bytes()).list.sum()
        for name in ("messages", "completion")
    ]
    return pl.sum_horizontal(lengths)


@dataclass(frozen=True)
class Text:
    """One request's tokens. `kinds` tells two texts in one apart, where the model wants that."""

    row: Row
    ids: list[int]
    start: int = 0
    kinds: list[int] | None = None


class Transformer:
    """A transformer of one kind with its tokenizer: texts in batches of about one length."""

    auto = "AutoModel"

    def __init__(self, spec: ModelSpec) -> None:
        self._torch, library = _libraries(spec)
        self.tokenizer = _tokenizer(spec)
        self.template = Template(self.tokenizer)
        self.device = _device(spec, self._torch)
        how = {
            name: spec.engine[name]
            for name in ("device_map", "attn_implementation")
            if name in spec.engine
        }
        kind: Any = getattr(library, self.auto)
        self.model, loading = _loaded(
            spec,
            lambda: kind.from_pretrained(
                spec.model,
                dtype=_dtype(spec, self._torch),
                output_loading_info=True,
                **_source(spec),
                **how,
            ),
        )
        if missing := _lacking(self.model, loading["missing_keys"]):
            raise ModelError(
                f"the weights of {spec.model!r} lack {missing[0]!r}: they are not those of "
                f"transformers' {self.auto}, which what was asked needs"
            )
        if "device_map" not in how:
            self.model.to(self.device)
        self.model.eval()
        self.most = int(spec.engine.get("max_model_len") or self._context())
        default = BATCH_TOKENS[self.device != "cpu"]
        self.budget = int(spec.engine.get("max_num_batched_tokens") or default)

    def answer(self, want: str, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        texts: list[Text] = []
        refused: list[Answer] = []
        for row in rows:
            try:
                text = self.text(want, row)
                if len(text.ids) > self.most:
                    raise Unreadable(f"{len(text.ids)} tokens; the model reads {self.most}")
                texts.append(text)
            except Unreadable as error:
                refused.append(response(row["request_id"], error=f"bad request: {error}"))
        if refused:
            yield refused
        for batch in self.batches(texts):
            yield self._tried(want, batch)

    def text(self, want: str, row: Row) -> Text:
        raise NotImplementedError

    def batches(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        """Texts of about one length, the longest first, within the budget of padded tokens."""
        left = sorted(texts, key=lambda text: (-len(text.ids), text.ids))
        at = 0
        while at < len(left):
            n = min(BATCH_ROWS, max(1, self.budget // len(left[at].ids)))
            yield left[at : at + n]
            at += n

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

    def run(self, want: str, batch: Sequence[Text]) -> list[Answer]:
        """The values of a batch's responses, row for row."""
        raise NotImplementedError

    def _tried(self, want: str, batch: Sequence[Text]) -> list[Answer]:
        """A batch that does not fit into memory is halved; a text that does not is a reason."""
        try:
            with self._torch.inference_mode():
                said = self.run(want, batch)
        except self._torch.OutOfMemoryError:
            said = None
        if said is not None:
            return [
                response(text.row["request_id"], tokens_in=len(text.ids), **_sound(given))
                for text, given in zip(batch, said, strict=True)
            ]
        self._torch.cuda.empty_cache()
        if len(batch) == 1:
            ids = len(batch[0].ids)
            return [response(batch[0].row["request_id"], error=f"out of memory at {ids} tokens")]
        half = len(batch) // 2
        return self._tried(want, batch[:half]) + self._tried(want, batch[half:])

    def _context(self) -> int:
        """How many tokens the model reads, as it says itself."""
        said = [getattr(self.model.config, "max_position_embeddings", None)]
        said.append(getattr(self.tokenizer, "model_max_length", None))
        # Tokenizers that know no bound name a huge number.
        known = [int(each) for each in said if each and 0 < each < 1 << 40]
        return min(known, default=1 << 40)


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
        return _placed(self.template, want, row)

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


def _lacking(model: Any, missing: Iterable[str]) -> list[str]:
    """The parameters that the checkpoint does not give, less those that share another's numbers.

    Whether transformers names a head that is tied to the embeddings as missing depends on what
    else was loaded in the process.
    """
    model.tie_weights()
    held = dict(model.named_parameters(remove_duplicate=False))
    names = set(missing)
    given = {each.data_ptr() for name, each in held.items() if name not in names}
    return sorted(n for n in names if n not in held or held[n].data_ptr() not in given)


def _placed(template: Template, want: str, row: Row) -> Text:
    """What a causal model reads; its completion, where there is one, begins at `start`."""
    options = json.loads(row["options"])
    extra = options.get("chat_template_kwargs")
    if want == "choice":
        ids = template.ask(row["messages"], extra)
        return Text(row, ids, len(ids))
    if want == "tokens" and not row["completion"]:
        return Text(row, template.read(row["messages"], extra))
    end = bool(options.get("end", False))
    placed = template.place(row["messages"], row["completion"], end=end, extra=extra)
    return Text(row, placed.ids, placed.start)


class Counter:
    """A tokenizer, without its model."""

    def __init__(self, spec: ModelSpec) -> None:
        _libraries(spec)
        self._template = Template(_tokenizer(spec))

    def answer(self, want: str, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        yield [self._count(row) for row in rows]

    def _count(self, row: Row) -> Answer:
        try:
            text = _placed(self._template, "tokens", row)
        except Unreadable as error:
            return response(row["request_id"], error=f"bad request: {error}")
        said = counted(Placed(text.ids, text.start), json.loads(row["options"]))
        return response(row["request_id"], **said)


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

    def text(self, want: str, row: Row) -> Text:
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

    def run(self, want: str, batch: Sequence[Text]) -> list[Answer]:
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


class Embedder:
    """A model of sentence-transformers; of a plain transformer it makes one with mean pooling."""

    def __init__(self, spec: ModelSpec) -> None:
        torch, _ = _libraries(spec)
        try:
            sentences: Any = importlib.import_module("sentence_transformers")
        except ImportError as error:
            raise _absent("sentence-transformers") from error
        device = _device(spec, torch)
        kept: dict[str, Any] = {"dtype": _dtype(spec, torch)}
        names = ("device_map", "attn_implementation")
        kept |= {name: spec.engine[name] for name in names if name in spec.engine}
        self._model = _loaded(
            spec,
            lambda: sentences.SentenceTransformer(
                spec.model, device=device, model_kwargs=kept, **_source(spec)
            ),
        )
        if most := spec.engine.get("max_model_len"):
            self._model.max_seq_length = int(most)
        tokenizer = self._model.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        default = BATCH_TOKENS[device != "cpu"]
        self._budget = int(spec.engine.get("max_num_batched_tokens") or default)

    def answer(self, want: str, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        texts = ["\n\n".join(turn["content"] for turn in row["messages"]) for row in rows]
        read = self._model.tokenizer(texts, truncation=True, max_length=self._most)["input_ids"]
        left = sorted(range(len(rows)), key=lambda at: -len(read[at]))
        at = 0
        while at < len(left):
            n = min(BATCH_ROWS, max(1, self._budget // max(1, len(read[left[at]]))))
            part, at = left[at : at + n], at + n
            vectors = self._model.encode([texts[each] for each in part], batch_size=n)
            yield [
                response(
                    rows[each]["request_id"],
                    tokens_in=len(read[each]),
                    **_sound({"vector": cut(vector, rows[each]["options"]).tolist()}),
                )
                for each, vector in zip(part, np.asarray(vectors, dtype=np.float64), strict=True)
            ]

    @property
    def _most(self) -> int | None:
        return self._model.max_seq_length


KINDS: Mapping[str, Any] = {"embedding": Embedder, "reward": Rewarder, "tokens": Counter}


def _sound(given: Answer) -> Answer:
    """What was found, or the reason where a number of it is none."""
    number, vector = given.get("number"), given.get("vector")
    values = [*(() if number is None else (number,)), *(vector or ())]
    if not np.isfinite(values).all():
        return {"error": "the model's numbers are not finite"}
    return given


def _libraries(spec: ModelSpec) -> tuple[Any, Any]:
    try:
        torch: Any = importlib.import_module("torch")
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise _absent("torch and transformers") from error
    if threads := spec.engine.get("threads"):
        torch.set_num_threads(int(threads))
    return torch, transformers


def _tokenizer(spec: ModelSpec) -> Any:
    auto: Any = importlib.import_module("transformers").AutoTokenizer
    return _loaded(spec, lambda: auto.from_pretrained(spec.model, **_source(spec)))


def _source(spec: ModelSpec) -> dict[str, Any]:
    """What every loader is told beside the model's name."""
    revision = {"revision": spec.revision} if spec.revision else {}
    return {"trust_remote_code": bool(spec.engine.get("trust_remote_code", False)), **revision}


def _absent(what: str) -> ModelError:
    return ModelError(
        f"the client 'local' needs {what}; install it with: pip install 'prefdata[local]'"
    )


def _dtype(spec: ModelSpec, torch: Any) -> Any:
    name = str(spec.engine.get("dtype", DTYPES[0]))
    if name not in DTYPES:
        raise RecipeError(f"engine.dtype is {name!r}; {nearest(name, DTYPES)}")
    return getattr(torch, name)


def _device(spec: ModelSpec, torch: Any) -> str:
    return str(spec.engine.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))


def _loaded(spec: ModelSpec, load: Callable[[], Any]) -> Any:
    logging: Any = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a build has a display of its own
    try:
        return load()
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        said = " ".join(str(error).split())[:500]
        raise ModelError(
            f"transformers cannot load the model {spec.model!r}: {said}. Expected a model of the "
            "hub or a folder of weights"
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()
