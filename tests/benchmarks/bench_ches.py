"""What CHES and log-probabilities cost beside plain passes of the model.

    python tests/benchmarks/bench_ches.py [--prompts 8] [--rounds 3] [--threads 2] [--device cpu]

A real small model (SmolLM2-135M, or PREFDATA_TEST_MODEL) and made-up texts. `estimate.ches` with
`likelihoods`, through edge, client and ledger, tokens and all, against:

- the same batches through transformers with logits for the completions' tokens, and nothing done
  with them; and without the output head;
- pair by pair, both sides alone and with all hidden states, as the paper's code does it.

Once with four completions a prompt, of which all pairs are scored, and once with pairs that share
no completion. The four take turns, new texts each round, and ratios are of one round: of times on
the clock and of the process's CPU time, which others on the machine disturb less. What the ledger
takes on disk is printed too.

What the stage takes of memory is in bench_ches_memory.py. Not a test: ratios of one run with the
machine's load.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))

from prefdata import tables
from prefdata.estimate.ches import ches
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.local.texts import budget as tokens_of_a_batch
from prefdata.models.local.texts import by_length
from prefdata.models.spec import ModelSpec
from prefdata.stage import drive
from tests.benchmarks.bench_vllm import weights

WORDS = "the of rain and a quiet town where old people walk to their gardens every day".split()
OURS = "ches and log-probabilities"


def made_up(n_prompts: int, n_sides: int, words: tuple[int, int], seed: int = 7) -> dict[str, Any]:
    """Prompts with completions of many lengths, and all pairs of each."""
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(*words))) + "."

    asked = [[{"role": "user", "content": f"{n} {text()}"}] for n in range(n_prompts)]
    ids = tables.prompt_ids(asked)
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": asked, "source": "made-up"})
    numbers = range(n_prompts * n_sides)
    said = [[{"role": "assistant", "content": f"{n} {text()}"}] for n in numbers]
    of = [i for i in ids for _ in range(n_sides)]
    completions = pl.DataFrame(
        {"completion_id": tables.completion_ids(of, said), "prompt_id": of, "completion": said}
    )
    known = completions["completion_id"].to_list()
    both = [
        (p, known[p * n_sides + a], known[p * n_sides + b])
        for p in range(n_prompts)
        for a, b in combinations(range(n_sides), 2)
    ]
    pairs = pl.DataFrame(
        {
            "pair_id": tables.pair_ids([a for _, a, _ in both], [b for _, _, b in both]),
            "prompt_id": [ids[p] for p, _, _ in both],
            "chosen_id": [a for _, a, _ in both],
            "rejected_id": [b for _, _, b in both],
            "soft_label": 1.0,
            "n_votes": 1,
        }
    )
    frames = {"prompts": prompts, "completions": completions, "pairs": pairs}
    return {name: tables.check(name, each, where="benchmark") for name, each in frames.items()}


class Plain:
    """Passes of transformers over texts that are tokens already."""

    def __init__(self, spec: ModelSpec) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch, self.device = torch, str(spec.engine["device"])
        self.tokenizer = AutoTokenizer.from_pretrained(spec.model)
        self.model = AutoModelForCausalLM.from_pretrained(spec.model, dtype=torch.float32)
        self.model.to(self.device).eval()
        self.most = tokens_of_a_batch(spec, self.device)

    def take(self, made: dict[str, Any]) -> None:
        """The texts of a round."""
        asked = dict(made["prompts"].select("prompt_id", "prompt").iter_rows())
        self.ids: list[list[int]] = []
        self.starts: list[int] = []
        self.places: dict[str, int] = {}
        columns = ("completion_id", "prompt_id", "completion")
        for key, prompt, said in made["completions"].select(columns).iter_rows():
            whole = self.tokenizer.apply_chat_template([*asked[prompt], *said])["input_ids"]
            head = self.tokenizer.apply_chat_template(asked[prompt], add_generation_prompt=True)
            self.places[key] = len(self.ids)
            self.ids.append(whole)
            self.starts.append(len(head["input_ids"]))
        self.pairs = made["pairs"].select("chosen_id", "rejected_id").rows()

    def wait(self) -> None:
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    def batches(self, head: bool) -> None:
        """What is needed at the least: each text once, in padded batches of about one length."""
        with self.torch.inference_mode():
            for places in by_length(self.ids, self.most):
                texts = [self.ids[at] for at in places]
                width = max(map(len, texts))
                ids = self.torch.tensor([each + [0] * (width - len(each)) for each in texts])
                mask = self.torch.tensor(
                    [[1] * len(each) + [0] * (width - len(each)) for each in texts]
                )
                given = {"input_ids": ids, "attention_mask": mask}
                given = {name: each.to(self.device) for name, each in given.items()}
                if head:
                    first = min(self.starts[at] for at in places) - 1
                    kept = self.torch.arange(first, width, device=self.device)
                    self.model(**given, use_cache=False, logits_to_keep=kept)
                else:
                    self.model.base_model(**given, use_cache=False)
        self.wait()

    def by_pairs(self) -> None:
        """Each side of each pair alone, with all states and all logits."""
        with self.torch.inference_mode():
            for sides in self.pairs:
                sums: list[Any] = []
                for side in sides:
                    at = self.places[side]
                    ids = self.torch.tensor([self.ids[at]], device=self.device)
                    out = self.model(input_ids=ids, output_hidden_states=True)
                    sums.append(out.hidden_states[-1][0][self.starts[at] - 1 :].sum(0))
                float(sums[0] @ sums[1] - sums[0] @ sums[0])


def timed(job: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock and of this process's CPU time."""
    start = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def speed(model: str, n_prompts: int, n_sides: int, rounds: int, device: str, threads: int) -> None:
    spec = ModelSpec(client="local", model=model, engine={"device": device, "threads": threads})
    plain = Plain(spec)
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, Edge({"m": spec}, Ledger(folder)) as edge:
        jobs: dict[str, Callable[[], Any]] = {
            OURS: lambda: drive(
                ches(*made_tables(made), model=spec.resolve("m"), likelihoods=True), edge
            ),
            "plain, logits of completions": lambda: plain.batches(head=True),
            "plain, no output head": lambda: plain.batches(head=False),
            "pair by pair": plain.by_pairs,
        }
        taken: list[dict[str, tuple[float, float]]] = []
        for at in range(rounds + 1):
            made |= made_up(n_prompts, n_sides, (20, 120), seed=at)
            plain.take(made)
            turns = [*jobs][at % len(jobs) :] + [*jobs][: at % len(jobs)]
            taken.append({name: timed(jobs[name]) for name in turns})
        size = sum(each.stat().st_size for each in Path(folder).glob("*.jsonl"))
    n, n_pairs = made["completions"].height, made["pairs"].height
    tokens = sum(map(len, plain.ids))
    print(
        f"\n{n} completions, {n_pairs} pairs, {tokens} tokens in the last round; "
        f"{threads} threads on {device}; "
        f"{size / n / (rounds + 1) / 1024:.1f} KiB of ledger a completion"
    )
    # In the first round models are loaded and memory is allocated.
    for name in jobs:
        clock, cpu = (np.array([each[name][of] for each in taken[1:]]) for of in (0, 1))
        ours = [np.array([each[OURS][of] for each in taken[1:]]) for of in (0, 1)]
        ratios = "   ".join(
            f"{what} {np.median(mine / theirs):5.2f} [{(mine / theirs).min():.2f}, "
            f"{(mine / theirs).max():.2f}]"
            for what, mine, theirs in zip(("clock", "CPU"), ours, (clock, cpu), strict=True)
        )
        print(f"{name:30} {np.median(clock):7.2f} s   ours is of it: {ratios}", flush=True)


def made_tables(made: dict[str, Any]) -> tuple[Any, Any, Any]:
    return made["pairs"], made["prompts"], made["completions"]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--prompts", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = weights(Path(folder))
        for n_prompts, n_sides in ((chosen.prompts, 4), (2 * chosen.prompts, 2)):
            speed(model, n_prompts, n_sides, chosen.rounds, chosen.device, chosen.threads)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
