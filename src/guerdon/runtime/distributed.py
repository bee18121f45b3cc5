"""Training in several processes: starting them, distributing a network over them, and gathering what they hold.

Either every process holds the full model and gradients are averaged (DDP), or each holds a slice of every weight, gradient and
moment and layers are gathered while they are computed (FSDP2). Both take the steps that one process would take.
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

LAUNCH_COMMAND = "torchrun --nproc-per-node N -m guerdon train ..."


# ---- Starting and leaving ------------------------------------------------------------------------------------------


def join_processes(model: ModelOptions, train: TrainOptions) -> ModelOptions:
    """Join the processes that a launcher started; returns the options with the device on which this process loads its model.

    A model to be sharded is loaded into host memory, because a device may have room for a slice only.
    """
    device = pick_device(model.device)
    _forget_other_device(device)
    PartialState(cpu=device.type == "cpu")
    if not train.shard or device.type == "cpu":
        return model
    dtype = next(name for name, kind in DTYPES.items() if kind == pick_dtype(model.dtype, device))
    return model.model_copy(update={"device": "cpu", "dtype": dtype})


def _forget_other_device(device: torch.device) -> None:
    """accelerate keeps the kind of device of a process's first run for all later ones; a single process may use another."""
    state = PartialState._shared_state
    if state and PartialState().num_processes == 1 and state["device"].type != device.type:
        AcceleratorState._reset_state(reset_partial_state=True)


def make_accelerator(device: torch.device, *, shard: bool = False, **settings: Any) -> Accelerator:
    """The accelerator of this process. All processes but the main one log errors only.

    Sharded training runs on GPUs where there are any, wherever the model was loaded.
    """
    on_cpu = device.type == "cpu" and not (shard and torch.cuda.is_available())
    _forget_other_device(torch.device("cpu") if on_cpu else device)
    accelerator = Accelerator(cpu=on_cpu, **settings)
    if accelerator.num_processes == 1:
        accelerator.state.device = device  # accelerate takes the first of several GPUs
    if shard and accelerator.num_processes == 1:
        raise GuerdonError(
            "train.shard must be false in a single process, got true. "
            f"Start several with {LAUNCH_COMMAND}, or set train.shard=false."
        )
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise GuerdonError(
            f"accelerate: the distributed type must be plain, got {kind}. "
            "Use a configuration without it, and train.shard=true to shard weights."
        )
    if not accelerator.is_main_process:
        logging.getLogger("guerdon").setLevel(logging.ERROR)
    return accelerator


def leave_processes() -> None:
    """Leave the process group, once the last result is written and no run is in progress.

    Not at the end of a run: another may follow. And a DDP network dropped as the last holder of the group waits, with Python's
    lock held, for the group's threads, which may need that lock.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


# ---- A network over processes --------------------------------------------------------------------------------------


def distribute_network(network: ScalarNetwork, options: TrainOptions, accelerator: Accelerator) -> Any:
    """The network as this process trains it: itself in a single process, else under DDP or a sharded copy that took its weights."""
    if accelerator.num_processes == 1:
        return network.to(accelerator.device)
    network.backbone.choose_mode()  # while the weights are complete
    return shard(network, accelerator) if options.shard else accelerator.prepare(network)


def shard(network: ScalarNetwork, accelerator: Accelerator) -> ScalarNetwork:
    """A copy of the network of which each process holds a slice; the original has no weights until `gather_weights`.

    Layer by layer, so that a device never holds more than its slice and one layer. Weights that FSDP2 takes into no group
    (scalars, and those whose dtype differs from the backbone's: the head, adapters) stay complete on every process. Gradients
    are reduced in float32. Tested with gloo on CPUs only.
    """
    shared = {id(p): p for p in network.parameters()}
    sharded: ScalarNetwork = copy.deepcopy(network, shared)  # new modules around the same parameters
    base_model = sharded.backbone.base_model
    backbone_dtype = next(base_model.parameters()).dtype
    replicated = {p for p in sharded.parameters() if p.ndim == 0 or p.dtype != backbone_dtype}
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
        "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
        "ignored_params": replicated,
    }
    for p in replicated:
        p.data = p.data.to(accelerator.device)
    for module in (*decoder_layers(base_model), sharded):
        complete = [p for p in module.parameters() if p not in replicated and not isinstance(p, DTensor)]
        fully_shard(module, **settings)
        for p in complete:
            p.data = p.data.new_empty(0)
    return sharded


@torch.no_grad()
def gather_weights(sharded: ScalarNetwork, network: ScalarNetwork, device: torch.device) -> None:
    """Give the network that `shard` emptied the trained weights, on the device; every process gets the full model."""
    sharded.eval()
    trained = dict(sharded.named_parameters())
    for name, p in network.named_parameters():
        p.data = full_tensor(trained[name].detach()).to(device)


def is_sharded(network: Any) -> bool:
    """Whether the processes hold slices of this network."""
    return isinstance(network, FSDPModule)


# ---- Slices of a tensor --------------------------------------------------------------------------------------------


def local_slice(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its slice of a sharded one (same memory, no gradient), else all of it."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """The full tensor, on every process. `tensor` may be this process's slice of one that is sharded as `like` is."""
    if isinstance(like, DTensor):
        placement = (like.device_mesh, like.placements)
        tensor = DTensor.from_local(tensor, *placement, run_check=False, shape=like.shape, stride=like.stride())
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def slice_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's slice of a full tensor, cut as `like` is sharded; all of it where `like` is not."""
    if not isinstance(like, DTensor):
        return tensor
    cut = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cut.to_local()


# ---- Working in step -----------------------------------------------------------------------------------------------


def equalize_passes(
    chunks: Sequence[list[int]], spare: int, accelerator: Accelerator, *, together: bool
) -> list[tuple[list[int], bool]]:
    """A process's passes, and whether each counts.

    A process without a chunk makes one pass that does not count. Where passes are made `together`, because gathering a layer
    needs all processes, every process makes as many as the busiest one; the extra passes are over the comparison `spare`.
    """
    needed = max(1, len(chunks))
    if together:
        needed = int(accelerator.gather(torch.tensor([needed], device=accelerator.device)).max())
    return [(list(chunk), True) for chunk in chunks] + [([spare], False)] * (needed - len(chunks))


def sum_over_processes(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The sum over all processes, on each of them."""
    return accelerator.reduce(values, reduction="sum")  # type: ignore[no-any-return]


@torch.no_grad()
def average_gradients(live: Mapping[str, Tensor], master: Mapping[str, Tensor]) -> Tensor:
    """Average the gradients of weights that every process holds in full; returns the norm of the whole model's gradient.

    `master` is what this process holds of the `live` weights. FSDP2 has already averaged those that are sharded.
    """
    squares = {True: torch.zeros(()), False: torch.zeros(())}
    for name, p in live.items():
        grad = master[name].grad
        if grad is None:
            continue
        is_slice = isinstance(p, DTensor)
        if not is_slice:
            distributed.all_reduce(grad)
            grad /= distributed.get_world_size()
        squares[is_slice] = squares[is_slice].to(grad.device) + grad.square().sum()
    slices = squares[True].to(next(iter(master.values())).device)
    distributed.all_reduce(slices)
    return (slices + squares[False].to(slices.device)).sqrt()
