"""What `[models.X]` in a recipe may say, and which of it makes another answer.

Importing this file is cheap: no table library and no client is loaded before a model is resolved.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prefdata.models.prices import FREE, Prices, listed
from prefdata.secrets import refuse_secrets

if TYPE_CHECKING:
    from prefdata.stage import Model

Name = Literal["embedded", "openai", "vllm", "local", "scripted"]
ANSWERING = ("temperature", "top_p", "max_tokens", "seed", "stop")
# How fast and how patiently an endpoint is asked.
SENDING = (
    *("concurrency", "rpm", "tpm", "max_n", "retries"),
    *("timeout", "connect_timeout", "read_timeout", "mode", "batch_size"),
)
PLANTED = (
    "accuracy",
    "position_bias",
    "tie_rate",
    "malformed_rate",
    "failure_rate",
    "quality",
    "spread",
)
# Engine settings that change how fast an answer comes and never which one. All others are part of
# a model's identity: a forgotten one costs a repeated call, a wrong one a wrong answer.
SPEED = frozenset(
    {
        "threads",
        "n_threads",
        "n_parallel",
        "n_batch",
        "n_ubatch",
        "batch_size",
        "device",
        "gpu_memory_utilization",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enforce_eager",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "swap_space",
        "enable_prefix_caching",
        "cpu_offload_gb",
        "num_gpu_blocks_override",
        "kv_cache_memory_bytes",
        "max_loras",
        "max_cpu_loras",
        "distributed_executor_backend",
        "disable_log_stats",
        "download_dir",
    }
)
# An engine loads weights for minutes and answers a chunk at a time.
QUIET_ENGINE = 300.0
QUIET_BATCH = 3600.0
# Without a bound a small model may write until its context is full.
OWN_ENGINE_MAX_TOKENS = 1024


def is_address(url: str) -> bool:
    """Whether a URL is one that can be asked."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class ModelSpec(BaseModel):
    """One model of a recipe.

    `revision` is one of the model hub's. `adapter` is a LoRA adapter of `vllm`: a folder or a name.
    `temperature`, `top_p`, `max_tokens`, `seed`, `stop` and the table `options` (whatever else
    the engine samples with) change answers. All these do not: `base_url` and `api_key_env` (each
    one or a list: the endpoints of the model, and the variables that hold their keys);
    `concurrency` (most requests at once), `rpm` and `tpm` (requests and tokens a minute), each for
    every endpoint; `timeout`, `connect_timeout` and `read_timeout` (seconds of one attempt in all,
    to connect, between two bytes), `retries`; `stall_seconds` (without an answer, after which the
    request that waits is named; by default half of `timeout` for `openai`, five minutes for
    engines, an hour for batches); `max_n` (draws of one conversation that one request may ask
    for); `price_in` and `price_out` (USD per million tokens; by default the list price where one
    is known), `price_cached` (of tokens that the server read from its cache). With `mode` =
    "batch" the requests of a table go through the batch API of `openai`'s protocol, at most
    `batch_size` in one; `batch_discount` is the share of the price that this saves.
    `engine` is passed to the engine of `embedded`, `vllm` and `local`; on many machines (`prefdata
    build --engine`) `vllm` has so many `replicas`. The planted values
    `accuracy` ... `spread` are those of `prefdata.models.scripted`.
    """

    # A recipe with a key in the wrong place must not have it printed.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client: Name
    model: str = Field(default="", description="the served model: a name, or a path to its weights")
    revision: str | None = None
    adapter: str | None = None
    family: str | None = None
    base_url: str | list[str] | None = None
    api_key_env: str | list[str] | None = None

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    stop: list[str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    concurrency: int = Field(default=64, ge=1)
    rpm: float | None = Field(default=None, gt=0)
    tpm: float | None = Field(default=None, gt=0)
    max_n: int = Field(default=1, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    connect_timeout: float = Field(default=10.0, gt=0)
    read_timeout: float | None = Field(default=None, gt=0)
    retries: int = Field(default=5, ge=0)
    stall_seconds: float | None = Field(default=None, gt=0)
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)
    price_cached: float | None = Field(default=None, ge=0)
    mode: Literal["live", "batch"] = "live"
    batch_size: int = Field(default=50_000, ge=1, le=50_000)
    batch_discount: float | None = Field(default=None, ge=0, lt=1)
    engine: dict[str, Any] = Field(default_factory=dict)
    replicas: int = Field(default=1, ge=1)

    accuracy: float = Field(default=0.9, ge=0, le=1)
    position_bias: float = Field(default=0.0, ge=0, le=1)
    tie_rate: float = Field(default=0.0, ge=0, le=1)
    malformed_rate: float = Field(default=0.0, ge=0, le=1)
    failure_rate: float = Field(default=0.0, ge=0, le=1)
    quality: float = Field(default=0.5, ge=0, le=1)
    spread: float = Field(default=0.25, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, given: Any) -> Any:
        """Raises `RecipeError` itself, because pydantic's own error would carry the key along."""
        refuse_secrets("models", given)
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSpec":
        if not self.model and self.client != "scripted":
            raise ValueError("a model needs `model`, the name or the path of what is served")
        doubled = sorted(set(ANSWERING) & self.options.keys())
        if doubled:
            raise ValueError(f"{doubled[0]!r} is a key of the model itself, not of its `options`")
        for url, _ in self.endpoints():
            if url is not None and not is_address(url):
                raise ValueError(
                    f"`base_url` is {url!r}; expected an address such as http://127.0.0.1:8000/v1"
                )
        if self.mode == "batch" and self.client != "openai":
            raise ValueError(f"`mode` = \"batch\" is for the client 'openai', not {self.client!r}")
        if self.adapter and self.client != "vllm":
            raise ValueError(f"`adapter` is for the client 'vllm', not {self.client!r}")
        if self.replicas > 1 and self.client != "vllm":
            raise ValueError(f"`replicas` is for the client 'vllm', not {self.client!r}")
        planted = sorted(self.model_fields_set & set(PLANTED))
        if planted and self.client != "scripted":
            raise ValueError(f"{planted[0]!r} is for the client 'scripted', not {self.client!r}")
        return self

    def endpoints(self) -> list[tuple[str | None, str | None]]:
        """Each endpoint's base URL and the variable of its key; one of either serves all."""
        urls = self.base_url if isinstance(self.base_url, list) else [self.base_url]
        keys = self.api_key_env if isinstance(self.api_key_env, list) else [self.api_key_env]
        n = max(len(urls), len(keys))
        if not urls or not keys or {len(urls), len(keys)} - {1, n}:
            raise ValueError(
                f"`base_url` names {len(urls)} endpoints and `api_key_env` {len(keys)} keys; "
                "expected one of either, or a key for each endpoint in the same order"
            )
        return list(zip(urls * (n // len(urls)), keys * (n // len(keys)), strict=True))

    def resolve(self, role: str, label: str = "") -> "Model":
        """The model as a stage sees it. Reads the weights once where they are a file or folder."""
        from prefdata.stage import Model

        options = {name: getattr(self, name) for name in ANSWERING} | self.options
        given = {name: value for name, value in sorted(options.items()) if value is not None}
        is_own = self.client in ("embedded", "vllm")
        defaults = {"max_tokens": OWN_ENGINE_MAX_TOKENS} if is_own else {}
        return Model(role, label or role, self.identity(), given, defaults)

    def identity(self) -> str:
        """What is served: never where, and never a path of this machine."""
        if self.client == "scripted":
            values = ",".join(f"{name}={getattr(self, name)!r}" for name in PLANTED)
            return f"scripted:{self.model}({values})"
        from prefdata.models import weights

        path = weights.locate(self)
        served = weights.digest(path) if path else self.model
        parts = [f"weights:{served}" if path else served]
        if self.revision and not path:
            parts.append(f"@{self.revision}")
        if self.adapter:
            folder = weights.folder(self.adapter)
            parts.append(f"+{f'weights:{weights.digest(folder)}' if folder else self.adapter}")
        own = {k: v for k, v in sorted(self.engine.items()) if k not in SPEED}
        if own:
            parts.append(f"({','.join(f'{k}={v!r}' for k, v in own.items())})")
        return "".join(parts)

    @property
    def prices(self) -> Prices | None:
        """What tokens cost; None where it is not known.

        As the recipe says, else as listed for every endpoint. What runs on this machine is free
        unless the recipe says otherwise.
        """
        found = self._stated or (self._listed if self.client == "openai" else FREE)
        if found is None:
            return None
        if self.price_cached is not None:
            found = replace(found, cached=self.price_cached)
        if self.batch_discount is not None:
            found = replace(found, batch_discount=self.batch_discount)
        return found.in_batches() if self.mode == "batch" else found

    @property
    def _stated(self) -> Prices | None:
        if self.price_in is None and self.price_out is None:
            return None
        return Prices(self.price_in or 0.0, self.price_out or 0.0)

    @property
    def _listed(self) -> Prices | None:
        """The list price, where it is the same at every endpoint."""
        found = {listed(self.model, url) for url, _ in self.endpoints()}
        return found.pop() if len(found) == 1 else None

    @property
    def patience(self) -> float:
        """Seconds without an answer after which something seems to be stuck."""
        if self.stall_seconds is not None:
            return self.stall_seconds
        if self.client != "openai":
            return QUIET_ENGINE
        return QUIET_BATCH if self.mode == "batch" else self.timeout / 2

    def served(self) -> tuple[str, ...]:
        """Roles for which this is equal share one client, so an engine is loaded once."""
        where = [self.client, self.model, self.revision, self.base_url, self.api_key_env]
        limits = [getattr(self, name) for name in SENDING] if self.client == "openai" else []
        if self.client == "scripted":
            limits = [self.identity()]
        return tuple(map(repr, [*where, *limits, sorted(self.engine.items())]))
