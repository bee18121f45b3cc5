"""The GGUF file of a reward model, read back with GGUF's own reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import save_family
from gguf_models import byte_model
from safetensors.torch import load_file, save_file

from guerdon import GuerdonError
from guerdon.config import ModelOptions
from guerdon.models.directory.gguf_file import refuse_unless_llama_cpp, write_gguf
from guerdon.models.directory.gguf_vocabulary import gguf_vocabulary
from guerdon.models.engine.pretrained import read_config, read_tokenizer

gguf = pytest.importorskip("gguf", reason="needs the extra gguf, which dev includes")

LAYER = "model.layers.1."
NAMES = {
    "blk.1.attn_q.weight": f"{LAYER}self_attn.q_proj.weight",
    "blk.1.attn_k.weight": f"{LAYER}self_attn.k_proj.weight",
    "blk.1.attn_v.weight": f"{LAYER}self_attn.v_proj.weight",
    "blk.1.attn_output.weight": f"{LAYER}self_attn.o_proj.weight",
    "blk.1.ffn_gate.weight": f"{LAYER}mlp.gate_proj.weight",
    "blk.1.ffn_up.weight": f"{LAYER}mlp.up_proj.weight",
    "blk.1.ffn_down.weight": f"{LAYER}mlp.down_proj.weight",
    "blk.1.attn_norm.weight": f"{LAYER}input_layernorm.weight",
    "blk.1.ffn_norm.weight": f"{LAYER}post_attention_layernorm.weight",
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}


def written(folder, tmp_path, dtype="float32"):
    """The reader of the file that a model's directory gives."""
    config = read_config(str(folder), ModelOptions())
    refuse_unless_llama_cpp(config, "m")
    vocabulary = gguf_vocabulary(read_tokenizer(str(folder), ModelOptions()), config.vocab_size, "m")
    write_gguf(folder, config, vocabulary, tmp_path / "m.gguf", dtype, "mine")
    return gguf.GGUFReader(tmp_path / "m.gguf")


def fact(reader, key: str) -> Any:
    return reader.fields[key].contents()


def rotated_by_neighbors(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of halves as rows of neighbors, one by one: what llama.cpp's rotation expects."""
    size = len(weight) // heads
    order = [h * size + half * size // 2 + i for h in range(heads) for i in range(size // 2) for half in (0, 1)]
    return weight[order]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_weight_is_there_under_its_name_and_only_rotated_rows_are_reordered(dtype, tmp_path):
    byte_model(tmp_path / "m", attention_bias=True)
    reader = written(tmp_path / "m", tmp_path, dtype)
    stored = load_file(tmp_path / "m/model.safetensors")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == len(stored) - 1  # the head
    names = NAMES | {
        name.replace("weight", "bias"): key.replace("weight", "bias") for name, key in NAMES.items() if "attn_" in name
    }
    names = {name: key for name, key in names.items() if key in stored}
    assert len(names) == len(NAMES) + 4
    for name, key in names.items():
        expected = stored[key].numpy()
        if name.startswith(("blk.1.attn_q", "blk.1.attn_k.")):
            expected = rotated_by_neighbors(expected, 4 if "_q" in name else 2)
        is_half = dtype == "float16" and expected.ndim > 1
        assert tensors[name].data.dtype == (np.float16 if is_half else np.float32)
        np.testing.assert_array_equal(tensors[name].data, expected.astype(tensors[name].data.dtype), err_msg=name)


def test_the_facts_are_those_of_the_model(tmp_path):
    byte_model(tmp_path / "m", rope_parameters={"rope_type": "default", "rope_theta": 50_000.0}, rms_norm_eps=1e-3)
    reader = written(tmp_path / "m", tmp_path)
    facts = {
        "general.architecture": "llama",
        "general.name": "mine",
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 50_000.0,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-3),
        "llama.pooling_type": 3,  # the last token
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }
    assert {key: fact(reader, key) for key in facts} == facts
    embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    assert len(fact(reader, "tokenizer.ggml.tokens")) == len(embedding.data) == fact(reader, "llama.vocab_size")


def test_qwen_keeps_its_rows_and_its_biases(tmp_path):
    byte_model(tmp_path / "m", "qwen2", "qwen2")
    reader = written(tmp_path / "m", tmp_path)
    stored = load_file(tmp_path / "m/model.safetensors")
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    for part in ("weight", "bias"):
        np.testing.assert_array_equal(
            tensors[f"blk.0.attn_q.{part}"], stored[f"model.layers.0.self_attn.q_proj.{part}"]
        )
    assert fact(reader, "general.architecture") == "qwen2"
    assert fact(reader, "tokenizer.ggml.pre") == "qwen2"


def test_llama_3_gets_a_factor_for_each_rotation(tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    byte_model(tmp_path / "m", rule="llama-bpe", rope_parameters=rope)
    reader = written(tmp_path / "m", tmp_path)
    [factors] = [tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight"]
    # Waves of 2 pi 10000^(i/4) tokens: 6.3 is below 64 / 4 and stays, 628 and 6283 are above 64 and are slowed down 8 times;
    # 62.8 lies between, at (64 / 62.8 - 1) / 3 of the way.
    share = (64 / (20 * np.pi) - 1) / 3
    np.testing.assert_allclose(factors, [1, 1 / ((1 - share) / 8 + share), 8, 8], rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "more", "message"),
    [
        ("gemma3", {}, "its family must be one of llama, qwen2, qwen3 to be written as GGUF, got gemma3_text"),
        ("bert", {}, "got bert"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act must be silu to be written as GGUF, got gelu"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "rope_type must be default or llama3",
        ),
    ],
)
def test_a_model_that_llama_cpp_may_compute_otherwise_is_refused(family, more, message, tmp_path):
    config = read_config(str(save_family(tmp_path / "m", family, **more)), ModelOptions())
    with pytest.raises(GuerdonError, match=message):
        refuse_unless_llama_cpp(config, "m")


def test_a_weight_that_float16_does_not_hold_is_refused(tmp_path):
    byte_model(tmp_path / "m")
    file = tmp_path / "m/model.safetensors"
    tensors = load_file(file)
    tensors[f"{LAYER}mlp.up_proj.weight"][0, 0] = 70_000
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(GuerdonError, match=r"up_proj.weight must be at most 65504 to be written as float16, got 70000"):
        written(tmp_path / "m", tmp_path, "float16")
    written(tmp_path / "m", tmp_path, "float32")
