"""Matrix products with weights packed once in the layout that oneDNN wants, on CPUs and without gradients.

torch passes a float32 product to MKL, which runs at two thirds of its speed on processors that are not Intel's, and a bfloat16
product to oneDNN, which packs the weight anew each time. oneDNN with a prepacked weight is faster than both. A packed weight
is a copy: it is kept with its layer, and packed again when the weight changes.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import Tensor, nn

from guerdon.models.engine.device import fast_bfloat16

MIN_WEIGHTS = 1 << 16  # smaller layers gain nothing
FREE_MEMORY_DIVISOR = 4  # copies take at most a quarter of the free memory
TYPICAL_ROWS = 256  # the row count that the packed layout is best for
PACKED_WEIGHTS: WeakKeyDictionary[nn.Module, tuple[object, Tensor]] = WeakKeyDictionary()  # layer -> state, copy


@contextmanager
def prepacked_weights(model: nn.Module) -> Iterator[None]:
    """Within the context, linear layers compute with packed copies wherever no gradient is needed. Results differ by rounding."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in vars(m) and gains(m.weight)]
    states = {layer: _state(layer.weight) for layer in layers}
    stale = [layer for layer in layers if layer not in PACKED_WEIGHTS or PACKED_WEIGHTS[layer][0] != states[layer]]
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in stale)
    if not layers or (stale and size > psutil.virtual_memory().available // FREE_MEMORY_DIVISOR):
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        for layer in stale:
            copy = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), TYPICAL_ROWS)
            PACKED_WEIGHTS[layer] = (states[layer], copy)
    for layer in layers:
        vars(layer)["forward"] = partial(_forward, layer, PACKED_WEIGHTS[layer][1])
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def gains(weight: Tensor) -> bool:
    """Whether products with this weight are faster packed on this machine."""
    if (
        type(weight) is not nn.Parameter
        or weight.device.type != "cpu"
        or weight.numel() < MIN_WEIGHTS
        or not has_onednn()
    ):
        return False
    if weight.dtype == torch.bfloat16:
        return fast_bfloat16(weight.device)
    return weight.dtype == torch.float32 and not is_intel()


@cache
def has_onednn() -> bool:
    """Whether this torch has oneDNN and the operators used here."""
    names = ("_linear_pointwise", "_reorder_linear_weight")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


@cache
def is_intel() -> bool:
    """Whether the processor is Intel's, where MKL runs at full speed."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text("utf-8", "replace") if cpuinfo.is_file() else platform.processor()
    return "GenuineIntel" in text


def _forward(layer: nn.Linear, copy: Tensor, x: Tensor) -> Tensor:
    needs_grad = torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad)
    if needs_grad or x.dtype != layer.weight.dtype or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(x, copy, layer.bias, "none", [], "")  # type: ignore[no-any-return]


def _state(weight: Tensor) -> object:
    """Changes when the weight does. A sample of values is part of it: PEFT writes through `.data`, which bumps no version."""
    sample = weight.detach().flatten()
    sample = sample[:: max(1, len(sample) // 64)].float()
    return weight.data_ptr(), weight._version, tuple(sample.tolist())
