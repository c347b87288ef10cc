"""A conversation as a model reads it: the model's own chat template, token for token.

A model without a template reads `PLAIN`: each turn is its role and a colon on one line, its text on
the next, and a blank line. A completion that is one turn of the assistant begins where the
model would begin to write. Another one, a turn of the user or several turns, stands where the
template puts it, with whatever the template writes between its turns. Its text is what the template
makes of it, since that is what is trained on: some strip what is said. To a template that asks for
the day it is always the same one, `DAY`: else a request would mean something else tomorrow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from typing import Any, Literal, cast

from prefdata.errors import ModelError

PLAIN = (
    "{% for turn in messages %}{{ turn['role'] | capitalize }}:\n{{ turn['content'] }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
# Stands for a content whose place is looked for: two signs that no writing has.
MARK = "\ue0f1\ue0f2"
RECENT = 8
# What the templates of Llama 3 themselves write where nobody tells them the day.
DAY = date(2024, 7, 26)
Turns = Sequence[Mapping[str, str]]
# Whether a completion's tokens have its end among them: not; the token that ends its last turn; or
# all that the template writes after it, as trainers have it that read whole conversations.
End = bool | Literal["template"]
ENDS: tuple[End, ...] = (False, True, "template")


class Unreadable(Exception):
    """A conversation that the model cannot be shown; the message is the row's reason."""


@dataclass(frozen=True)
class Placed:
    """The tokens of a conversation; those of its completion begin at `start`."""

    ids: list[int]
    start: int


