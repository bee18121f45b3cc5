"""What several processes do together: who they are, a model shared out between them, and a shared-out tensor made whole.

Either every process holds the whole model and gradients are averaged (DDP), or each holds a slice of every weight, gradient and
moment (FSDP2) and layers are gathered as they are computed. Both take the steps that one process would take.
"""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from guerdon.config import ModelOptions, TrainOptions
from guerdon.contracts import GuerdonError
from guerdon.models.engine.device import DTYPES, pick_device, pick_dtype
from guerdon.models.engine.modules import decoder_layers
from guerdon.models.reward_model import ScalarNetwork

LAUNCH = "torchrun --nproc-per-node N -m guerdon train ..."


def join_processes(model: ModelOptions, train: TrainOptions) -> ModelOptions:
    """Join the processes that a launcher started; returns the model's options with the device where this one loads it.

    A model to be sharded is loaded into host memory: a device has room for a slice of it only.
    """
    device = pick_device(model.device)
    _forget_device(device)
    PartialState(cpu=device.type == "cpu")
    if not train.shard or device.type == "cpu":
        return model
    dtype = next(name for name, kind in DTYPES.items() if kind == pick_dtype(model.dtype, device))
    return model.model_copy(update={"device": "cpu", "dtype": dtype})


def _forget_device(wanted: torch.device) -> None:
    """accelerate keeps the kind of device of a process's first run for all later ones; a process that is alone may use another."""
    known = PartialState._shared_state
    if known and PartialState().num_processes == 1 and known["device"].type != wanted.type:
        AcceleratorState._reset_state(reset_partial_state=True)


def leave_processes() -> None:
    """Leave the launcher's processes, once the last result is written and no run is going on.

    Not at the end of a run: another may follow, and a network under DDP that is dropped as the group's last holder waits, with
    Python's lock held, for the group's threads, which may need that lock.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def make_accelerator(device: torch.device, *, shard: bool = False, **settings: Any) -> Accelerator:
    """The accelerator of this process; all but the main one fall silent.

    Sharded training runs on accelerators where there are any, wherever the model was loaded.
    """
    on_cpu = device.type == "cpu" and not (shard and torch.cuda.is_available())
    _forget_device(torch.device("cpu") if on_cpu else device)
    accelerator = Accelerator(cpu=on_cpu, **settings)
    if accelerator.num_processes == 1:
        accelerator.state.device = device  # accelerate takes the first of several GPUs
    if shard and accelerator.num_processes == 1:
        raise GuerdonError(f"train.shard=True: there is one process only; remedy: {LAUNCH}, or train.shard=false")
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise GuerdonError(
            f"accelerate is set up for {kind}; remedy: a plain set-up, and train.shard=true to share weights out"
        )
    if not accelerator.is_main_process:
        logging.getLogger("guerdon").setLevel(logging.ERROR)
    return accelerator


def distribute_network(network: ScalarNetwork, options: TrainOptions, accelerator: Accelerator) -> Any:
    """The network as this process trains it: itself where it is alone, else under DDP, or a sharded copy that took its weights."""
    if accelerator.num_processes == 1:
        return network.to(accelerator.device)
    network.backbone.choose_mode()  # on whole weights
    return shard(network, accelerator) if options.shard else accelerator.prepare(network)


def shard(network: ScalarNetwork, accelerator: Accelerator) -> ScalarNetwork:
    """A copy of the network of which each process holds a slice; the given one is left without weights until `gather_weights`.

    Layer by layer, so that a device never holds more than its slice and one layer. Weights that FSDP2 takes into no group
    (scalars, and those of another dtype than the backbone: the head, adapters) stay whole on every process. Gradients are
    reduced in float32. Tested with gloo on CPUs only.
    """
    shared = {id(p): p for p in network.parameters()}
    sharded: ScalarNetwork = copy.deepcopy(network, shared)  # new modules around the same parameters
    body = sharded.backbone.base_model
    backbone = next(body.parameters()).dtype
    replicated = {p for p in sharded.parameters() if p.ndim == 0 or p.dtype != backbone}
    given: dict[str, Any] = {
        "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
        "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
        "ignored_params": replicated,
    }
    for p in replicated:
        p.data = p.data.to(accelerator.device)
    for module in (*decoder_layers(body), sharded):
        whole = [p for p in module.parameters() if p not in replicated and not isinstance(p, DTensor)]
        fully_shard(module, **given)
        for p in whole:
            p.data = p.data.new_empty(0)
    return sharded


@torch.no_grad()
def gather_weights(sharded: ScalarNetwork, network: ScalarNetwork, home: torch.device) -> None:
    """Give the network that `shard` emptied its weights back, as trained; every process gets the whole model, at home."""
    sharded.eval()
    trained = dict(sharded.named_parameters())
    for name, p in network.named_parameters():
        p.data = full_tensor(trained[name].detach()).to(home)


def is_sharded(network: Any) -> bool:
    """Whether the processes hold slices of this network."""
    return isinstance(network, FSDPModule)


def local_slice(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: itself, unless it is shared out. The slice is the same memory, without a gradient."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """All of a tensor, on every process; `tensor` may be this process's slice of one that is shared out as `like` is."""
    if isinstance(like, DTensor):
        placed = (like.device_mesh, like.placements)
        tensor = DTensor.from_local(tensor, *placed, run_check=False, shape=like.shape, stride=like.stride())
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def slice_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's slice of a whole tensor, cut as `like` is shared out; all of it where that is whole."""
    if not isinstance(like, DTensor):
        return tensor
    cut = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cut.to_local()


def equalize_passes(
    chunks: Sequence[list[int]], spare: int, accelerator: Accelerator, *, together: bool
) -> list[tuple[list[int], bool]]:
    """A process's passes, and whether each counts.

    A process without any makes one that counts nothing; and where every pass is one `together` (a gathered layer needs
    all of them), those with fewer make as many as the others, over the comparison `spare`.
    """
    needed = max(1, len(chunks))
    if together:
        needed = int(accelerator.gather(torch.tensor([needed], device=accelerator.device)).max())
    return [(list(chunk), True) for chunk in chunks] + [([spare], False)] * (needed - len(chunks))


def sum_over_processes(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The sum over all processes, on all of them."""
    return accelerator.reduce(values, reduction="sum")  # type: ignore[no-any-return]


@torch.no_grad()
def average_gradients(live: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> Tensor:
    """Average the gradients of weights that stay whole on every process; returns the norm of the whole model's gradient.

    `held` are what this process has of the `live` weights; FSDP2 has averaged those that are shared out.
    """
    squares = {True: torch.zeros(()), False: torch.zeros(())}
    for name, p in live.items():
        grad = held[name].grad
        if grad is None:
            continue
        is_slice = isinstance(p, DTensor)
        if not is_slice:
            distributed.all_reduce(grad)
            grad /= distributed.get_world_size()
        squares[is_slice] = squares[is_slice].to(grad.device) + grad.square().sum()
    slices = squares[True].to(next(iter(held.values())).device)
    distributed.all_reduce(slices)
    return (slices + squares[False].to(slices.device)).sqrt()
