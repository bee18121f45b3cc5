"""One training run, readable top to bottom: tokens, optimizer, resume, steps, held-out checks, the best weights."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from guerdon.config import TrainOptions
from guerdon.contracts import (
    Comparison,
    Estimate,
    GuerdonError,
    digest,
    digest_all,
)
from guerdon.formulas.resampling import bootstrap_mean
from guerdon.io.run_folder import METRICS, RunFolder
from guerdon.models.directory import layout
from guerdon.models.engine.device import autocast
from guerdon.models.reward_model import ScalarNetwork, ScalarRewardModel
from guerdon.progress import Bar
from guerdon.runtime import checkpoint, distributed
from guerdon.runtime.optimizer import TrainableWeights
from guerdon.training.batches import (
    Batch,
    TokenizedComparisons,
    Work,
    collate,
    micro_batches,
    share,
    step_rows,
    tokenize_comparisons,
    work,
)
from guerdon.training.objectives import accuracy, loss

log = logging.getLogger("guerdon")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Loss (nats a comparison) and accuracy (ties count half) on comparisons that were not trained on, with intervals by group."""

    loss: Estimate
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The trained model, the number of optimizer steps, the last held-out check (None without held-out data), what was
    left out, and the tokens of an epoch."""

    model: ScalarRewardModel
    steps: int
    held_out: HeldOut | None
    stopped_early: bool
    dropped: int
    seconds: float
    work: Work


def fit(
    model: ScalarRewardModel,
    comparisons: Sequence[Comparison],
    options: TrainOptions,
    *,
    held_out: Sequence[Comparison] = (),
    folder: Path | None = None,
    begin: Callable[[], None] = lambda: None,
) -> TrainResult:
    """Train the model on the comparisons; with a folder, write metrics.jsonl and checkpoints there and go on from them.

    The result is the same for any micro_tokens, and for one run or one killed at any moment and started again. Held-out
    comparisons choose when to stop (`patience`) and are otherwise only measured. LoRA adapters come back merged. `begin` is
    called once the data are read and the folder is known to be this run's. Every process of a launcher calls this alike; only
    the main one writes and shows anything, all get the model.
    """
    if options.patience and not held_out:
        raise GuerdonError(
            f"train.patience={options.patience}: stopping early needs held-out comparisons; remedy: give --held-out, or train.patience=0"
        )

    _refuse_ignored(options, model.card.attributes, model.heads)

    # 1. Processes, and text to tokens, once
    tracked = {"log_with": list(options.report_to) or None, "project_dir": str(folder) if folder else None}
    accelerator = distributed.make_accelerator(model.device, shard=options.shard, **tracked)
    table = tokenize_comparisons(
        model.text, comparisons, options, model.card.attributes, model.heads if options.bootstrap else 0
    )
    check = tokenize_comparisons(model.text, held_out, options, model.card.attributes) if held_out else None
    if table.dropped:
        log.warning(
            "%d of %d comparisons are longer than model.max_length=%d and were dropped",
            table.dropped,
            len(comparisons),
            model.text.max_length,
        )

    _refuse_mixed_passes(model.network, options, table, check)

    # 2. Network, optimizer
    home, given = model.device, model.network
    core = given.train()
    core.tie_raw.requires_grad_(options.loss == "rao_kupper")
    if options.gradient_checkpointing:
        _recompute_activations(core)
    if options.compile:
        core.backbone.compile()
    network = distributed.distribute_network(core, options, accelerator)
    core = accelerator.unwrap_model(network)
    weights = weights_of(core, options)
    per_epoch = math.ceil(len(table) / options.batch_size)
    total = min(math.ceil(options.epochs * per_epoch), options.max_steps or 10**12)

    # 3. Go on from the newest checkpoint
    run = _Run(folder, _identity(model, comparisons, held_out, options, total), accelerator, options)
    step = run.resume(weights)
    begin()
    tokens = work(table, options, core.backbone)
    log.info("%s", tokens)
    bar = Bar(total * options.batch_size, "train", "pairs", initial=step * options.batch_size)
    started, last_check = time.monotonic(), None
    stopped = run.state["stopped"]

    # 4. Optimizer steps
    while step < total and not stopped:
        rows = step_rows(len(table), options.batch_size, options.seed, step)
        value = _accumulate(network, table, rows, options, accelerator, model)
        rate = learning_rate(step, total, options)
        step += 1
        norm = _step(weights, value, rate, f"step {step}", options.lr)
        run.log({"step": step, "epoch": step / per_epoch, "loss": value, "lr": options.lr * rate, "grad_norm": norm})
        at_end = step == total
        if check is not None and (at_end or step % (options.eval_every or per_epoch) == 0):
            last_check = evaluate(core, check, options, model, accelerator)
            run.log({"step": step, "held_out_loss": last_check.loss.value, "held_out_accuracy": last_check.accuracy.value,
                     "held_out_accuracy_low": last_check.accuracy.low, "held_out_accuracy_high": last_check.accuracy.high})  # fmt: skip
            stopped = run.judge(last_check, weights)
        if options.save_every and (step % options.save_every == 0 or at_end or stopped):
            run.save(step, weights)
        shown = {"loss": run.smooth(value)} | ({"held_out": last_check.accuracy.value} if last_check else {})
        bar.advance(len(rows), **shown)
    bar.close()

    # 5. The best weights, adapters folded in
    if options.patience:
        accelerator.wait_for_everyone()  # the main process may still be writing them
        run.restore_best(weights)
    if check is not None and (last_check is None or options.patience):
        last_check = evaluate(core, check, options, model, accelerator)
    core = _whole(core, given, home, accelerator)
    for tracker in accelerator.trackers:
        tracker.finish()
    tie = core.tie_threshold.item() if options.loss == "rao_kupper" else None
    card = dataclasses.replace(model.card, data_hash=run.identity["data"], tie_threshold=tie)
    trained = ScalarRewardModel(core, model.text, card, autocast=model.autocast, batch_tokens=model.batch_tokens)
    return TrainResult(trained, step, last_check, stopped, table.dropped, time.monotonic() - started, tokens)


def _step(weights: TrainableWeights, value: float, rate: float, place: str, lr: float) -> float:
    """One optimizer step at a share of the learning rate; returns the gradient's norm. What is no number never enters the weights."""
    norm = weights.step(rate) if math.isfinite(value) else value
    if not math.isfinite(norm):
        what = "gradient" if math.isfinite(value) else "loss"
        raise GuerdonError(
            f"train: the {what} at {place} is {norm}; remedy: a smaller train.lr (now {lr}), or model.dtype=float32"
        )
    return norm


