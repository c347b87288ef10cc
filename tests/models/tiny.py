"""Tiny models of random weights with a byte-level tokenizer, in the layout that engines load."""

from pathlib import Path
from typing import Any

CHAT = (
    "{% for turn in messages %}<|{{ turn['role'] }}|>{{ turn['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|pad|>", "<|system|>"]
SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}


def tokenizer(template: bool = True) -> Any:
    """Every byte is a token; so are the marks of the chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[3],
        extra_special_tokens=SPECIAL[1:3] + SPECIAL[4:],
    )
    fast.chat_template = CHAT if template else None
    return fast


def llama(tied: bool = False, **how: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        **SIZES,
        vocab_size=256 + len(SPECIAL),
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=0,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        **how,
    )


def causal(folder: Path, *, template: bool = True, tied: bool = False, seed: int = 1) -> Path:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    LlamaForCausalLM(llama(tied, pad_token_id=None)).save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return folder


def adapter(folder: Path, base: Path, seed: int = 5) -> Path:
    """A LoRA adapter in PEFT's layout, and in `...-merged` the model that it makes of `base`."""
    import json

    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rank, alpha = 4, 8
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    weights: dict[str, Any] = {}
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(("q_proj", "v_proj")):
                a = 0.3 * torch.randn(rank, module.in_features)
                b = 0.3 * torch.randn(module.out_features, rank)
                weights[f"base_model.model.{name}.lora_A.weight"] = a
                weights[f"base_model.model.{name}.lora_B.weight"] = b
                module.weight += alpha / rank * (b @ a)
    model.save_pretrained(folder.with_name(f"{folder.name}-merged"))
    AutoTokenizer.from_pretrained(base).save_pretrained(folder.with_name(f"{folder.name}-merged"))
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    told = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def reward(folder: Path, *, pad: int | None = None, labels: int = 1) -> Path:
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(2)
    config = llama(pad_token_id=pad, num_labels=labels)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def words(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    signs = [chr(code) for code in range(33, 127)]
    vocabulary = {
        token: at for at, token in enumerate([*marks, *signs, *(f"##{s}" for s in signs)])
    }
    made = BertTokenizerFast(vocab=vocabulary)
    made.save_pretrained(folder)
    return made


def bert(n: int) -> Any:
    from transformers import BertConfig

    return BertConfig(
        **SIZES, vocab_size=n, num_attention_heads=2, num_labels=1, initializer_range=0.3
    )


def cross_encoder(folder: Path) -> Path:
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(3)
    BertForSequenceClassification(bert(len(words(folder)))).save_pretrained(folder)
    return folder


def encoder(folder: Path) -> Path:
    import torch
    from transformers import BertModel

    torch.manual_seed(4)
    BertModel(bert(len(words(folder)))).save_pretrained(folder)
    return folder
