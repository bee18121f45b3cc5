"""The device and dtype that "auto" means on this machine, and settings that make it fast."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import numpy as np
import torch
from torch import Tensor

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """The named device; "auto" is the GPU where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise field_error("model.device", "a device of this machine", name, "Set model.device=cpu.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise GuerdonError(
            f"model.device must be a device of this machine, got {name} without CUDA. Set model.device=cpu."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        claim = f"one of the {torch.cuda.device_count()} devices of this machine"
        raise field_error("model.device", claim, name, "Set model.device=cuda.")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The named dtype; "auto" is bfloat16 where the device computes it in hardware, else float32."""
    if name == "auto":
        name = "bfloat16" if fast_bfloat16(device) else "float32"
    return DTYPES[name]


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """A context with bfloat16 products over float32 weights, or without; "auto" is with them where they are fast."""
    enabled = dtype == "bfloat16" or (dtype == "auto" and fast_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 products in hardware; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(check is not None and check() for check in checks)


def copy_to_device(values: np.ndarray, device: torch.device | str) -> Tensor:
    """An array on the device. Copies to a GPU go through pinned memory: a blocking copy would leave the GPU idle."""
    tensor = torch.from_numpy(values)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@cache
def keep_freed_memory() -> None:
    """Make glibc keep freed blocks of up to 32 MiB: returning and faulting them in again costs a tenth of a step or more.

    Does nothing on other platforms, or where the environment sets glibc's thresholds (MALLOC_*).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((-3, 32 << 20), (-1, 2**31 - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, value)
