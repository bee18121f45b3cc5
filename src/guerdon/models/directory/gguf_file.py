"""The backbone of a saved reward model as a GGUF file, from which llama.cpp gives the state that the head reads.

llama.cpp evaluates no head of a Llama or Qwen2 model: it loads one (`cls.output`) for encoders and Qwen3 only, and squashes Qwen3's by a
softmax, so that one label is always 1 (src/llama-graph.cpp, build_pooling). What it gives for every family is an embedding: with
`pooling_type` LAST, the state of the last token after the final norm, which is what a head of ours is applied to.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from guerdon.contracts import GuerdonError
from guerdon.models.directory.gguf_vocabulary import GgufVocabulary
from guerdon.models.engine.checkpoint_files import shards_of
from guerdon.models.engine.loaded_weights import RESTORE, refuse_misfit, shapes_in
from guerdon.models.engine.pretrained import quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig

GgufType = Literal["float32", "float16"]
FAMILIES: Final = ("llama", "qwen2", "qwen3")  # model types whose names are those of llama.cpp's architectures
MOST: Final = 65_504  # that float16 holds


@dataclass(frozen=True, slots=True)
class _StoredTensor:
    """A tensor of the file. name: in GGUF. key: in safetensors. heads: of a projection whose rows llama.cpp orders otherwise; else 0."""

    name: str
    key: str
    shard: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    heads: int


def refuse_unless_llama_cpp(config: PretrainedConfig, source: str) -> None:
    """Raise GuerdonError for a model that llama.cpp would not compute as transformers does, or that has not been tried."""
    family = config.model_type
    if family not in FAMILIES:
        raise GuerdonError(
            f"{source}: its family must be one of {', '.join(FAMILIES)} to be written as GGUF, got {family}. "
            "Serve the model with `guerdon serve`."
        )
    rope = config.rope_parameters["rope_type"]
    known = {
        "rope_type": (rope, ("default", "llama3") if family == "llama" else ("default",)),
        "hidden_act": (config.hidden_act, ("silu",)),
        "use_sliding_window": (getattr(config, "use_sliding_window", False), (False,)),
    }
    for key, (value, allowed) in known.items():
        if value not in allowed:
            raise GuerdonError(
                f"{source}: {key} must be {' or '.join(map(str, allowed))} to be written as GGUF, got {value}. "
                "Serve the model with `guerdon serve`."
            )


def write_gguf(
    folder: Path, config: PretrainedConfig, vocabulary: GgufVocabulary, file: Path, dtype: GgufType, name: str
) -> None:
    """Write the backbone in a model's directory as one GGUF file, a tensor at a time. name: what it is called in the file.

    Vectors, such as the weights of norms, are float32 in any case. Raises GuerdonError for a weight that float16 does not hold.
    """
    gguf = import_gguf()
    writer = gguf.GGUFWriter(file, config.model_type)
    tensors = list(_tensors(folder, config, dtype, gguf))
    _add_facts(writer, config, vocabulary, gguf, name, dtype)
    for tensor in tensors:
        size = math.prod(tensor.shape) * tensor.dtype.itemsize
        writer.add_tensor_info(tensor.name, tensor.shape, tensor.dtype, size)
    factors = _rope_factors(config)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with ExitStack() as stack:
        stack.callback(writer.close)
        for tensor in tensors:
            writer.write_tensor_data(_values(tensor))
        if factors is not None:
            writer.write_tensor_data(factors)


def import_gguf() -> Any:
    """The module gguf, or an error that says how to install it."""
    try:
        import gguf
    except ImportError:
        raise GuerdonError("export gguf needs the package gguf, got none. Run pip install 'guerdon[gguf]'.") from None
    return gguf


def _add_facts(
    writer: Any, config: PretrainedConfig, vocabulary: GgufVocabulary, gguf: Any, name: str, dtype: GgufType
) -> None:
    """What llama.cpp must know besides the weights. It adds no token to a text: the chat template writes all of them."""
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if dtype == "float32" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_rope_dimension_count(_head_size(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_pooling_type(gguf.PoolingType.LAST)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.rule)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    for kind, number in vocabulary.special.items():
        getattr(writer, f"add_{kind}_token_id")(number)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def _tensors(folder: Path, config: PretrainedConfig, dtype: GgufType, gguf: Any) -> Iterator[_StoredTensor]:
    """The backbone's tensors, under their names in GGUF. Input and output embeddings of llama.cpp are one where no other is stored."""
    architecture = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[config.model_type]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    stored = [(key, shard, shape) for shard in shards_of(folder) for key, shape in sorted(shapes_in(shard).items())]
    backbone = [row for row in stored if row[0].startswith("model.")]  # llama.cpp does not evaluate the head
    _refuse_other_weights(folder, config, backbone)
    for key, shard, shape in backbone:
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert name is not None, f"{config.model_type} has {key}, and llama.cpp has no name for it"
        is_half = dtype == "float16" and len(shape) > 1
        kind = np.dtype(np.float16 if is_half else np.float32)
        yield _StoredTensor(name, key, shard, tuple(shape), kind, _permuted_heads(key, config))


