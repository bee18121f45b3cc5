"""What a training run keeps: metrics, checkpoints, the best weights so far, and when to stop early."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from pydantic import Field, TypeAdapter
from torch import Tensor
from typing_extensions import TypedDict

from guerdon.config import TrainOptions
from guerdon.contracts import Comparison, GuerdonError, digest
from guerdon.io.run_folder import METRICS, RunFolder
from guerdon.io.schema import comparisons_digest
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.runtime import checkpoint
from guerdon.runtime.optimizer import TrainableWeights
from guerdon.runtime.save_timer import SaveTimer
from guerdon.training.steps import HeldOutMetrics

log = logging.getLogger("guerdon")

HARMLESS = frozenset(
    {"save_every", "save_minutes", "report_to", "micro_tokens", "shard"}
)  # options that change a result by rounding at most


class State(TypedDict):
    """The JSON part of a checkpoint: how far the run is, and everything that its rest depends on."""

    step: Annotated[int, Field(ge=0)]
    identity: dict[str, str]
    rng: list[Annotated[int, Field(ge=0, le=255)]]
    best: float
    bad: Annotated[int, Field(ge=0)]
    stopped: bool
    metrics_bytes: Annotated[int, Field(ge=0)]


STATE = TypeAdapter(State)


def _restore_generator(state: Sequence[int], path: Path) -> None:
    """Set torch's generator on the CPU to a state that a checkpoint in the path holds."""
    try:
        torch.set_rng_state(torch.tensor(state, dtype=torch.uint8))
    except RuntimeError:
        raise GuerdonError(f"{path}: rng must be the state of a generator. Delete {path} to start over.") from None


class TrainingRun:
    """A run and its folder. Without a folder it keeps only the best weights, in memory."""

    def __init__(
        self, folder: Path | None, identity: Mapping[str, str], accelerator: Accelerator, options: TrainOptions
    ) -> None:
        self.files = RunFolder(folder, identity, is_main=accelerator.is_main_process)
        self.folder, self.identity, self.accelerator, self.options = folder, identity, accelerator, options
        self.state: dict[str, Any] = {"best": math.inf, "bad": 0, "stopped": False}
        self.best_weights: dict[str, Tensor] | None = None
        self.average_loss: float | None = None
        self.start = time.monotonic()
        self.timer = SaveTimer(options.save_minutes if folder and options.save_every else 0, accelerator)
        self.files.create()
        if options.report_to:
            accelerator.init_trackers("guerdon", config={k: str(v) for k, v in options.model_dump().items()})

    @property
    def has_stopped_early(self) -> bool:
        """Whether the held-out loss has not improved for `patience` evaluations."""
        return bool(self.state["stopped"])

    def resume(self, weights: TrainableWeights) -> int:
        """Load the newest checkpoint into the weights, if there is one; returns the steps already done."""
        path = checkpoint.find(self.folder)
        if path is None:
            self.files.refuse_other_metrics("step")
            self.files.truncate({METRICS: 0})
            return 0
        state = checkpoint.read_state(path, STATE)
        self.files.refuse_other(state["identity"], path)
        weights.load(path, moments=True)
        weights.set_step(state["step"])
        _restore_generator(state["rng"], path)
        self.state = {"best": state["best"], "bad": state["bad"], "stopped": state["stopped"]}
        self.files.truncate({METRICS: state["metrics_bytes"]})
        log.info("resuming from step %d in %s", state["step"], path)
        return int(state["step"])

    def is_checkpoint_due(self, step: int, is_last: bool) -> bool:
        """Whether a checkpoint belongs after this step; every process must ask."""
        every = self.options.save_every
        is_due_by_step = bool(every) and (step % every == 0 or is_last or self.has_stopped_early)
        return self.timer.is_due() or is_due_by_step

    def save_checkpoint(self, step: int, weights: TrainableWeights) -> None:
        """Write a checkpoint of everything that the rest of the run depends on."""
        if self.folder is None:
            return
        state = {"step": step, "identity": self.identity, "rng": torch.get_rng_state().tolist(), **self.state}
        state["metrics_bytes"] = self.files.size(METRICS)
        weights.save(self.folder, state, is_main=self.accelerator.is_main_process, moments=True)
        self.timer.restart()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl, and report to the trackers."""
        if self.options.report_to:
            self.accelerator.log(dict(values), step=step)
        self.files.log_metrics({"step": step, **values}, time.monotonic() - self.start)

    def log_held_out(self, step: int, metrics: HeldOutMetrics) -> None:
        """The same for held-out metrics."""
        values = {
            "held_out_loss": metrics.loss.value,
            "held_out_accuracy": metrics.accuracy.value,
            "held_out_accuracy_low": metrics.accuracy.low,
            "held_out_accuracy_high": metrics.accuracy.high,
        }
        self.log(step, values)

    def keep_best(self, metrics: HeldOutMetrics, weights: TrainableWeights) -> None:
        """Keep the weights if their held-out loss is the best so far; else count toward stopping early."""
        if not self.options.patience:
            return
        if metrics.loss.value < self.state["best"]:
            self.state.update(best=metrics.loss.value, bad=0)
            if self.folder is None:
                self.best_weights = weights.snapshot()
            else:
                is_main = self.accelerator.is_main_process
                weights.save(self.folder, {"best": metrics.loss.value}, is_main=is_main, moments=False, name="best")
        else:
            self.state["bad"] += 1
        self.state["stopped"] = self.state["bad"] >= self.options.patience

    def restore_best(self, weights: TrainableWeights) -> None:
        """Load the best weights. Every process must call it."""
        self.accelerator.wait_for_everyone()  # the main process may still be writing them
        path = checkpoint.find(self.folder, "best")
        if path is not None:
            weights.load(path, moments=False)
        elif self.best_weights is not None:
            weights.restore(self.best_weights)
        elif self.folder is not None and math.isfinite(self.state["best"]):
            raise GuerdonError(
                f"{self.folder}: must hold best/, with the best weights so far. Restore it, or delete the folder."
            )

    def smooth(self, value: float) -> float:
        """A running mean of the loss, for the progress bar."""
        average = value if self.average_loss is None else 0.95 * self.average_loss + 0.05 * value
        self.average_loss = average
        return average

    def finish(self) -> None:
        """Close the trackers."""
        for tracker in self.accelerator.trackers:
            tracker.finish()


def run_identity(
    model: ScalarRewardModel,
    comparisons: Sequence[Comparison],
    held_out: Sequence[Comparison],
    options: TrainOptions,
    num_steps: int,
    start_weights: str,
) -> dict[str, str]:
    """What must agree for a run to be resumed: whatever changes its result. start_weights: a hash of what training starts from."""
    card, adapters = model.card, getattr(model.network.classifier, "peft_config", {})
    parts = [card.base, card.template_hash, card.max_length, card.truncation, card.attributes, model.autocast]
    parts.append(start_weights)
    parts += [model.heads] if model.heads > 1 else []
    dtype = str(next(model.network.classifier.parameters()).dtype)
    return {
        "train options": digest({k: v for k, v in options.model_dump().items() if k not in HARMLESS}),
        "data": comparisons_digest(comparisons),
        "held-out data": comparisons_digest(held_out) if options.patience else "",
        "model": digest([*parts, dtype, *((a.r, a.lora_alpha, sorted(a.target_modules)) for a in adapters.values())]),
        "steps": str(num_steps),
    }
