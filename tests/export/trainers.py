"""Trainers in environments of their own, which `make test-trainers` makes."""

import os
from pathlib import Path

import pytest

QUIET = {
    "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": "",
    "WANDB_MODE": "disabled", "AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1",
}  # fmt: skip


def interpreter(trainer: str) -> str:
    """The Python that has a trainer; without one the test is skipped."""
    name = f"PREFDATA_{trainer.upper()}"
    own = Path(__file__).parents[2] / f".venv-{trainer}" / "bin" / "python"
    python = Path(os.environ.get(name) or own)
    if not python.exists():
        pytest.skip(f"{name} names no interpreter that has {trainer}; make test-trainers makes one")
    return str(python)