def _refuse_other_weights(
    folder: Path, config: PretrainedConfig, stored: Sequence[tuple[str, Path, Sequence[int]]]
) -> None:
    """Raise unless the files hold each weight of the backbone that config.json describes once, and no other."""
    from transformers import AutoModel

    with quiet(), torch.device("meta"):
        backbone = AutoModel.from_config(copy.deepcopy(config))
    described = {f"model.{name}": list(weight.shape) for name, weight in backbone.named_parameters()}
    count = Counter(key for key, _, _ in stored)
    times = {key: int(key in described) for key in count | described.keys()}
    for key in sorted(times):
        if count[key] != times[key]:
            raise GuerdonError(
                f"{folder}: its files must hold {key} {times[key]} times, as config.json says, got it {count[key]} times. {RESTORE}"
            )
    refuse_misfit(
        str(folder), [(key, shape, described[key]) for key, _, shape in stored if list(shape) != described[key]]
    )


def _permuted_heads(key: str, config: PretrainedConfig) -> int:
    """Heads whose rows llama.cpp's Llama pairs next to each other for the rotation, where transformers pairs both halves; else 0."""
    if config.model_type != "llama":
        return 0
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return int(heads.get(key.split(".")[-2], 0))


def _values(tensor: _StoredTensor) -> Float[np.ndarray, "*s"]:
    """The tensor as it is written."""
    from safetensors import safe_open

    with safe_open(str(tensor.shard), framework="pt") as stored:
        values = stored.get_tensor(tensor.key)
    if not (values.is_floating_point() and bool(values.isfinite().all())):
        raise GuerdonError(
            f"{tensor.shard}: {tensor.key} must be finite numbers of a float type, got NaN, infinity or {values.dtype}. "
            "Take an earlier checkpoint."
        )
    if tensor.heads:
        values = paired_rows(values, tensor.heads)
    if tensor.dtype == np.float16 and float(values.abs().max()) > MOST:
        raise GuerdonError(
            f"{tensor.shard}: {tensor.key} must be at most {MOST} to be written as float16, got {float(values.abs().max()):g}. "
            "Use --dtype float32."
        )
    return np.asarray(values.float(), dtype=tensor.dtype)


def paired_rows(weight: Float[Tensor, "*s"], heads: int) -> Float[Tensor, "*s"]:
    """The rows of each head in the order 0, d/2, 1, d/2 + 1, ... of its d rows."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _rope_factors(config: PretrainedConfig) -> Float[np.ndarray, " d"] | None:
    """By how much each rotation is slowed down in Llama 3.1 and later; None elsewhere."""
    if config.rope_parameters["rope_type"] != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    slowed, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device=torch.device("cpu"))
    size = _head_size(config)
    plain = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    return np.asarray(plain / slowed, dtype=np.float32)


def _head_size(config: PretrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
