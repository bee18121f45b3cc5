"""A tiny random model of each family that Guerdon supports, on disk with the tiny tokenizer; and the difference in float64
between two modes of running one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # wide, so that random rewards differ visibly
}
GROUPED = {"num_key_value_heads": 2}
MIXED = ["sliding_attention", "full_attention"]

# name -> configuration class, model class, what differs from SIZES
DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", GROUPED | {"head_dim": 8}),
    "gemma3": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        GROUPED | {"head_dim": 8, "sliding_window": 16, "layer_types": MIXED},
    ),
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
WINDOW = GROUPED | {"head_dim": 8, "sliding_window": 16}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1}
UNUSUAL: dict[str, tuple[str, str, dict[str, Any]]] = {  # attention that is more than a softmax over a causal mask
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", WINDOW | {"attn_logit_softcapping": 2.0}),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM", WINDOW | {"num_local_experts": 2, "num_experts_per_tok": 1}),
    "phimoe": ("PhimoeConfig", "PhimoeForCausalLM", GROUPED | {"sliding_window": 50, "num_local_experts": 2}),
    "longrope": (  # a text of more than 24 tokens changes the rotary embedding of its whole pass
        "Phi3Config",
        "Phi3ForCausalLM",
        GROUPED
        | {
            "original_max_position_embeddings": 24,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "original_max_position_embeddings": 24,
                "short_factor": [1.0] * 4,
                "long_factor": [2.0, 3.0, 5.0, 8.0],
            },
        },
    ),
    "bloom": ("BloomConfig", "BloomForCausalLM", {"n_layer": 2, "n_head": 4}),
}
STATEFUL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "falcon_h1": (
        "FalconH1Config",
        "FalconH1ForCausalLM",
        GROUPED | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8},
    ),
    "jamba": (
        "JambaConfig",
        "JambaForCausalLM",
        GROUPED
        | EXPERTS
        | {"use_mamba_kernels": False, "mamba_d_state": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    ),
    "qwen3_next": (
        "Qwen3NextConfig",
        "Qwen3NextForCausalLM",
        GROUPED
        | EXPERTS
        | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "moe_intermediate_size": 16}
        | {
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
    "lfm2": ("Lfm2Config", "Lfm2ForCausalLM", GROUPED | {"layer_types": ["conv", "full_attention"]}),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        "RecurrentGemmaForCausalLM",
        {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16},
    ),
}

OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {  # families that are only loaded and scored
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", GROUPED),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        GROUPED | EXPERTS | {"head_dim": 8, "moe_intermediate_size": 16},
    ),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", GROUPED | {"head_dim": 8}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", GROUPED | {"num_local_experts": 2, "num_experts_per_tok": 1}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", GROUPED),
    "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM", GROUPED),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertForMaskedLM",
        {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 48},
    ),
    "electra": ("ElectraConfig", "ElectraForMaskedLM", {"embedding_size": 32}),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaForMaskedLM", {"type_vocab_size": 1}),
}


def save_family(path: Path, name: str, **more: Any) -> Path:
    """Write a two-layer model of width 32 and the tiny tokenizer into path."""
    import transformers

    from guerdon.models.engine.pretrained import quiet
    from tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    config, model, differs = {**FAMILIES, **UNUSUAL, **STATEFUL, **OTHERS}[name]
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


def keep_float64(patch: pytest.MonkeyPatch) -> None:
    """transformers' norms and softmax compute in float32 even when all else is float64, which hides errors below 1e-7."""
    to, to_float, softmax = torch.Tensor.to, torch.Tensor.float, torch.nn.functional.softmax

    def to_keeping(self: Any, *args: Any, **kwargs: Any) -> Any:
        down = self.dtype == torch.float64 and torch.float32 in (*args, *kwargs.values())
        return self if down else to(self, *args, **kwargs)

    def softmax_keeping(x: torch.Tensor, dim: int | None = None, dtype: torch.dtype | None = None) -> torch.Tensor:
        return softmax(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype)

    patch.setattr(torch.nn.functional, "softmax", softmax_keeping)
    patch.setattr(torch.Tensor, "to", to_keeping)
    patch.setattr(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else to_float(self))


def rewards_and_gradients(
    network: Any, texts: list[np.ndarray], mode: str
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Rewards in one of the backbone's modes, and the gradients of a weighted sum of them. The network's mode is restored."""
    from guerdon.models.engine import tree_attention

    backbone, previous = network.backbone, network.backbone.mode
    backbone.mode = mode
    backbone.set_attention(tree_attention.ATTENTION_NAME if mode == "prefix_tree" else backbone.native_attention)
    network.zero_grad()
    try:
        rewards = network(texts)
        weights = torch.linspace(-1, 1, len(texts), dtype=rewards.dtype, device=rewards.device)
        (rewards[:, 0] * weights).sum().backward()
    finally:
        backbone.mode = previous
        backbone.set_attention(
            tree_attention.ATTENTION_NAME if previous == "prefix_tree" else backbone.native_attention
        )
    return rewards.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def max_difference(one: tuple[torch.Tensor, dict], other: tuple[torch.Tensor, dict]) -> float:
    """Largest difference between two such results; gradients above 1 count relative to the largest."""
    assert one[1].keys() == other[1].keys()
    scale = max(float(grad.abs().max()) for grad in other[1].values())
    gradients = max(float((one[1][name] - other[1][name]).abs().max()) for name in other[1])
    return max(float((one[0] - other[0]).abs().max()), gradients / max(1.0, scale))
