"""A tiny random model of each kind of transformer that Assay promises to read, on disk with the tiny tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # wide, so that random rewards differ visibly
}
GROUPED = {"num_key_value_heads": 2}

# name -> configuration class, model class, what differs from SIZES
DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", GROUPED | {"head_dim": 8}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", GROUPED | {"head_dim": 8, "sliding_window": 16}),
    "mistral": ("MistralConfig", "MistralForCausalLM", GROUPED),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", GROUPED),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {}),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {}),
    "granite": ("GraniteConfig", "GraniteForCausalLM", GROUPED),  # these three have no classifier in transformers
    "cohere": ("CohereConfig", "CohereForCausalLM", GROUPED),
    "olmoe": ("OlmoeConfig", "OlmoeForCausalLM", GROUPED | {"num_experts": 4, "num_experts_per_tok": 2}),
}
ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertForMaskedLM", {}),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", {"type_vocab_size": 1}),
    "deberta-v2": (
        "DebertaV2Config",
        "DebertaV2ForMaskedLM",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
        },
    ),
    "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM", {"local_attention": 16}),
}
FAMILIES = {**DECODERS, **ENCODERS}


def save_family(path: Path, name: str, **more: Any) -> Path:
    """Write a two-layer model of width 32 and the tiny tokenizer into path."""
    import torch
    import transformers

    from assay.models.layout import quiet
    from tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    config, model, differs = FAMILIES[name]
    values = {
        **SIZES,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **differs,
        **more,
    }
    if name == "modernbert":
        values |= {"cls_token_id": tokenizer.bos_token_id, "sep_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        getattr(transformers, model)(getattr(transformers, config)(**values)).save_pretrained(path)
        tokenizer.save_pretrained(path)
    return path
