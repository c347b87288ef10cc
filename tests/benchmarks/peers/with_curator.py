"""bespokelabs-curator: a completion and a judge call for each prompt. Run by its own Python.

python with_curator.py URL N CONCURRENCY
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import litellm

# It downloads a tokenizer even for a server on this machine; litellm ships the same file.
TOKENIZERS = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(TOKENIZERS))
os.environ["CURATOR_CACHE_DIR"] = tempfile.mkdtemp()
os.environ |= {"OPENAI_API_KEY": "none", "TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1"}

from bespokelabs import curator  # noqa: E402

URL, N, CONCURRENCY = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
FREE = {"in_mtok_cost": 1, "out_mtok_cost": 1}
LIMITS = {"max_requests_per_minute": 10**8, "max_tokens_per_minute": 10**11}


class Writer(curator.LLM):
    def prompt(self, row):
        return row["prompt"]

    def parse(self, row, response):
        return {**row, "completion": response}


class Judge(curator.LLM):
    def prompt(self, row):
        return f"Rate this answer from 1 to 5.\n\n{row['prompt']}\n\n{row['completion']}"

    def parse(self, row, response):
        return {**row, "rating": response}


def main() -> None:
    params = {"base_url": URL, "api_key": "none", "max_concurrent_requests": CONCURRENCY}
    how = {"model_name": "gpt-4o-mini", "backend": "openai"}
    how["backend_params"] = {**params, **LIMITS, **FREE}
    rows = [{"prompt": f"Prompt number {i}: write one sentence about item {i}."} for i in range(N)]
    print("BEGIN", flush=True)
    began = time.perf_counter()
    written = Writer(**how)(rows)
    judged = Judge(**how)(written.dataset).dataset
    print("END", time.perf_counter() - began, sum(bool(r) for r in judged["rating"]), flush=True)


if __name__ == "__main__":
    main()
