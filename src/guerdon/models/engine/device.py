"""What this machine does well: the device that "auto" means, and whether bfloat16 pays there."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import numpy as np
import torch
from torch import Tensor

from guerdon.contracts import GuerdonError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """The device that "auto" means here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise GuerdonError(f"model.device={name}: no CUDA device is available; remedy: model.device=cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise GuerdonError(f"model.device={name}: no such device; remedy: auto, cpu, cuda or cuda:N") from None


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype that "auto" means there: bfloat16 where its products run in hardware, else float32."""
    if name == "auto":
        name = "bfloat16" if fast_bfloat16(device) else "float32"
    return DTYPES[name]


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """bfloat16 products over float32 weights, or nothing; "auto" asks the machine."""
    enabled = dtype == "bfloat16" or (dtype == "auto" and fast_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware there; emulated ones are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(ask is not None and ask() for ask in asks)


def copy_to_device(values: np.ndarray, device: torch.device | str) -> Tensor:
    """An array on the device. Copies to a GPU go through pinned memory: a blocking copy would leave the GPU idle."""
    tensor = torch.from_numpy(values)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@cache
def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks of up to 32 MiB: giving them back and faulting them in again costs a step a tenth or more.

    Nothing happens elsewhere, or where the user has set glibc's thresholds in the environment.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((-3, 32 << 20), (-1, 2**31 - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, value)
