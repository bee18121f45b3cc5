"""Values gathered and summed over all processes of a run; a single process has its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from guerdon.runtime import distributed

__all__ = ["gather", "sums"]

T = TypeVar("T")


def gather(values: Sequence[T]) -> list[T]:
    """The values of all processes, one process after another; each may have a different number."""
    gathered: list[T] = gather_object(list(values))
    return gathered


def sums(values: Sequence[float], accelerator: Accelerator) -> list[float]:
    """The sum of each value over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    local = torch.tensor(values, dtype=torch.float64, device=accelerator.device)
    total: list[float] = distributed.sum_over_processes(local, accelerator).tolist()
    return total
