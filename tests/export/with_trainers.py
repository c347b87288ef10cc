"""Reads a folder that prefdata wrote with a trainer's own data code, and says what it understood.

    python tests/export/with_trainers.py TRAINER VERSION PLAIN WORK

PLAIN is a version of plain texts, for layouts that hold no conversations; WORK a new folder.
Prints one JSON object last: by name of an export, a list with an entry for each row, as the trainer
would give it to its model, in text: `prompt` (what is not learnt), `chosen` and `rejected`, or
`completion` and `label`. Run by an interpreter that has the trainer.

The tokenizer is made here: a token is a byte, so that its texts are exact, and messages stand in
ChatML.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

CHATML = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "<call>{{ call['function']['name'] }} {{ call['function']['arguments'] }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END = "<|im_end|>"


def tokenizer_of(folder: Path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={each: at for at, each in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token="<|pad|>", model_max_length=4096,
        additional_special_tokens=["<|im_start|>"], chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.save_pretrained(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8,
              "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1,
              "vocab_size": len(fast)}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return fast


def openrlhf(version: Path, plain: Path, work: Path, tokenizer) -> dict:
    """RewardDataset, by the flags beside the rows, for DPO and for reward models."""
    import openrlhf.cli
    from openrlhf.datasets import RewardDataset
    from openrlhf.datasets.utils import blending_datasets
    from openrlhf.utils.config import hierarchize

    flags = (version / "openrlhf" / "arguments.txt").read_text().split()
    named = {each.removeprefix("--") for each in flags if each.startswith("--")}
    for command in ("train_dpo", "train_rm"):
        source = (Path(openrlhf.cli.__path__[0]) / f"{command}.py").read_text()
        known = set(re.findall(r"add_argument\(\s*\"--([\w.]+)\"", source))
        assert named <= known, f"{command} has no {named - known}"
    parser = argparse.ArgumentParser()
    for name in named:
        store = {"action": "store_true"} if name == "data.apply_chat_template" else {}
        parser.add_argument(f"--{name}", **store)
    args = hierarchize(parser.parse_args(flags))
    args.use_ms, args.data.prompt_key = False, None
    strategy = SimpleNamespace(args=args, print=lambda *_: None, is_rank_0=lambda: False)

    def read(file: str, split: str, is_dpo: bool) -> list[dict]:
        rows = blending_datasets(
            str(version / "openrlhf" / file), None, strategy, dataset_split=split
        )
        made = RewardDataset(rows, tokenizer, 4096, strategy, is_dpo=is_dpo, num_processors=1)
        said = []
        for chosen, _, rejected, _, extra in (made[at] for at in range(len(made))):
            row = {"chosen": tokenizer.decode(chosen[0]), "rejected": tokenizer.decode(rejected[0])}
            row |= {"prompt": tokenizer.decode(chosen[0][:extra])} if is_dpo else {"margin": extra}
            said.append(row)
        return said

    return {
        "dpo": read(args.data.dataset, "train", True),
        "reward": read(args.data.dataset, "train", False),
        "test": read(args.eval.dataset, args.eval.split, True),
    }


def llamafactory(version: Path, plain: Path, work: Path, tokenizer) -> dict:
    """get_dataset, by `dataset_info.json`, in the stages rm (DPO's too) and kto.

    It imports torchaudio, which package indexes have for GPUs only, though rows are texts: where it
    is not there an empty module stands for it.
    """
    (work / "absent").mkdir()
    (work / "absent" / "torchaudio.py").write_text("")
    sys.path.append(str(work / "absent"))
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import Seq2SeqTrainingArguments

    def read(export: str, name: str, stage: str) -> list[dict]:
        data = DataArguments(
            dataset=name, dataset_dir=str(version / export), template="chatml", cutoff_len=4096
        )
        model = ModelArguments(model_name_or_path=str(work / "model"))
        training = Seq2SeqTrainingArguments(
            output_dir=str(work / "out"), use_cpu=True, report_to=[]
        )
        template = get_template_and_fix_tokenizer(tokenizer, data)
        made = get_dataset(template, model, data, training, stage, tokenizer)["train_dataset"]
        sides = {"rm": ["chosen_", "rejected_"], "kto": [""]}[stage]
        said = []
        for row in made:
            told = {}
            for side in sides:
                ids, labels = row[f"{side}input_ids"], row[f"{side}labels"]
                start = next(at for at, label in enumerate(labels) if label != -100)
                told["prompt"] = tokenizer.decode(ids[:start])
                told[side.strip("_") or "completion"] = tokenizer.decode(ids)
            said.append(told | ({"label": row["kto_tags"]} if stage == "kto" else {}))
        return said

    return {
        "dpo": read("llamafactory", "prefdata_train", "rm"),
        "test": read("llamafactory", "prefdata_test", "rm"),
        "kto": read("llamafactory-kto", "prefdata_train", "kto"),
    }


def axolotl(version: Path, plain: Path, work: Path, tokenizer) -> dict:
    """prepare_preference_datasets, by the config beside the rows; the template trims."""
    import os

    import yaml
    from axolotl.utils.data.rl import prepare_preference_datasets
    from axolotl.utils.dict import DictDefault

    os.chdir(version / "axolotl")
    config = DictDefault(yaml.safe_load(Path("axolotl.yml").read_text()))
    config |= {
        "base_model": str(work / "model"), "tokenizer_config": str(work / "model"),
        "sequence_len": 4096, "dataset_prepared_path": str(work / "prepared"),
        "dataset_num_proc": 1, "is_preprocess": True,
    }  # fmt: skip
    trims = CHATML.replace("message['content']", "message['content'] | trim")
    config |= {"chat_template": "jinja", "chat_template_jinja": trims}
    train, test = prepare_preference_datasets(config, tokenizer)

    def read(rows) -> list[dict]:
        return [
            {"prompt": row["prompt"], **{side: row["prompt"] + row[side]
             for side in ("chosen", "rejected")}} for row in rows
        ]  # fmt: skip

    return {"dpo": read(train), "test": read(test)}


def nemo_rl(version: Path, plain: Path, work: Path, tokenizer) -> dict:
    """PreferenceDataset and the preprocessor of DPO and of reward models."""
    from nemo_rl.data.datasets.preference_datasets import load_preference_dataset
    from nemo_rl.data.processors import preference_preprocessor

    def read(export: str, file: str) -> list[dict]:
        path = str(version / export / file)
        made = load_preference_dataset({"dataset_name": "PreferenceDataset", "data_path": path})
        said = []
        for at, row in enumerate(made.dataset):
            told = preference_preprocessor(row, made.task_spec, tokenizer, 4096, at)
            logs = {side: told[f"message_log_{side}"] for side in ("chosen", "rejected")}
            whole = {
                side: "".join(tokenizer.decode(turn["token_ids"]) for turn in log)
                for side, log in logs.items()
            }
            said.append({**whole, "roles": [turn["role"] for turn in logs["chosen"]]})
        return said

    def lists(export: str) -> list[dict]:
        path = str(version / export / "train.jsonl")
        made = load_preference_dataset({"dataset_name": "PreferenceDataset", "data_path": path})
        return list(made.dataset)

    return {
        "dpo": read("nemo-rl", "train.jsonl"),
        "test": read("nemo-rl", "test.jsonl"),
        "lists": lists("nemo-rl-lists"),
    }


def verl(version: Path, plain: Path, work: Path, tokenizer) -> dict:
    """RMDataset on pairs, RLHFDataset on prompts."""
    from omegaconf import OmegaConf
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
    from verl.utils.dataset.rm_dataset import RMDataset

    pairs = RMDataset(
        str(plain / "verl" / "train.parquet"), tokenizer, max_length=4096,
        cache_dir=str(work / "cache"),
    )  # fmt: skip
    said = []
    for at in range(len(pairs)):
        row = pairs[at]
        chosen, rejected = (
            tokenizer.decode(ids[mask.bool()])
            for ids, mask in zip(row["input_ids"], row["attention_mask"], strict=True)
        )
        said.append({"chosen": chosen, "rejected": rejected})
    config = OmegaConf.create({"max_prompt_length": 4096, "cache_dir": str(work / "cache")})
    prompts = RLHFDataset(str(version / "verl" / "train.parquet"), tokenizer, config)
    batch = collate_fn([prompts[at] for at in range(len(prompts))])
    names = ("raw_prompt", "data_source", "ability", "reward_model", "index")
    asked = [
        {name: (int(batch[name][at]) if name == "index" else batch[name][at]) for name in names}
        for at in range(len(prompts))
    ]
    return {"reward": said, "prompts": asked}


def trl(version: Path, plain: Path, work: Path, tokenizer) -> dict:
    """DPOTrainer's own data, of pairs with calls and tools as text and as fields."""
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM, LlamaConfig
    from trl import DPOConfig, DPOTrainer

    config = LlamaConfig.from_pretrained(work / "model")
    model, reference = (AutoModelForCausalLM.from_config(config) for _ in range(2))
    settings = {"output_dir": str(work / "out"), "use_cpu": True, "bf16": False, "report_to": []}

    def read(export: str) -> list[dict]:
        rows = load_from_disk(str(version / export))["train"]
        args = DPOConfig(max_length=None, precompute_ref_log_probs=False, **settings)
        made = DPOTrainer(
            model, reference, args=args, train_dataset=rows, processing_class=tokenizer
        )
        return [
            {"prompt": tokenizer.decode(row["prompt_ids"]),
             **{side: tokenizer.decode(row["prompt_ids"] + row[f"{side}_ids"])
                for side in ("chosen", "rejected")}}
            for row in made.train_dataset
        ]  # fmt: skip

    return {"text": read("pairwise"), "fields": read("fields")}


def main(trainer: str, version: str, plain: str, work: str) -> None:
    read = {each.__name__: each for each in (openrlhf, llamafactory, axolotl, nemo_rl, verl, trl)}
    tokenizer = tokenizer_of(Path(work) / "model")
    print("\n" + json.dumps(read[trainer](Path(version), Path(plain), Path(work), tokenizer)))


if __name__ == "__main__":
    main(*sys.argv[1:])
