"""A tiny random language model and a tokenizer of about 150 words, written to disk without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ["<unk>", "<|im_start|>", "<|im_end|>", "<pad>"]
WORDS = """
system user assistant tool
a an and are as at be best better but by can do for from good great has have he her his how i if in is it its
just like love make me more most my new no not of on one or our people see she so some than that the their them then
there they this time to two up us very was way we well what when which who will with would write you your
bad worst awful hate happy sad fine nice poor kind rude right wrong yes film review tweet sentence answer question
0 1 2 3 4 5 6 7 8 9 . , ! ? : ; ' " ( ) - /
""".split()

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny(path: Path, seed: int = 0, words: Sequence[str] = WORDS) -> Path:
    """Write a two-layer Llama of width 64 and its tokenizer into path. `seed` determines the weights only."""
    import torch
    from transformers import LlamaForCausalLM

    tokenizer = tiny_tokenizer(words)
    config = tiny_config(tokenizer, initializer_range=0.2)  # wide, so that random rewards differ visibly
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def tiny_config(tokenizer, **changes):
    """The configuration of a two-layer Llama of width 64 for this tokenizer."""
    from transformers import LlamaConfig

    sizes = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
    }  # fmt: skip
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return LlamaConfig(vocab_size=len(tokenizer), **(sizes | ends | changes))


def tiny_tokenizer(words: Sequence[str] = WORDS):
    """One token per word and punctuation mark, anything else is <unk>; white space is lost."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    distinct = dict.fromkeys([*SPECIAL, *words])
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(distinct)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        model_max_length=512,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


REMOVES_BOS = "another text than Guerdon's in verl"  # the tiny template begins with what its tokenizer calls BOS


def faults(report: Any) -> list[str]:
    """Titles of a doctor's findings above a note, but for the one that every tiny model has."""
    return [f.title for f in report.findings if f.severity != "note" and f.title != REMOVES_BOS]
