"""One training run, readable from top to bottom: tokens, network, resume, optimizer steps, the best weights."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from guerdon.config import TrainOptions
from guerdon.config.training import refuse_untrainable_heads
from guerdon.contracts import Comparison, GuerdonError
from guerdon.models.engine.classifier import reward_head
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.engine.pretrained import checkpoint_activations
from guerdon.models.fingerprint import weights_fingerprint
from guerdon.models.hidden_text import hidden_text_findings
from guerdon.models.reward_model import ScalarNetwork, ScalarRewardModel
from guerdon.progress import ProgressBar
from guerdon.runtime import distributed
from guerdon.runtime.optimizer import AdamWSettings, TrainableWeights
from guerdon.training.batches import EpochTokens, count_epoch_tokens, step_rows
from guerdon.training.dataset import TokenizedComparisons, tokenize_comparisons
from guerdon.training.run import TrainingRun, run_identity
from guerdon.training.steps import HeldOutMetrics, TrainingNetwork, accumulate_gradients, evaluate

log = logging.getLogger("guerdon")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run gave. steps: optimizer steps. held_out: the last held-out metrics, None without held-out comparisons.
    num_dropped: comparisons left out because they are too long. seconds: of the optimizer steps and evaluations."""

    model: ScalarRewardModel
    steps: int
    held_out: HeldOutMetrics | None
    stopped_early: bool
    num_dropped: int
    seconds: float
    epoch_tokens: EpochTokens