def _whole(core: ScalarNetwork, given: ScalarNetwork, home: torch.device, accelerator: Accelerator) -> ScalarNetwork:
    """The trained network in one piece, to score with: shards gathered, adapters folded in."""
    if distributed.is_sharded(core):
        distributed.gather_weights(core, given, home)
        core = given
    if accelerator.device.type == "cpu":
        core.float()  # bfloat16 scores depend on their batch by rounding, and would round merged adapters away
    core.merge()
    core.eval()
    return core


def evaluate(
    network: ScalarNetwork,
    table: TokenizedComparisons,
    options: TrainOptions,
    model: ScalarRewardModel,
    accelerator: Accelerator,
) -> HeldOut:
    """Loss and accuracy over every comparison of the table, weighted by comparison, with bootstrap intervals by group.

    The processes divide the table. Each value comes from one of them and is a sum with zeros from the others, so all of
    them see the same numbers and decide alike.
    """
    found = torch.zeros((2, len(table)), dtype=torch.float64)
    network.eval()
    # no inference mode: what a sharded network gathers in it could not be trained on after
    with torch.no_grad(), autocast(accelerator.device, model.autocast):
        for rows, counts in _passes(network, table, np.arange(len(table)), options.micro_tokens * 2, accelerator):
            batch = collate(table, rows, accelerator.device)
            rewards = _rewards(network, batch.texts, _parts(network, batch.texts, options.micro_tokens, rows))
            if counts:
                found[0, rows] = loss(rewards, batch, options, network.tie_threshold).cpu().double()
                found[1, rows] = accuracy(rewards, batch).cpu().double()
    if distributed.is_sharded(network):
        network.reshard()  # type: ignore[operator]  # the root stays gathered after a pass, and would miss the next step
    network.train()
    if accelerator.num_processes > 1:
        found = distributed.sum_over_processes(found.to(accelerator.device), accelerator).cpu()
    losses, hits = found.numpy()
    decided = ~np.isnan(hits)
    groups = np.array(table.group)
    right = (
        bootstrap_mean(hits[decided], groups[decided], table.weight[decided])
        if decided.any()
        else (math.nan, math.nan, math.nan, 0)
    )
    return HeldOut(Estimate(*bootstrap_mean(losses, groups, table.weight)), Estimate(*right))


