"""Trainable weights and their AdamW: one object that steps, and that saves and loads checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guerdon.runtime import checkpoint, distributed


@dataclass(frozen=True, slots=True)
class AdamWSettings:
    """Hyperparameters of AdamW. The head has its own learning rate and no weight decay; max_grad_norm 0 clips nothing."""

    lr: float
    head_lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    max_grad_norm: float


class TrainableWeights:
    """A network's trainable weights under AdamW.

    live: the network's parameters by name. master: what AdamW updates. A bfloat16 parameter has a float32 master copy, or
    small steps would be lost; in a sharded network each process holds masters of its own slices, which is exact because AdamW
    treats each element by itself.
    """

    def __init__(self, network: nn.Module, settings: AdamWSettings, *, head: Sequence[Tensor] = ()) -> None:
        self.live = {name: p for name, p in network.named_parameters() if p.requires_grad}
        slices = {name: distributed.local_slice(p) for name, p in self.live.items()}
        self.master = {name: p if p.dtype == torch.float32 else p.detach().float() for name, p in slices.items()}
        self.max_grad_norm = settings.max_grad_norm or math.inf
        self.is_sharded = distributed.is_sharded(network)
        heads = {id(p) for p in head}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, p in self.master.items():
            is_head = id(self.live[name]) in heads
            decay = 0.0 if is_head or p.ndim < 2 else settings.weight_decay
            groups.setdefault((settings.head_lr if is_head else settings.lr, decay), []).append(p)
        self.base_lrs = [lr for lr, _ in groups]
        self.steps = 0
        self.adamw = torch.optim.AdamW(
            [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()],
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )

    def step(self, lr_factor: float) -> float:
        """Clip, update, and clear gradients; returns the gradient norm before clipping. A norm that is not finite updates nothing."""
        for name, p in self.live.items():
            if self.master[name] is not p:
                self.master[name].grad = None if p.grad is None else distributed.local_slice(p.grad).float()
                p.grad = None
        masters = list(self.master.values())
        if self.is_sharded:
            norm = distributed.average_gradients(self.live, self.master)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in masters if p.grad is not None])
        if not torch.isfinite(norm):
            self.adamw.zero_grad(set_to_none=True)
            return float(norm)
        torch.nn.utils.clip_grads_with_norm_(masters, self.max_grad_norm, norm)
        for group, lr in zip(self.adamw.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * lr_factor
        self.adamw.step()
        self.steps += 1
        self.adamw.zero_grad(set_to_none=True)
        self.copy_to_live()
        return float(norm)

    @torch.no_grad()
    def copy_to_live(self) -> None:
        """Copy the master copies into the live weights."""
        for name, p in self.live.items():
            if p.dtype != torch.float32:
                distributed.local_slice(p).copy_(self.master[name])

    # ---- In memory -------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the weights that this process holds."""
        return {name: value.clone() for name, value in self.checkpoint_tensors(moments=False).items()}

    @torch.no_grad()
    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Set the weights to a snapshot; the optimizer's moments stay."""
        for name, value in self.checkpoint_tensors(moments=False).items():
            value.copy_(snapshot[name])
        self.copy_to_live()

    # ---- On disk ---------------------------------------------------------------------------------------------------

    def save(
        self, folder: Path, state: dict[str, Any], *, is_main: bool, moments: bool, name: str = "checkpoint"
    ) -> None:
        """Write a checkpoint of full tensors from the main process. Every process must call it."""
        tensors = self.checkpoint_tensors(moments=moments)
        if self.is_sharded:  # one at a time: gathered on the devices, kept in host memory by the main process only
            gathered = ((key, distributed.full_tensor(value, self._live_of(key))) for key, value in tensors.items())
            tensors = {key: value.cpu() for key, value in gathered if is_main}
        if is_main:
            checkpoint.save(folder, tensors, state, name)

    def load(self, path: Path, *, moments: bool) -> None:
        """Load a checkpoint, each process its slices."""
        checkpoint.read_tensors(
            path,
            self.checkpoint_tensors(moments=moments),
            lambda key, stored: distributed.slice_like(stored, self._live_of(key)),
        )
        self.copy_to_live()

    def checkpoint_tensors(self, *, moments: bool) -> dict[str, Tensor]:
        """What this process holds of a checkpoint, by name. Moments before the first step are zeros."""
        tensors = {f"weight.{name}": p.detach() for name, p in self.master.items()}
        if moments:
            for name, p in self.master.items():
                state = self.adamw.state[p]
                if not state:
                    state.update(step=torch.tensor(0.0), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                tensors |= {f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
        return tensors

    def set_step(self, step: int) -> None:
        """Set the number of steps that the moments have seen."""
        self.steps = step
        for p in self.master.values():
            self.adamw.state[p]["step"] = torch.tensor(float(step), device=p.device if p.is_cuda else "cpu")

    def _live_of(self, key: str) -> Tensor:
        """The live weight that a checkpoint's tensor belongs to."""
        return self.live[key.partition(".")[2]]
