"""The states of a model's layers while it reads."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prefdata.errors import ModelError


@dataclass(frozen=True)
class Wanted:
    """States by the options of a request: of which layer, and whether behind the final norm.

    Layers are counted as transformers counts them, -1 being the last, 0 the embeddings. Without a
    word the norm belongs to the last layer only.
    """

    layer: int = -1
    norm: bool | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Wanted":
        layer, norm = options.get("layer", -1), options.get("norm")
        if not isinstance(layer, int) or not isinstance(norm, bool | None):
            raise ModelError(
                f"the options `layer` and `norm` of hidden states are {layer!r} and {norm!r}; "
                "expected a whole number and true or false"
            )
        return cls(layer, norm)

    @property
    def is_plain(self) -> bool:
        """Whether it is what the model itself calls its last state."""
        return self.layer == -1 and self.norm is not False


class Layers:
    """A causal model's body with its layers, by name `model`."""

    def __init__(self, model: Any, name: str, torch: Any) -> None:
        self.body = model.base_model
        self._name = name
        self._torch = torch
        self._n = int(model.config.get_text_config().num_hidden_layers)

    @contextmanager
    def watched(self, wanted: Iterable[Wanted]) -> Generator[dict[Wanted, Any]]:
        """What is read inside fills this with the states wanted, (texts, places, width)."""
        seen: dict[Wanted, Any] = {}
        with ExitStack() as hooks:
            for each in wanted:
                hooks.callback(self._watch(each, seen).remove)
            yield seen

    def _watch(self, wanted: Wanted, seen: dict[Wanted, Any]) -> Any:
        if wanted.is_plain:

            def last(_: Any, given: Any, made: Any) -> None:
                seen[wanted] = made.last_hidden_state

            return self.body.register_forward_hook(last)
        layer = wanted.layer if wanted.layer >= 0 else self._n + 1 + wanted.layer
        if not 0 <= layer <= self._n:
            raise ModelError(
                f"hidden states of layer {wanted.layer} were asked of {self._name!r}, whose layers "
                f"are 0 (embeddings) to {self._n}"
            )
        behind = layer == self._n if wanted.norm is None else wanted.norm
        norm = self._norm if behind else None

        def note(states: Any) -> None:
            seen[wanted] = states if norm is None else norm(states)

        def before(_: Any, given: Any, named: Any) -> None:
            note(given[0] if given else named["hidden_states"])

        def after(_: Any, given: Any, made: Any) -> None:
            note(made[0] if isinstance(made, tuple) else made)

        if layer == 0:
            return self._blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        return self._blocks[layer - 1].register_forward_hook(after)

    @cached_property
    def _blocks(self) -> Any:
        """The layers: of the lists of as many modules as the model has layers, the outermost."""
        lists = [
            (name.count("."), module)
            for name, module in self.body.named_modules()
            if isinstance(module, self._torch.nn.ModuleList) and len(module) == self._n
        ]
        if not lists:
            raise ModelError(
                f"the layers of {self._name!r} are not found: of its states only those of the "
                "last layer behind its norm can be had"
            )
        return min(lists, key=lambda each: each[0])[1]

    @cached_property
    def _norm(self) -> Any:
        """The module outside of the layers that makes the last state; None where none does."""
        inside = {module for block in self._blocks for module in block.modules()}
        made: list[tuple[Any, int]] = []

        def note(module: Any, given: Any, output: Any) -> None:
            tensors = [each for each in (*given[:1], output) if self._torch.is_tensor(each)]
            # In evaluation a dropout hands on what it was given.
            if len({each.data_ptr() for each in tensors}) == 2:
                made.append((module, output.data_ptr()))

        with ExitStack() as hooks, self._torch.inference_mode():
            for module in self.body.modules():
                if module not in inside and not [*module.children()]:
                    hooks.callback(module.register_forward_hook(note).remove)
            device = next(self.body.parameters()).device
            one = self._torch.zeros((1, 2), dtype=self._torch.int64, device=device)
            last = self.body(input_ids=one, use_cache=False).last_hidden_state.data_ptr()
        return next((module for module, place in made if place == last), None)
