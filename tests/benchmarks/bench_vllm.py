"""What prefdata costs on top of vLLM, and what the order of its requests saves.

    python tests/benchmarks/bench_vllm.py [--rounds 3]

One engine in this process, on a real small model (SmolLM2-135M, or PREFDATA_TEST_MODEL). Two
ratios, each of times in the same run, with the machine's load; not a test.

- `generate.sample` over a table, through edge and ledger, against a bare `LLM.generate` of the same
  prompts with the same settings: tokens a second, alternating, the best round of each. The engine
  has places for a quarter of the prompts, so a client that let it drain would show.
- `annotate.logits`, pairs of a long prompt judged in one step: the order of the client against that
  in which the stage asks, and against a shuffled one. The prompts are together more than three
  times what the engine's cache holds.
"""

import argparse
import importlib.util
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
sys.path.insert(0, str(Path(__file__).parents[2]))

from prefdata import stage, tables
from prefdata.annotate.logits import logits
from prefdata.generate.sample import sample
from prefdata.judge import load as load_judge
from prefdata.models import vllm as client
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec

PROMPTS, WRITTEN = 64, 48
LONG, SIDES, WORDS = 10, 3, 900
CACHE_BLOCKS = 22


def weights(folder: Path) -> str:
    if known := os.environ.get("PREFDATA_TEST_MODEL"):
        return known
    path = Path(__file__).parents[1] / "models" / "convert.py"
    spec = importlib.util.spec_from_file_location("convert", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.converted(folder / "smollm2"))


def conversations(texts: list[str]) -> pl.DataFrame:
    turns = [[{"role": "user", "content": text}] for text in texts]
    prompts = pl.DataFrame({"prompt": pl.Series(turns, dtype=tables.MESSAGES)})
    prompts = prompts.with_columns(prompt_id=tables.prompt_ids(prompts["prompt"]))
    return completed("prompts", prompts)


def completed(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with every column of their table, null where it is not given."""
    blank = tables.empty(name).select(pl.exclude(rows.columns))
    return pl.concat([rows, blank], how="diagonal").select(tables.empty(name).columns)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def overhead(spec: ModelSpec, folder: Path, rounds: int) -> None:
    import vllm

    texts = [f"Tell me {n} things that one may do with {n + 1} apples." for n in range(PROMPTS)]
    prompts = conversations(texts)
    model = spec.resolve("m")
    rates: dict[str, list[float]] = {"bare": [], "prefdata": []}
    with Edge({"m": spec}, Ledger(folder / "warm")) as edge:
        edge(stage.requests(model, "text", prompts["prompt"].head(2)))
        (asked,) = edge.clients.opened.values()
        llm: Any = asked._engine  # pyright: ignore
        tokenizer = llm.get_tokenizer()
        written = [
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            for turns in prompts["prompt"].to_list()
        ]
        params = vllm.SamplingParams(temperature=0.0, max_tokens=WRITTEN, ignore_eos=True)
        for at in range(rounds):
            llm.reset_prefix_cache()
            took, outputs = seconds(lambda: llm.generate(written, params, use_tqdm=False))
            rates["bare"].append(sum(len(o.outputs[0].token_ids) for o in outputs) / took)
            llm.reset_prefix_cache()
            with Edge({"m": spec}, Ledger(folder / f"ledger{at}")) as mine:
                mine.clients.opened = edge.clients.opened
                work = sample(prompts, model=model)  # pyright: ignore
                took, _ = seconds(lambda: stage.drive(work, mine))  # noqa: B023
                rates["prefdata"].append(mine.counts.tokens_out / took)
                mine.clients.opened = {}
            print(
                f"  round {at + 1}: bare {rates['bare'][-1]:.1f} tokens/s, "
                f"generate.sample {rates['prefdata'][-1]:.1f}; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    best = {name: max(each) for name, each in rates.items()}
    print(
        f"generate.sample against LLM.generate: {best['prefdata'] / best['bare']:.3f}", flush=True
    )


def judging(spec: ModelSpec, folder: Path) -> None:
    judge = load_judge("helpfulness")
    draw = random.Random(1)
    vocabulary = "river stone paper engine garden window number morning letter bridge".split()

    def text() -> str:
        return " ".join(draw.choice(vocabulary) for _ in range(WORDS))

    prompts = conversations([f"Story {n}: {text()} Why?" for n in range(LONG)])
    made = prompts.select("prompt_id").join(
        pl.DataFrame({"said": [f"Because of the {word}." for word in vocabulary[:SIDES]]}),
        how="cross",
    )
    turns = [[{"role": "assistant", "content": said}] for said in made["said"]]
    made = made.with_columns(completion=pl.Series(turns, dtype=tables.MESSAGES)).drop("said")
    made = made.with_columns(tables.completion_ids(made["prompt_id"], made["completion"]))
    completions = completed("completions", made)
    model = spec.resolve("m")
    sort = client.in_order

    def shuffled(requests: Any, _: Any) -> Any:
        return requests.sample(fraction=1.0, shuffle=True, seed=2)

    orders = {"shuffled": shuffled, "sorted": sort, "as asked": lambda requests, _: requests}
    took: dict[str, float] = {}
    cached = 0
    with Edge({"m": spec}, Ledger(folder / "judge")) as edge:
        edge(stage.requests(model, "text", prompts["prompt"].head(1), options={"max_tokens": 1}))
        (asked,) = edge.clients.opened.values()
        llm: Any = asked._engine  # pyright: ignore
        cache = llm.llm_engine.vllm_config.cache_config
        room = cache.num_gpu_blocks * cache.block_size
        for name, order in orders.items():
            llm.reset_prefix_cache()
            client.in_order = order
            with Edge({"m": spec}, Ledger(folder / f"judge-{name}")) as mine:
                mine.clients.opened = edge.clients.opened
                work = logits(prompts, completions, judge=judge, model=model)  # pyright: ignore
                found: list[Any] = []

                def ask(requests: Any) -> Any:
                    found.append(mine(requests))  # noqa: B023
                    return found[-1]  # noqa: B023

                took[name], votes = seconds(lambda: stage.drive(work, ask))  # noqa: B023
                cached = pl.concat(found)["tokens_cached"].sum()
                read, n = mine.counts.tokens_in, votes.height
                mine.clients.opened = {}
            print(
                f"  {name}: {took[name]:.1f} s, {cached} of {read} tokens in the cache; "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        client.in_order = sort
    distinct = LONG * read // n
    print(
        f"{n} judgements of {read // n} tokens, {LONG} prompts of together {distinct} tokens, "
        f"{distinct / room:.1f} times the cache of {room}"
    )
    for name in ("shuffled", "as asked"):
        print(f"in the order of their messages against {name}: {took[name] / took['sorted']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["overhead", "judging"])
    given = parser.parse_args()
    if importlib.util.find_spec("vllm") is None:
        print("vllm is not installed (make test-slow installs it): nothing is measured")
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = weights(folder)
        plain = {"enforce_eager": True, "max_model_len": 2048}
        if given.only != "judging":
            engine = {**plain, "max_num_seqs": PROMPTS // 4}
            spec = ModelSpec(
                client="vllm", model=model, temperature=0.0, max_tokens=WRITTEN,
                options={"ignore_eos": True}, engine=engine,
            )  # fmt: skip
            overhead(spec, folder, given.rounds)
        if given.only != "overhead":
            engine = {**plain, "num_gpu_blocks_override": CACHE_BLOCKS}
            judging(ModelSpec(client="vllm", model=model, engine=engine), folder)


if __name__ == "__main__":
    main()