class Template:
    """Writes conversations for one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._own = bool(getattr(tokenizer, "chat_template", None))
        first: list[int] = [] if self._own else tokenizer.encode("")
        begin = getattr(tokenizer, "bos_token_id", None)
        # A template writes its own first token; before plain text it is put as the tokenizer would.
        self._lead: list[int] = [begin] if begin is not None and first[:1] == [begin] else []
        self._pieces: dict[int, str] = {}
        asks_the_day = "strftime_now" in str(getattr(tokenizer, "chat_template", None))
        self._fixed = {"strftime_now": DAY.strftime} if asks_the_day else {}
        # Requests about one text follow each other.
        self._written = lru_cache(RECENT)(self._render)
        self._encoded = lru_cache(RECENT)(self._tokens)

    @property
    def is_own(self) -> bool:
        """Whether the model has a template of its own."""
        return self._own

    def ask(self, messages: Turns, extra: Mapping[str, Any] | None = None) -> list[int]:
        """The tokens after which the model would begin to write."""
        return self._encode(self._write(messages, True, extra))

    def read(self, messages: Turns, extra: Mapping[str, Any] | None = None) -> list[int]:
        """The tokens of a conversation that is over."""
        return self._encode(self._write(messages, False, extra))

    def place(
        self,
        messages: Turns,
        completion: Turns | None,
        *,
        end: End = False,
        extra: Mapping[str, Any] | None = None,
    ) -> Placed:
        """A completion behind its messages, with as much of its `end` as is wanted.

        A completion is read in one piece with what is before it, whose tokens have to be those that
        the whole begins with. Where a token would hold the last sign of the one and the first of
        the other, no token is where the completion begins, and it is `Unreadable`.
        """
        if not completion:
            raise Unreadable("no completion was given")
        end = end if self._own else bool(end)  # what `PLAIN` writes after a turn is no end of text
        before, said, rest = self._around(messages, completion, end, extra)
        head = self._encode(before)
        own = self._encode(before + said)
        ids = self._ended(own, before + said + rest) if end is True else own
        for read in (own, ids):
            if read[: len(head)] != head:
                raise Unreadable(self._joined(head, read))
        if len(own) == len(head):
            raise Unreadable("the completion has no tokens")
        if not head:
            raise Unreadable("nothing precedes the completion")
        return Placed(ids, len(head))

    def piece(self, token: int) -> str:
        """The text of one token."""
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token])
        return self._pieces[token]

    def _joined(self, head: Sequence[int], ids: Sequence[int]) -> str:
        """Where the tokens of what is before a completion are not those of the whole."""
        at = next((n for n, (a, b) in enumerate(zip(head, ids, strict=False)) if a != b), len(ids))
        alone, whole = (self._tokenizer.decode(each[at : at + 3]) for each in (head, ids))
        return (
            "the completion begins within a token: the prompt's tokens are not those that the "
            f"whole begins with. At token {at} of {len(head)} the prompt alone has {alone!r}, the "
            f"whole {whole!r}; blanks at the completion's beginning or the prompt's end may do this"
        )

    def _around(
        self, messages: Turns, completion: Turns, end: End, extra: Mapping[str, Any] | None
    ) -> tuple[str, str, str]:
        """The text before a completion, its own, and what the template writes after it.

        Its own is what the template makes of it: some strip what is said, or put a blank before it.
        With the end "template" what is written after it is its own too.
        """
        before, rest = self._beside(messages, completion, extra)
        whole = self._write([*messages, *completion], False, extra)
        if alone := len(completion) == 1 and completion[0]["role"] == "assistant":
            before = self._write(messages, True, extra)
        start, stop = len(before), len(whole) - len(rest)
        if whole.startswith(before) and whole.endswith(rest) and start <= stop:
            return before, whole[start : None if end == "template" else stop], rest
        if alone and end != "template":
            return before, completion[0]["content"], rest
        at = _common(whole, before)
        raise Unreadable(
            "the chat template writes a completion elsewhere than where it would begin: at sign "
            f"{at} the text before it has {before[at : at + 20]!r}, the whole conversation "
            f"{whole[at : at + 20]!r}"
        )

    def _beside(
        self, messages: Turns, completion: Turns, extra: Mapping[str, Any] | None
    ) -> tuple[str, str]:
        """What the template writes before a completion's first content and after its last."""
        ends = (0, len(completion) - 1)
        marked = [
            {**turn, "content": MARK} if at in ends else turn for at, turn in enumerate(completion)
        ]
        pieces = self._write([*messages, *marked], False, extra).split(MARK)
        if len(pieces) != len(set(ends)) + 1:
            raise Unreadable("the chat template changes the completion: its tokens cannot be told")
        return pieces[0], pieces[-1]

    @cached_property
    def _marks(self) -> set[int]:
        """The tokens that may end a turn, which are not always called special."""
        special: set[int] = set(self._tokenizer.all_special_ids)
        return special | set(getattr(self._tokenizer, "added_tokens_decoder", {}))

    def _ended(self, ids: list[int], whole: str) -> list[int]:
        """Tokens with the one that ends their turn: the first mark beyond theirs in the whole text.

        It is looked for there, and not in what is written after the turn alone: how a blank before
        it is read depends on what it follows. Where there is none it is the end of a text.
        """
        n = sum(token in self._marks for token in ids)
        read = self._encode(whole)
        marks = [at for at, token in enumerate(read) if token in self._marks]
        if len(marks) > n:
            return read[: marks[n] + 1]
        finish = self._tokenizer.eos_token_id
        return ids if finish is None else [*ids, finish]

    def _write(self, messages: Turns, ask: bool, extra: Mapping[str, Any] | None) -> str:
        turns = tuple((turn["role"], turn["content"]) for turn in messages)
        return self._written(turns, ask, json.dumps(extra or {}))

    def _render(self, turns: Sequence[tuple[str, str]], ask: bool, extra: str) -> str:
        plain = {} if self._own else {"chat_template": PLAIN}
        try:
            return self._tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in turns],
                tokenize=False,
                add_generation_prompt=ask,
                **plain,
                **self._fixed,
                **json.loads(extra),
            )
        except Exception as error:  # a template is a program of the model's maker
            said = " ".join(str(error).split())[:300]
            raise Unreadable(f"the chat template refuses the messages: {said}") from error

    def _encode(self, text: str) -> list[int]:
        return [*self._lead, *self._encoded(text)]

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))


def ending(options: Mapping[str, Any]) -> End:
    """The option `end` of what is asked about a completion."""
    end = options.get("end", False)
    if end not in ENDS:
        raise ModelError(f"the option `end` is {end!r}; it is one of false, true and 'template'")
    return cast(End, end)


def pooled(states: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The response of a completion's states, by the option `pool`: their mean, sum or last."""
    pool = options.get("pool", "mean")
    if pool not in ("mean", "sum", "last"):
        raise ModelError(f"the option `pool` of hidden states is {pool!r}; it is mean, sum or last")
    vector = states[-1] if pool == "last" else states.sum(0) if pool == "sum" else states.mean(0)
    return {"vector": vector.tolist(), "number": float(len(states))}


def counted(placed: Placed, options: Mapping[str, Any]) -> dict[str, Any]:
    """The response of a count of tokens; with the option `ids`, all that were read."""
    n = len(placed.ids)
    ids = {"token_ids": placed.ids} if options.get("ids") else {}
    return {"number": float(n - placed.start), "tokens_in": n, **ids}


def _common(one: str, other: str) -> int:
    """How many signs two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one.startswith(other[:middle]) else (low, middle - 1)
    return low