def fit(
    model: ScalarRewardModel,
    comparisons: Sequence[Comparison],
    options: TrainOptions,
    *,
    held_out: Sequence[Comparison] = (),
    folder: Path | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> TrainResult:
    """Train the model on the comparisons. With a folder, write metrics.jsonl and checkpoints there, and resume from them.

    The result does not depend on micro_tokens, nor on whether the run was killed and resumed. Held-out comparisons decide when
    to stop early (`patience`) and are otherwise only measured. LoRA adapters are merged at the end. `on_start` is called once the
    comparisons are tokenized and the folder is known to be this run's. Every process of a launcher calls this the same
    way; only the main one writes and prints, all get the model.
    """
    _check_options(options, model, held_out)
    start_weights = weights_fingerprint(model.network) if folder else ""  # before processes share the network out

    # 1. Processes, and comparisons as token ids
    accelerator = _start_processes(model, options, folder)
    table, held_out_table = _tokenize(model, comparisons, held_out, options)

    # 2. Network and optimizer
    training = _prepare_network(model, options, accelerator)
    weights = trainable_weights(training.core, options)
    per_epoch = math.ceil(len(table) / options.batch_size)
    num_steps = min(math.ceil(options.epochs * per_epoch), options.max_steps or 10**12)

    # 3. Resume from the newest checkpoint
    run = TrainingRun(
        folder, run_identity(model, comparisons, held_out, options, num_steps, start_weights), accelerator, options
    )
    step = run.resume(weights)
    on_start()
    epoch_tokens = count_epoch_tokens(table, options, training.core.backbone)
    log.info("%s", epoch_tokens)
    bar = ProgressBar(num_steps * options.batch_size, "train", "pairs", initial=step * options.batch_size)
    start = time.monotonic()
    metrics: HeldOutMetrics | None = None

    # 4. Optimizer steps
    while step < num_steps and not run.has_stopped_early:
        rows = step_rows(len(table), options.batch_size, options.seed, step)
        loss = accumulate_gradients(training, table, rows)
        rate = learning_rate(step, num_steps, options)
        step += 1
        norm = _update(weights, loss, rate, step, options)
        run.log(step, {"epoch": step / per_epoch, "loss": loss, "lr": options.lr * rate, "grad_norm": norm})
        is_last = step == num_steps
        if held_out_table is not None and (is_last or step % (options.eval_every or per_epoch) == 0):
            metrics = evaluate(training, held_out_table)
            run.log_held_out(step, metrics)
            run.keep_best(metrics, weights)
        if run.is_checkpoint_due(step, is_last):
            run.save_checkpoint(step, weights)
        shown = {"loss": run.smooth(loss)} | ({"held_out": metrics.accuracy.value} if metrics else {})
        bar.advance(len(rows), **shown)
    bar.close()

    # 5. The best weights, with adapters merged
    if options.patience:
        run.restore_best(weights)
    if held_out_table is not None and (metrics is None or options.patience):
        metrics = evaluate(training, held_out_table)
    trained = _finished_model(model, training, run.identity["data"])
    run.finish()
    seconds = time.monotonic() - start
    return TrainResult(trained, step, metrics, run.has_stopped_early, table.num_dropped, seconds, epoch_tokens)


# ---- 1. Processes and tokens -----------------------------------------------------------------------------------------


def _start_processes(model: ScalarRewardModel, options: TrainOptions, folder: Path | None) -> Accelerator:
    trackers = {"log_with": list(options.report_to) or None, "project_dir": str(folder) if folder else None}
    return distributed.make_accelerator(model.device, shard=options.shard, **trackers)


def _tokenize(
    model: ScalarRewardModel,
    comparisons: Sequence[Comparison],
    held_out: Sequence[Comparison],
    options: TrainOptions,
) -> tuple[TokenizedComparisons, TokenizedComparisons | None]:
    """Training and held-out comparisons; the latter are never bootstrapped."""
    attributes, heads = model.card.attributes, model.heads if options.bootstrap else 0
    for finding in hidden_text_findings(model.text, comparisons):
        log.warning("%s: %s. %s", finding.title, finding.evidence, finding.remedy)
    table = tokenize_comparisons(model.text, comparisons, options, attributes, heads)
    held_out_table = tokenize_comparisons(model.text, held_out, options, attributes) if held_out else None
    if table.num_dropped:
        log.warning(
            "dropped because they are longer than model.max_length=%d: %d of %d comparisons",
            model.text.max_length,
            table.num_dropped,
            len(comparisons),
        )
    check_sharded_lengths(model.network, options, table, held_out_table)
    return table, held_out_table


# ---- 2. Network and optimizer ----------------------------------------------------------------------------------------


def _prepare_network(model: ScalarRewardModel, options: TrainOptions, accelerator: Accelerator) -> TrainingNetwork:
    network = model.network.train()
    network.tie_raw.requires_grad_(options.loss == "rao_kupper")
    if options.gradient_checkpointing:
        checkpoint_activations(network.classifier, "train.gradient_checkpointing")
    if options.compile:
        network.backbone.compile()
    distributed_network = distributed.distribute_network(network, options, accelerator)
    core = accelerator.unwrap_model(distributed_network)
    return TrainingNetwork(distributed_network, core, accelerator, options, model.autocast)


def trainable_weights(network: ScalarNetwork, options: TrainOptions) -> TrainableWeights:
    """The network's trainable weights under the options' optimizer."""
    head = [*reward_head(unwrap_peft(network.classifier)).parameters(), network.tie_raw]
    settings = AdamWSettings(
        lr=options.lr,
        head_lr=options.head_lr or options.lr,
        betas=options.betas,
        eps=options.eps,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
    )
    return TrainableWeights(network, settings, head=head)


# ---- 4. Optimizer steps ----------------------------------------------------------------------------------------------


def learning_rate(step: int, num_steps: int, options: TrainOptions) -> float:
    """Factor on the peak learning rate at a step (from 0): a linear warmup, then constant, linear or cosine to 0."""
    warmup = round(options.warmup * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[options.schedule]


def _update(weights: TrainableWeights, loss: float, rate: float, step: int, options: TrainOptions) -> float:
    """One optimizer step at a fraction of the learning rate; returns the gradient norm. Non-finite gradients are never applied."""
    norm = weights.step(rate) if math.isfinite(loss) else loss
    if not math.isfinite(norm):
        name = "gradient" if math.isfinite(loss) else "loss"
        raise GuerdonError(
            f"train: {name} must be finite, got {norm} at step {step}. "
            f"Use a smaller train.lr (now {options.lr}), or model.dtype=float32."
        )
    return norm


# ---- 5. The result ---------------------------------------------------------------------------------------------------


def _finished_model(model: ScalarRewardModel, training: TrainingNetwork, data_hash: str) -> ScalarRewardModel:
    """The trained model on one device: shards gathered, adapters merged."""
    network, options = training.core, training.options
    if distributed.is_sharded(network):
        distributed.gather_weights(network, model.network, model.device)
        network = model.network
    if training.accelerator.device.type == "cpu":
        network.float()  # bfloat16 scores depend on their batch by rounding, and would round merged adapters away
    network.merge()
    network.eval()
    tie_threshold = network.tie_threshold.item() if options.loss == "rao_kupper" else None
    card = dataclasses.replace(model.card, data_hash=data_hash, tie_threshold=tie_threshold)
    return ScalarRewardModel(network, model.text, card, autocast=model.autocast, batch_tokens=model.batch_tokens)


# ---- What is refused -------------------------------------------------------------------------------------------------


def _check_options(options: TrainOptions, model: ScalarRewardModel, held_out: Sequence[Comparison]) -> None:
    """Raise GuerdonError for an option that conflicts with others, or that this model or these data would ignore."""
    options.refuse_conflicts()
    if options.patience and not held_out:
        raise GuerdonError(
            f"train.patience must be 0 without held-out comparisons, got {options.patience}. "
            "Give --held-out, or set train.patience=0."
        )
    refuse_untrainable_heads(options.loss, model.heads, model.card.attributes)


def check_sharded_lengths(network: ScalarNetwork, options: TrainOptions, *tables: TokenizedComparisons | None) -> None:
    """Raise GuerdonError if a sharded longrope model would see texts on both sides of its threshold.

    Processes that hold shards compute the same passes, so the two kinds of texts cannot be kept apart.
    """
    threshold = network.backbone.longrope_threshold
    if not options.shard or threshold is None:
        return
    sizes = np.concatenate([np.diff(table.starts) for table in tables if table is not None])
    if sizes.min() <= threshold < sizes.max():
        raise GuerdonError(
            f"train.shard must be false for texts of {sizes.min()} to {sizes.max()} tokens, got true: the positions of this "
            f"model (longrope) change for a whole pass where one text is longer than {threshold} tokens. "
            f"Set model.max_length={threshold}, or train.shard=false."
        )