def learning_rate(step: int, total: int, options: TrainOptions) -> float:
    """Factor on the peak learning rate at a step (from 0): a linear rise, then constant, linear or cosine to 0."""
    rise = round(options.warmup * total)
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[options.schedule]


def _refuse_ignored(options: TrainOptions, attributes: Sequence[str], heads: int) -> None:
    """An option that the chosen loss would not read is refused."""
    if heads > 1 and options.loss == "attributes":
        raise GuerdonError(
            f"model.heads={heads}: train.loss=attributes has one head an attribute; remedy: model.heads=1, or another loss"
        )
    if attributes and options.loss != "attributes":
        raise GuerdonError(
            f"model.attributes={list(attributes)}: train.loss={options.loss} trains one head; remedy: train.loss=attributes"
        )
    if options.compile and options.shard:
        raise GuerdonError("train.compile=True: not with train.shard=true; remedy: leave one of them out")
    takes = {"label_smoothing": ("bradley_terry", "all_pairs"), "margin_scale": ("bradley_terry",)}
    for name, losses in takes.items():
        if (value := getattr(options, name)) and options.loss not in losses:
            raise GuerdonError(
                f"train.{name}={value}: not used by train.loss={options.loss}; remedy: train.{name}=0, or train.loss={losses[0]}"
            )


def _refuse_mixed_passes(network: ScalarNetwork, options: TrainOptions, *tables: TokenizedComparisons | None) -> None:
    """Processes that hold slices make the same passes, so texts on the two sides of a rotary embedding's turn could not be kept apart."""
    turn = network.backbone.longrope_threshold
    if not options.shard or turn is None:
        return
    sizes = np.concatenate([np.diff(table.starts) for table in tables if table is not None])
    if sizes.min() <= turn < sizes.max():
        raise GuerdonError(
            f"train.shard=True: texts of {sizes.min()} to {sizes.max()} tokens, and this model's positions (longrope) change for "
            f"a whole pass where one is longer than {turn}; remedy: model.max_length={turn}, or train.shard=false"
        )


def _recompute_activations(network: ScalarNetwork) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers 5 knows this name from first to last
        try:
            network.classifier.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            raise GuerdonError(f"{error}; remedy: train.gradient_checkpointing=false") from None


def weights_of(network: ScalarNetwork, options: TrainOptions) -> TrainableWeights:
    """The network's trainable weights under the options' optimizer."""
    head = [*layout.head(layout.unwrapped(network.classifier)).parameters(), network.tie_raw]
    return TrainableWeights(
        network,
        head=head,
        lr=options.lr,
        head_lr=options.head_lr or options.lr,
        betas=options.betas,
        eps=options.eps,
        weight_decay=options.weight_decay,
        clip=options.clip,
    )


