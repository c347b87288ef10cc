"""inverse-cai: principles of labelled pairs, best first, as its last line. Run by its own Python.

python with_icai.py URL PAIRS.csv TEST.csv FOLDER CLUSTERS SEED

Its own defaults but for the number of clusters. As many clusters as there are different principles
leave nothing to embed, which would need a tokenizer from the internet.
"""

import json
import os
import random
import sys
from pathlib import Path

URL, PAIRS, TEST, FOLDER, CLUSTERS, SEED = sys.argv[1:]
os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": URL, "OPENAI_API_BASE": URL}
os.environ |= {"LANGSMITH_TRACING": "false", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}

from inverse_cai.experiment import core  # noqa: E402

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
