"""distilabel: a completion and a judge call for each prompt. Run by its own Python.

python with_distilabel.py URL N CONCURRENCY
"""

import os
import sys
import time

os.environ |= {"HF_HUB_OFFLINE": "1"}

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

URL, N, CONCURRENCY = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
JUDGE = "Rate this answer from 1 to 5.\n\n{{ instruction }}\n\n{{ completion }}"


def llm() -> OpenAILLM:
    return OpenAILLM(model="repeatable", base_url=URL, api_key="none")


def main() -> None:
    texts = [f"Prompt number {i}: write one sentence about item {i}." for i in range(N)]
    rows = [{"instruction": text} for text in texts]
    # All requests of a batch are in flight at once.
    size = {"input_batch_size": CONCURRENCY}
    with Pipeline("rows") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=CONCURRENCY)
        write = TextGeneration(
            llm=llm(), output_mappings={"generation": "completion", "model_name": "writer"}, **size
        )
        rate = TextGeneration(
            llm=llm(),
            template=JUDGE,
            columns=["instruction", "completion"],
            output_mappings={"generation": "rating"},
            **size,
        )
        load >> write >> rate
    print("BEGIN", flush=True)
    began = time.perf_counter()
    made = pipeline.run(use_cache=False)["default"]["train"]
    took = time.perf_counter() - began
    print("\nEND", took, sum(bool(each) for each in made["rating"]), flush=True)


if __name__ == "__main__":
    main()