class _Run:
    """What a run leaves on disk: metrics, checkpoints, the best weights. Without a folder it keeps only the best, in memory."""

    def __init__(
        self, folder: Path | None, identity: Mapping[str, str], accelerator: Accelerator, options: TrainOptions
    ) -> None:
        self.files = RunFolder(folder, identity, is_main=accelerator.is_main_process)
        self.folder, self.identity, self.accelerator, self.options = folder, identity, accelerator, options
        self.state: dict[str, Any] = {"best": math.inf, "bad": 0, "stopped": False}
        self.best: dict[str, Tensor] | None = None
        self.average: float | None = None
        self.began = time.monotonic()
        self.files.create()
        if options.report_to:
            accelerator.init_trackers("guerdon", config={k: str(v) for k, v in options.model_dump().items()})

    def resume(self, weights: TrainableWeights) -> int:
        """Load the newest checkpoint into the weights; returns the steps already done."""
        place = checkpoint.find(self.folder)
        if place is None:
            self.files.truncate({METRICS: 0})
            return 0
        state = checkpoint.read_state(place)
        self.files.refuse_other(state["identity"], place)
        weights.load(place, moments=True)
        weights.set_step(state["step"])
        torch.set_rng_state(torch.tensor(state["rng"], dtype=torch.uint8))
        self.state = {key: state[key] for key in self.state}
        self.files.truncate({METRICS: state["metrics_bytes"]})
        log.info("going on from step %d in %s", state["step"], place)
        return int(state["step"])

    def save(self, step: int, weights: TrainableWeights) -> None:
        """Write a checkpoint."""
        if self.folder is None:
            return
        state = {"step": step, "identity": self.identity, "rng": torch.get_rng_state().tolist(), **self.state}
        state["metrics_bytes"] = self.files.size(METRICS)
        weights.save(self.folder, state, main=self.accelerator.is_main_process, moments=True)

    def judge(self, seen: HeldOut, weights: TrainableWeights) -> bool:
        """Remember the best weights; True when patience has run out."""
        if not self.options.patience:
            return False
        if seen.loss.value < self.state["best"]:
            self.state.update(best=seen.loss.value, bad=0)
            if self.folder is None:
                self.best = {name: value.clone() for name, value in weights.checkpoint_tensors(moments=False).items()}
            else:
                main = self.accelerator.is_main_process
                weights.save(self.folder, {"best": seen.loss.value}, main=main, moments=False, name="best")
        else:
            self.state["bad"] += 1
        self.state["stopped"] = self.state["bad"] >= self.options.patience
        return bool(self.state["stopped"])

    def restore_best(self, weights: TrainableWeights) -> None:
        """Put the best weights back."""
        place = checkpoint.find(self.folder, "best")
        if place is not None:
            weights.load(place, moments=False)
        elif self.best is not None:
            with torch.no_grad():
                for name, value in weights.checkpoint_tensors(moments=False).items():
                    value.copy_(self.best[name])
            weights.copy_to_live()

    def log(self, row: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl and tell the trackers."""
        if self.options.report_to:
            self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
        self.files.log_metrics(row, time.monotonic() - self.began)

    def smooth(self, value: float) -> float:
        """A running mean of the loss, for people to look at."""
        self.average = value if self.average is None else 0.95 * self.average + 0.05 * value
        return self.average


def _accumulate(
    network: Any,
    table: TokenizedComparisons,
    rows: np.ndarray,
    options: TrainOptions,
    accelerator: Accelerator,
    model: ScalarRewardModel,
) -> float:
    """Forward and backward over one step's comparisons in micro-batches; returns their mean loss over all processes.

    The denominator is the whole step's weight over all processes: a mean over micro-batches or ranks would overweight
    comparisons that stand in small ones. (DDP and FSDP2 average gradients over ranks, hence the factor.) Under DDP each
    process exchanges gradients in its last pass, under FSDP2 in every one, or each would keep all gradients whole.
    A comparison larger than two passes is computed twice: all its rewards, for the loss's slope in each, then their gradients,
    in as many passes as it takes. (Not under FSDP2, where all processes must make the same passes.)
    """
    denominator = float(table.weight[rows].sum())
    core = accelerator.unwrap_model(network)
    passes = _passes(core, table, rows, options.micro_tokens, accelerator)
    sharded = distributed.is_sharded(network)
    values = []  # read at the end: each look waits for the device
    for i, (chunk, counts) in enumerate(passes):
        batch = collate(table, chunk, accelerator.device)

        def mean(rewards: Tensor, batch: Batch = batch, counts: bool = counts) -> Tensor:
            with torch.autocast(accelerator.device.type, enabled=False):
                losses = loss(rewards, batch, options, core.tie_threshold)
                return (batch.weight * losses).sum() / denominator * (1.0 if counts else 0.0)

        texts = batch.texts
        parts = _parts(core, texts, options.micro_tokens, chunk)
        if len(parts) > 1:
            with autocast(accelerator.device, model.autocast):
                known, slope = _slope(core, texts, parts, mean)
        for j, part in enumerate(parts):
            ends = j == len(parts) - 1
            waits = not (ends and i == len(passes) - 1) and accelerator.num_processes > 1 and not sharded
            with accelerator.no_sync(network) if waits else nullcontext(), autocast(accelerator.device, model.autocast):
                rewards = network([texts[k] for k in part])
                if len(parts) > 1:  # the loss itself may learn too: its tie threshold
                    value = mean(known) if ends else rewards.new_zeros(())
                    found = (rewards * slope[part]).sum()
                    accelerator.backward((found + value) * accelerator.num_processes)
                else:
                    value = mean(rewards)
                    accelerator.backward(value * accelerator.num_processes)
            values.append(value.detach())
    total = float(torch.stack(values).cpu().double().sum())
    if accelerator.num_processes == 1:
        return total
    return float(distributed.sum_over_processes(torch.tensor(total, device=accelerator.device), accelerator))


def _parts(network: ScalarNetwork, texts: Sequence[np.ndarray], tokens: int, rows: Sequence[int]) -> list[list[int]]:
    """One pass over the texts of some comparisons; of one that takes more than two, passes of at most `tokens`."""
    if len(rows) > 1 or distributed.is_sharded(network) or network.backbone.count_tokens(texts) <= 2 * tokens:
        return [list(range(len(texts)))]
    return network.backbone.split_into_batches(texts, tokens)


def _rewards(network: ScalarNetwork, texts: Sequence[np.ndarray], parts: Sequence[Sequence[int]]) -> Tensor:
    """Rewards in the order of the texts, computed part by part."""
    found = torch.cat([network([texts[k] for k in part]) for part in parts])
    rewards = torch.empty_like(found)
    rewards[[k for part in parts for k in part]] = found
    return rewards


def _slope(
    network: ScalarNetwork, texts: Sequence[np.ndarray], parts: Sequence[list[int]], mean: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """All rewards, and what the mean loss gains for each."""
    with torch.no_grad():
        rewards = _rewards(network, texts, parts)
    with torch.enable_grad():
        known = rewards.clone().requires_grad_()
        (slope,) = torch.autograd.grad(mean(known), known)
    return rewards, slope


def _passes(
    network: ScalarNetwork, table: TokenizedComparisons, rows: np.ndarray, tokens: int, accelerator: Accelerator
) -> list[tuple[list[int], bool]]:
    """This process's passes over its share of the rows, and whether each counts."""
    mine = share(table, rows, accelerator.process_index, accelerator.num_processes)
    chunks = micro_batches(table, mine, tokens, network.backbone)
    spare = min((int(row) for row in rows), key=lambda row: sum(map(len, table.texts(row))))
    return distributed.equalize_passes(chunks, spare, accelerator, together=distributed.is_sharded(network))


def _identity(
    model: ScalarRewardModel,
    comparisons: Sequence[Comparison],
    held_out: Sequence[Comparison],
    options: TrainOptions,
    total: int,
) -> dict[str, str]:
    """What must agree for a checkpoint to be gone on from."""
    quiet = {"save_every", "report_to", "micro_tokens", "shard"}
    card, adapters = model.card, getattr(model.network.classifier, "peft_config", {})
    look = [card.base, card.template_hash, card.max_length, card.truncation, card.attributes, model.autocast]
    look += [model.heads] if model.heads > 1 else []
    dtype = str(next(model.network.classifier.parameters()).dtype)
    return {
        "train options": digest({k: v for k, v in options.model_dump().items() if k not in quiet}),
        "data": digest_all(map(repr, comparisons)),
        "held-out data": digest_all(map(repr, held_out)) if options.patience else "",
        "model": digest([*look, dtype, *((a.r, a.lora_alpha, sorted(a.target_modules)) for a in adapters.values())]),
        "steps": str(total),
    }
