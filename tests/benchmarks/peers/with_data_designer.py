"""NeMo Data Designer: a completion and a judge call for each prompt. Run by its own Python.

python with_data_designer.py URL N CONCURRENCY
"""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"NEMO_TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1"}

import data_designer.config as config
import pandas as pd
from data_designer.interface import DataDesigner

URL, N, CONCURRENCY = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
JUDGE = "Rate this answer from 1 to 5.\n\n{{ prompt }}\n\n{{ completion }}"


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    texts = [f"Prompt number {i}: write one sentence about item {i}." for i in range(N)]
    pd.DataFrame({"prompt": texts}).to_parquet(folder / "prompts.parquet")
    served = config.ModelProvider(name="here", endpoint=URL, provider_type="openai", api_key="none")
    model = config.ModelConfig(
        alias="m",
        model="repeatable",
        provider="here",
        skip_health_check=True,
        inference_parameters=config.ChatCompletionInferenceParams(
            max_parallel_requests=CONCURRENCY
        ),
    )
    wanted = config.DataDesignerConfigBuilder(model_configs=[model])
    wanted.with_seed_dataset(config.LocalFileSeedSource(path=str(folder / "prompts.parquet")))
    for name, prompt in (("completion", "{{ prompt }}"), ("rating", JUDGE)):
        wanted.add_column(config.LLMTextColumnConfig(name=name, model_alias="m", prompt=prompt))
    print("BEGIN", flush=True)
    began = time.perf_counter()
    designer = DataDesigner(artifact_path=str(folder / "made"), model_providers=[served])
    made = designer.create(wanted, num_records=N).load_dataset()
    took = time.perf_counter() - began
    print("\nEND", took, int(made["rating"].notna().sum()), flush=True)


if __name__ == "__main__":
    main()
