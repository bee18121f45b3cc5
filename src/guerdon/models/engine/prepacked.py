"""Products with weights that are laid out once, as the processor wants them; on CPUs, where nothing is learned.

torch hands a float32 product to MKL, which runs at two thirds of its speed on processors that are not Intel's; and a bfloat16 one
to oneDNN, which lays the weight out anew each time. oneDNN with a weight laid out before is faster than both. What is laid out
is a copy of the weight: it is kept with the layer, and made again when the weight changes.
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

LEAST = 1 << 16  # weights of a layer that is worth it
SPARE = 4  # the copies take at most one part in so many of the memory that is free
ROWS = 256  # of a typical product; the layout is best for these
COPIES: WeakKeyDictionary[nn.Module, tuple[object, Tensor]] = WeakKeyDictionary()


@contextmanager
def prepacked_weights(model: nn.Module) -> Iterator[None]:
    """Linear layers of the model compute with copies of their weights while no gradient is asked for. Results differ by rounding."""
    layers = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in vars(m) and _suits(m.weight)]
    known = {layer: _state(layer.weight) for layer in layers}
    stale = [layer for layer in layers if layer not in COPIES or COPIES[layer][0] != known[layer]]
    size = sum(layer.weight.numel() * layer.weight.element_size() for layer in stale)
    if not layers or (stale and size > psutil.virtual_memory().available // SPARE):
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        for layer in stale:
            copy = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            COPIES[layer] = (known[layer], copy)
    for layer in layers:
        vars(layer)["forward"] = partial(_product, layer, COPIES[layer][1])
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _product(layer: nn.Linear, copy: Tensor, x: Tensor) -> Tensor:
    learns = torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad)
    if learns or x.dtype != layer.weight.dtype or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(x, copy, layer.bias, "none", [], "")  # type: ignore[no-any-return]


def _suits(weight: Tensor) -> bool:
    """Whether products with this weight gain by it here."""
    if type(weight) is not nn.Parameter or weight.device.type != "cpu" or weight.numel() < LEAST or not _has_onednn():
        return False
    if weight.dtype == torch.bfloat16:
        return fast_bfloat16(weight.device)
    return weight.dtype == torch.float32 and not _is_intel()


def _state(weight: Tensor) -> object:
    """Changes when the weight does: PEFT adds adapters through `.data`, which torch does not count as a change."""
    some = weight.detach().flatten()
    some = some[:: max(1, len(some) // 64)].float()
    return weight.data_ptr(), weight._version, tuple(some.tolist())


@cache
def _has_onednn() -> bool:
    names = ("_linear_pointwise", "_reorder_linear_weight")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


@cache
def _is_intel() -> bool:
    """Whether MKL is at home here."""
    told = Path("/proc/cpuinfo")
    words = told.read_text("utf-8", "replace") if told.is_file() else platform.processor()
    return "GenuineIntel" in words
