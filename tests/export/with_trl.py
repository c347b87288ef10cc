"""Trains with TRL on a folder that prefdata wrote, with no column mapped by hand.

    python tests/export/with_trl.py MODEL VERSION dpo|kto|reward|read [shuffled]

Prints one JSON object last: the held-out margin `before` and `after`, and the shapes of the first
batch. `shuffled` turns half of the training labels round. `read` trains nothing: it tells what TRL
makes of explicit and implicit prompts and of the reference's log-probabilities. Run by an
interpreter that has TRL.
"""

import json
import random
import sys
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict, load_from_disk
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

VIEW = {"dpo": "pairwise", "kto": "binary", "reward": "pairwise"}
SETTINGS = {
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 8,
    "num_train_epochs": 2,
    "learning_rate": 2e-5,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "report_to": [],
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "seed": 7,
}


def turned(rows: Dataset, method: str) -> Dataset:
    """Half of the labels turned round: they say nothing any more."""
    draw = random.Random(5)
    half = set(draw.sample(range(len(rows)), len(rows) // 2))

    def turn(row: dict, at: int) -> dict:
        if at not in half:
            return row
        if method == "kto":
            return {**row, "label": not row["label"]}
        return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}

    return rows.map(turn, with_indices=True)


def trainer_of(method: str, model: str, rows: DatasetDict, folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(model)
    kinds = {
        "dpo": (DPOTrainer, DPOConfig),
        "kto": (KTOTrainer, KTOConfig),
        "reward": (RewardTrainer, RewardConfig),
    }
    trainer, config = kinds[method]
    torch.manual_seed(7)
    if method == "reward":
        made = AutoModelForSequenceClassification.from_pretrained(
            model, num_labels=1, dtype=torch.float32
        )
        made.config.pad_token_id = tokenizer.pad_token_id
    else:
        made = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return trainer(
        model=made,
        args=config(output_dir=str(folder), **SETTINGS),
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
        processing_class=tokenizer,
    )


def margin(trainer) -> float:
    """How much better held-out chosen completions do than rejected ones, as TRL tells it."""
    found = trainer.evaluate()
    [name] = [each for each in found if each in ("eval_margin", "eval_rewards/margins")]
    return found[name]


def tokens(trainer) -> list[list[list[int]]]:
    return [
        [row["prompt_ids"] + row["chosen_ids"], row["prompt_ids"] + row["rejected_ids"]]
        for row in trainer.train_dataset
    ]


def read(model: str, version: str) -> dict:
    """What TRL's own data code makes of the layouts."""
    folder = Path(version).parent / "trl"
    views = {name: load_from_disk(f"{version}/{name}") for name in ("pairwise", "implicit")}
    trainers = {name: trainer_of("dpo", model, rows, folder) for name, rows in views.items()}
    known = [{**row, "ref_chosen_logps": -1.5, "ref_rejected_logps": -2.5}
             for row in trainers["pairwise"].train_dataset.select(range(2))]  # fmt: skip
    batch = trainers["pairwise"].data_collator(known)
    return {
        "same": tokens(trainers["pairwise"]) == tokens(trainers["implicit"]),
        "rows": len(trainers["pairwise"].train_dataset),
        "logps": [batch[f"ref_{side}_logps"].tolist() for side in ("chosen", "rejected")],
    }


def main(model: str, version: str, method: str, *more: str) -> None:
    if method == "read":
        print(json.dumps(read(model, version)))
        return
    rows = load_from_disk(f"{version}/{VIEW[method]}")
    if "shuffled" in more:
        rows["train"] = turned(rows["train"], method)
    trainer = trainer_of(method, model, rows, Path(version).parent / "trl")
    batch = next(iter(trainer.get_train_dataloader()))
    before = margin(trainer)
    trainer.train()
    print(json.dumps({
        "before": before,
        "after": margin(trainer),
        "batch": {name: list(value.shape) for name, value in batch.items()},
        "loss": [each["loss"] for each in trainer.state.log_history if "loss" in each],
    }))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
