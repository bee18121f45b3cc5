"""Trainable weights and the optimizer that moves them: stepped, published, saved and read as one thing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guerdon.runtime import checkpoint, distributed


class TrainableWeights:
    """The trainable weights under AdamW. A bfloat16 weight is updated through a float32 master copy, or small steps would be lost.

    Of a sharded network each process updates the slices it holds: AdamW looks at one element at a time.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head: Sequence[Tensor] = (),
        lr: float,
        head_lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        clip: float,
    ) -> None:
        self.live = {name: p for name, p in network.named_parameters() if p.requires_grad}
        held = {name: distributed.local_slice(p) for name, p in self.live.items()}
        self.master = {name: p if p.dtype == torch.float32 else p.detach().float() for name, p in held.items()}
        self.clip, self.sharded = clip or math.inf, distributed.is_sharded(network)
        self.base_lrs: list[float] = []
        heads = {id(p) for p in head}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, p in self.master.items():
            is_head = id(self.live[name]) in heads
            decay = 0.0 if is_head or p.ndim < 2 else weight_decay
            groups.setdefault((head_lr if is_head else lr, decay), []).append(p)
        self.base_lrs = [lr for lr, _ in groups]
        listed = [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
        self.steps = 0
        self.adamw = torch.optim.AdamW(listed, betas=betas, eps=eps, fused=True)

    def step(self, factor: float) -> float:
        """Clip, update, clear; returns the gradient norm before clipping. One that is not finite moves no weight."""
        for name, p in self.live.items():
            if self.master[name] is not p:
                self.master[name].grad = None if p.grad is None else distributed.local_slice(p.grad).float()
                p.grad = None
        masters, clip = list(self.master.values()), self.clip
        if self.sharded:
            norm = distributed.average_gradients(self.live, self.master)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in masters if p.grad is not None])
        if not torch.isfinite(norm):
            self.adamw.zero_grad(set_to_none=True)
            return float(norm)
        torch.nn.utils.clip_grads_with_norm_(masters, clip, norm)
        for group, lr in zip(self.adamw.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * factor
        self.adamw.step()
        self.steps += 1
        self.adamw.zero_grad(set_to_none=True)
        self.copy_to_live()
        return float(norm)

    @torch.no_grad()
    def copy_to_live(self) -> None:
        """Copy the masters into the live weights."""
        for name, p in self.live.items():
            if p.dtype != torch.float32:
                distributed.local_slice(p).copy_(self.master[name])

    def checkpoint_tensors(self, *, moments: bool) -> dict[str, Tensor]:
        """What this process holds of a checkpoint, by name; moments that no step has made yet are zeros."""
        named = {f"weight.{name}": p.detach() for name, p in self.master.items()}
        if moments:
            for name, p in self.master.items():
                state = self.adamw.state[p]
                if not state:
                    state.update(step=torch.tensor(0.0), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                named |= {f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
        return named

    def save(self, folder: Path, state: dict[str, Any], *, main: bool, moments: bool, name: str = "checkpoint") -> None:
        """Write a checkpoint of whole tensors, from the main process; every process must call it."""
        named = self.checkpoint_tensors(moments=moments)
        if self.sharded:  # one at a time, gathered on the devices and kept by one process in host memory
            gathered = ((name, distributed.full_tensor(value, self._live_of(name))) for name, value in named.items())
            named = {name: value.cpu() for name, value in gathered if main}
        if main:
            checkpoint.save(folder, named, state, name)

    def load(self, place: Path, *, moments: bool) -> None:
        """Take what a checkpoint holds, each process its part."""
        checkpoint.read_tensors(
            place,
            self.checkpoint_tensors(moments=moments),
            lambda name, stored: distributed.slice_like(stored, self._live_of(name)),
        )
        self.copy_to_live()

    def _live_of(self, name: str) -> Tensor:
        """The weight that a checkpoint's name speaks of."""
        return self.live[name.partition(".")[2]]

    def set_step(self, step: int) -> None:
        """Tell AdamW how many steps the moments have seen."""
        self.steps = step
        for p in self.master.values():
            self.adamw.state[p]["step"] = torch.tensor(float(step), device=p.device if p.is_cuda else "cpu")
