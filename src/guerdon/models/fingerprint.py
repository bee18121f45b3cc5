"""Short hashes of everything that decides a model's scores, so that what was measured on one model is never used for another.

They read every value of every weight: half a second for 135 million weights, ten for eight billion. A hash is kept until a weight
changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from guerdon.models.engine.modules import unwrap_peft

if TYPE_CHECKING:
    from torch import Tensor, nn

SAMPLE: Final = 64  # leading values of each tensor that tell whether a kept hash still holds
NAMES_IN_CONFIG: Final = frozenset(  # keys that say where a model came from or how it is stored, not what it computes
    {
        "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "problem_type",
        "id2label", "label2id", "value_head_prefix", "_attn_implementation", "attn_implementation",
    }
)  # fmt: skip

_kept: WeakKeyDictionary[Any, tuple[object, str]] = WeakKeyDictionary()  # model or tokenizer -> (its state, its hash)


def fingerprint_of(model: object) -> str:
    """The model's own fingerprint; its class name if it has none."""
    return str(getattr(model, "fingerprint", type(model).__name__))


def weights_fingerprint(model: nn.Module) -> str:
    """A hash over the configuration, and over names, types and values of all weights and stored buffers."""
    state = [(value.data_ptr(), value._version) for _, value in _tensors(model)], sampled_fingerprint(model)
    kept = _kept.get(model)
    if kept is None or kept[0] != state:
        total = hashlib.sha256(_configuration(model))
        for name, value in _tensors(model):
            total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            total.update(_as_bytes(value))
        kept = _kept[model] = (state, total.hexdigest()[:16])
    return kept[1]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash over how the tokenizer splits texts: its vocabulary, merges, normalization and added tokens."""
    kept = _kept.get(tokenizer)
    if kept is None or kept[0] != len(tokenizer):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        kept = _kept[tokenizer] = (len(tokenizer), hashlib.sha256(text.encode()).hexdigest()[:16])
    return kept[1]


def rounded_fingerprint(model: nn.Module, *, prefix: bytes = b"", suffix: bytes = b"") -> str:
    """Like weights_fingerprint, but the same in whatever dtype the model was loaded: values are rounded to bfloat16."""
    import torch

    total = hashlib.sha256(prefix + _configuration(model))
    for name, value in model.named_parameters():
        total.update(f"{name} {tuple(value.shape)}".encode())
        total.update(_as_bytes(value.detach().to(torch.bfloat16)))
    total.update(suffix)
    return total.hexdigest()[:16]


def sampled_fingerprint(model: nn.Module, *, prefix: bytes = b"", suffix: bytes = b"") -> str:
    """A hash over the first values of each weight, rounded to bfloat16: what earlier versions stored."""
    import torch

    total = hashlib.sha256(prefix)
    for name, value in model.named_parameters():
        rounded = value.detach().flatten()[:SAMPLE].cpu().to(torch.bfloat16).view(torch.int16)
        total.update(name.encode() + rounded.numpy().tobytes())
    total.update(suffix)
    return total.hexdigest()[:16]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights, and the buffers that are stored with them, without copies under a second name."""
    import torch

    stored = model.state_dict(keep_vars=True)
    yield from model.named_parameters()
    yield from ((name, value) for name, value in model.named_buffers() if isinstance(stored.get(name), torch.Tensor))


def _configuration(model: nn.Module) -> bytes:
    """The configuration of a transformers model, or of the one inside a network of ours, as JSON."""
    inner: Any = unwrap_peft(getattr(model, "classifier", model))
    config: Any = getattr(inner, "config", None)
    values = config.to_dict() if hasattr(config, "to_dict") else {}
    return json.dumps(
        {k: v for k, v in values.items() if k not in NAMES_IN_CONFIG}, sort_keys=True, default=str
    ).encode()


def _as_bytes(value: Tensor) -> Any:
    """The values as they are in memory, whatever their type."""
    import torch

    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
