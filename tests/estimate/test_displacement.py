"""What CHES says before training is what training does, on a model that learns in seconds."""

import importlib.util

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.benchmarks.bench_displacement import displacement

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.torch
@pytest.mark.skipif(not INSTALLED, reason="torch and transformers are not installed")
def test_the_highest_fifth_raises_the_chosen_least():
    """Direct training on a fifth of the pairs, from one start; of five worlds, each a seed."""
    import torch

    torch.set_num_threads(1)
    fifths = np.array([displacement(seed, scores=("ches",))["ches"] for seed in range(5)])
    rhos = [float(spearmanr(range(5), each).statistic) for each in fifths]
    print(f"changes by fifth {fifths.mean(0)}, rho {np.mean(rhos):+.2f}, {sorted(rhos)}")
    assert (fifths[:, -1] < fifths[:, 0]).all()
    assert np.mean(rhos) < -0.5
