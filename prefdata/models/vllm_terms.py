"""What vLLM is told of a request, and what its outputs say beyond text."""

import functools
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefdata.errors import ModelError
from prefdata.models.chat import TOP, cut
from prefdata.models.template import End, Placed, ending, pooled

Row = Mapping[str, Any]


@functools.lru_cache(maxsize=4096)
def parameters(want: str, said: str, role: str) -> tuple[Any, Mapping[str, Any] | None, End]:
    """vLLM's parameters of a request, what the chat template is told, and whether turns end."""
    options = json.loads(said)
    extra, end = options.pop("chat_template_kwargs", None), ending(options)
    options.pop("end", None)
    if want == "tokens":
        return None, extra, end
    if want in ("hidden", "embedding"):
        _refuse_layers(options, role)
        return _pooling(want), extra, end
    parameters: Any = importlib.import_module("vllm.sampling_params")
    schema, _ = options.pop("schema", None), options.pop("choices", None)
    if want == "logprobs":
        top = int(options.get("top", 0))
        options = {"max_tokens": 1, "prompt_logprobs": top, "detokenize": False}
    elif want == "choice":
        # Unconstrained: under a constraint vLLM's log-probabilities are masked.
        options.update(max_tokens=1, logprobs=TOP)
    else:
        if schema:
            options["structured_outputs"] = parameters.StructuredOutputsParams(json=schema)
        wanted = options.pop("top_logprobs", None)
        if options.pop("logprobs", None):
            options["logprobs"] = int(wanted or 0)
    options["output_kind"] = parameters.RequestOutputKind.FINAL_ONLY
    try:
        return parameters.SamplingParams(**options), extra, end
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the options of the model {role!r} are not vLLM's sampling parameters: {error}"
        ) from error


def _refuse_layers(options: Mapping[str, Any], role: str) -> None:
    if options.get("layer", -1) != -1 or options.get("norm", True) is not True:
        raise ModelError(
            f"the model {role!r} was asked for hidden states of layer {options.get('layer', -1)}, "
            f"norm {options.get('norm', True)}; the client 'vllm' gives those of the last layer "
            "behind its norm only, the client 'local' all of them"
        )


def _pooling(want: str) -> Any:
    module: Any = importlib.import_module("vllm.pooling_params")
    if want == "embedding":
        return module.PoolingParams(task="embed")
    return module.PoolingParams(task="token_embed", use_activation=False)


def beside(placed: Placed, places: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What the options `ids` and `top` add to log-probabilities."""
    more: dict[str, Any] = {"token_ids": placed.ids} if options.get("ids") else {}
    if top := options.get("top"):
        # vLLM gives the token itself beside the likeliest.
        ranked = [sorted(each.items(), key=lambda one: one[1].rank)[:top] for each in places]
        more["top"] = [
            [{"id": token, "logprob": float(said.logprob)} for token, said in each]
            for each in ranked
        ]
        mass = [sum(math.exp(one["logprob"]) for one in each) for each in more["top"]]
        more["rest"] = [math.log1p(-each) if each < 1 else None for each in mass]
    return more


def pooled_of(row: Row, placed: Placed, data: Any) -> dict[str, Any]:
    """The vector of an embedding, or the mean of the states that predict the completion."""
    if row["want"] == "embedding":
        return {"vector": cut(data.ravel(), row["options"]).tolist()}
    return pooled(data[placed.start - 1 : len(placed.ids) - 1], json.loads(row["options"]))
