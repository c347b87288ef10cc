"""inverse-cai: principles of labelled pairs, best first, as its last line. Run by its own Python.

python with_icai.py URL PAIRS.csv TEST.csv FOLDER CLUSTERS SEED

Its own defaults but for the number of clusters. As many clusters as there are different principles
leave nothing to embed, which would need a tokenizer from the internet.
"""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

URL, PAIRS, TEST, FOLDER, CLUSTERS, SEED = sys.argv[1:]
os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": URL, "OPENAI_API_BASE": URL}
os.environ |= {"LANGSMITH_TRACING": "false", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}

from inverse_cai.experiment import core  # noqa: E402
from langchain_openai.chat_models import _client_utils as clients  # noqa: E402

MADE = {}


def of_this_loop(*given):
    """It votes in several event loops, and langchain gives all of them the client of the first,
    so that a whole pass of its votes fails unread. A client a loop lets it work as it means to."""
    key = (id(asyncio.get_running_loop()), *given)
    if key not in MADE:
        MADE[key] = clients._build_async_httpx_client(*given)
    return MADE[key]


clients._cached_async_httpx_client = of_this_loop

sys.argv = [
    "icai-exp",
    f"data_path={PAIRS}",
    f"test_data_path={TEST}",
    "test_data_annotate_with_principles=true",
    f"s2_num_clusters={CLUSTERS}",
    "alg_model=openai/planted",
    "annotator.skip=true",
    f"hydra.run.dir={FOLDER}",
]

if __name__ == "__main__":
    random.seed(int(SEED))
    core.run()
    found = Path(FOLDER, "results", "050_filtered_principles.json")
    print(json.dumps(json.loads(found.read_text())))
