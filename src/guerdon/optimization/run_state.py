"""What a run of optimization remembers and keeps in its folder: KL penalty, reward scale, checks, metrics, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from accelerate.utils import broadcast_object_list
from pydantic import Field, TypeAdapter
from torch import Tensor
from typing_extensions import TypedDict

from guerdon.contracts import GuerdonError, digest, prompt_digest
from guerdon.errors import OutputError
from guerdon.formulas.advantage import RunningScale
from guerdon.formulas.kl import AdaptiveKL
from guerdon.io.run_folder import METRICS, RunFolder, differences
from guerdon.io.writers import write_json
from guerdon.models.rollout_servers import NoServerLeft
from guerdon.optimization.checks import Check, read_checks, to_row
from guerdon.optimization.learner import Learner
from guerdon.optimization.metrics import bound_passed
from guerdon.optimization.monitor import best_update, reason_to_stop
from guerdon.optimization.prompts import PromptSet
from guerdon.optimization.reward_scale import RewardScale
from guerdon.optimization.rewards import Reward
from guerdon.runtime import checkpoint
from guerdon.runtime.optimizer import TrainableWeights
from guerdon.runtime.save_timer import SaveTimer

__all__ = ["OptimizationRun", "run_identity"]

log = logging.getLogger("guerdon")

Count = Annotated[int, Field(ge=0)]

CHECKS = "checks.jsonl"
UPDATES = "optimize.updates"  # in the identity: a finished run may be continued with more
MAX_UNUSABLE = 3  # updates in a row without a usable reward: from here on the reward is broken, not unlucky
RESULT_NEUTRAL = {
    "save_every",
    "save_minutes",
    "micro_tokens",
    "gradient_checkpointing",
    "rollouts",
    "rollout_folder",
    "rollout_workers",
    "rollout_timeout",
    "rollout_key_from_env",
}  # options that change a result by rounding at most


class State(TypedDict):
    """The JSON part of a checkpoint: how far the run is, and everything that its rest depends on."""

    update: Count
    identity: dict[str, str]
    steps: Count
    beta: float
    running: tuple[Count, float, float] | None
    best: Count | None
    stopped: str | None
    barren: Count
    seconds: float
    bytes: dict[str, Count]


class Best(TypedDict):
    """The JSON part of the weights of the best check."""

    update: Count


STATE, BEST = TypeAdapter(State), TypeAdapter(Best)


class OptimizationRun:
    """The state of a run. With a folder it is kept there, and a killed run resumes; every process has the same state."""

    def __init__(
        self,
        folder: Path | None,
        identity: Mapping[str, str],
        learner: Learner,
        reference_scale: tuple[float, float] | None,
    ) -> None:
        self.options, self.accelerator = learner.options, learner.accelerator
        options = self.options
        self.files = RunFolder(folder, identity, is_main=self.accelerator.is_main_process)
        self.folder, self.identity = folder, identity
        self.kl_penalty = AdaptiveKL(options.kl_coef, options.kl_target, options.kl_horizon)
        mean, spread = reference_scale if options.reward_scale == "reference" and reference_scale else (0.0, 1.0)
        self.scale = RewardScale(mean, spread, RunningScale() if options.reward_scale == "running" else None)
        self.checks: list[Check] = []
        self.best: tuple[int, dict[str, Tensor] | None] | None = None  # update, and weights if there is no folder
        self.stop_reason: str | None = None
        self.num_unusable = 0  # updates in a row without a usable reward
        self.start = time.monotonic()
        self.timer = SaveTimer(options.save_minutes if folder and options.save_every else 0, self.accelerator)
        self.extends = self._updates_of_finished_run()
        if self.extends:
            self.files.reclaim(self.accelerator.wait_for_everyone)
        else:
            self.files.claim(self.accelerator.wait_for_everyone)

    # ---- Checkpoints -----------------------------------------------------------------------------------------------

    def resume(self, weights: TrainableWeights) -> int:
        """Load the newest checkpoint; returns how many updates are done."""
        path = checkpoint.find(self.folder)
        if path is None:
            self.files.truncate({METRICS: 0, CHECKS: 0})
            return 0
        state = checkpoint.read_state(path, STATE)
        if not self.extends:
            self.files.refuse_other(state["identity"], path.parent)
        weights.load(path, moments=True)
        weights.set_step(state["steps"])
        self.kl_penalty = AdaptiveKL(state["beta"], self.options.kl_target, self.options.kl_horizon)
        if state["running"] is not None:
            self.scale = RewardScale(self.scale.mean, self.scale.spread, RunningScale(*state["running"]))
        self.stop_reason = state["stopped"]
        self.num_unusable = state["barren"]
        self.start -= state["seconds"]
        self.files.truncate(state["bytes"])
        self.accelerator.wait_for_everyone()  # no process may read the checks while they are being cut
        self.checks = read_checks(self.folder / CHECKS) if self.folder else []
        self.best = (state["best"], None) if state["best"] is not None else None
        log.info("resuming from update %d in %s", state["update"], path)
        if self.extends:
            log.warning(
                "extending a finished run of %d updates to %d: the learning rate had fallen to 0 and continues at %.0f %% of "
                "its peak, so the result is not that of one run of %d",
                self.extends,
                self.options.updates,
                100 * (1 - self.extends / self.options.updates),
                self.options.updates,
            )
        return int(state["update"])

    def _updates_of_finished_run(self) -> int | None:
        """Updates of the finished run in the folder if this is the same run with more of them; None otherwise."""
        path = checkpoint.find(self.folder)
        if path is None:
            return None
        state = checkpoint.read_state(path, STATE)
        stored = state["identity"]
        if differences(self.identity, stored) != [UPDATES] or not stored.get(UPDATES, "").isdecimal():
            return None
        done = int(stored[UPDATES])
        if self.options.updates <= done or (state["update"] < done and state["stopped"] is None):
            return None
        if state["stopped"] is not None:
            raise OutputError(
                f"{self.folder}: must be a run that reached its last update, got one that stopped early "
                f"({state['stopped']}). Pass another path.",
                self.folder,
            )
        return done

    def save_checkpoint(self, update: int, weights: TrainableWeights) -> None:
        """Write a checkpoint after this many updates."""
        if self.folder is None:
            return
        running = self.scale.running
        state = {
            "update": update,
            "identity": self.identity,
            "steps": weights.steps,
            "beta": self.kl_penalty.beta,
            "running": None if running is None else [running.count, running.mean, running.m2],
            "best": self.best[0] if self.best else None,
            "stopped": self.stop_reason,
            "barren": self.num_unusable,
            "seconds": self._seconds(),
            "bytes": {name: self.files.size(name) for name in (METRICS, CHECKS)},
        }
        weights.save(self.folder, state, is_main=self.accelerator.is_main_process, moments=True)
        self.timer.restart()

    @contextmanager
    def kept_if_servers_go(self, update: int, weights: TrainableWeights) -> Iterator[None]:
        """Write a checkpoint after this many updates if no server is left to sample in the block; one process only."""
        try:
            yield
        except NoServerLeft:
            if update and self.accelerator.num_processes == 1:
                self.save_checkpoint(update, weights)
            raise

    def is_checkpoint_due(self, update: int) -> bool:
        """Whether a checkpoint belongs after this update; every process must ask."""
        every = self.options.save_every
        return self.timer.is_due() or self.has_ended(update) or bool(every and update % every == 0)

    def has_ended(self, update: int) -> bool:
        """Whether all updates are done, or the run stops early."""
        return update == self.options.updates or self.stop_reason is not None

    # ---- Checks ----------------------------------------------------------------------------------------------------

    def is_check_due(self, update: int) -> bool:
        """Whether held-out prompts are to be evaluated after this many updates, and have not been yet."""
        every = self.options.check_every
        is_due = every and (update % every == 0 or self.has_ended(update))
        return bool(is_due) and (not self.checks or self.checks[-1].update < update)

    def add_check(self, check: Check | None, weights: TrainableWeights) -> None:
        """Keep the main process's check; remember the weights if gold is at its best; stop if gold has significantly fallen."""
        message: list[Any] = [check]
        check = broadcast_object_list(message)[0]
        assert check is not None, "the main process evaluates"
        self.checks.append(check)
        self.files.append(CHECKS, to_row(check))
        if check.gold is not None and self.options.keep == "best_gold" and best_update(self.checks) == check.update:
            self._remember_best(check.update, weights)
        if self.options.stop_when == "over_optimized" and (reason := reason_to_stop(self.checks)):
            self.stop_reason = reason

    def restore_best(self, weights: TrainableWeights) -> int:
        """Load the weights with the best gold; returns their update."""
        assert self.best is not None, "a check with gold came first"
        self.accelerator.wait_for_everyone()  # the main process may still be writing them
        update, tensors = self.best
        if tensors is None:
            assert self.folder is not None
            path = checkpoint.find(self.folder, "best")
            if path is None:
                raise GuerdonError(
                    f"{self.folder}: must hold best/, with the weights of the best check. Restore it, or start over."
                )
            weights.load(path, moments=False)
            update = int(
                checkpoint.read_state(path, BEST)["update"]
            )  # a judge that answers differently may have moved it
        else:
            weights.restore(tensors)
        return update

    def _remember_best(self, update: int, weights: TrainableWeights) -> None:
        if self.folder is None:
            self.best = (update, weights.snapshot())
            return
        weights.save(
            self.folder, {"update": update}, is_main=self.accelerator.is_main_process, moments=False, name="best"
        )
        self.best = (update, None)

    # ---- Updates ---------------------------------------------------------------------------------------------------

    def end_update(self, update: int, steps: dict[str, float], batch: dict[str, float]) -> None:
        """Log an update, adapt the KL penalty, and stop if a bound is passed. Without a usable reward, only log.

        steps: means over the optimizer steps, empty if no reply could be learned from. batch: means over the rollouts.
        """
        self.num_unusable = 0 if steps else self.num_unusable + 1
        if not steps:
            self._handle_unusable(update, batch)
            return
        self.kl_penalty = self.kl_penalty.update(batch["kl"], self.options.prompts * self.options.samples)
        self.stop_reason = bound_passed(batch, self.options)
        self.files.log_metrics({"update": update, **steps, **batch}, self._seconds())

    def _handle_unusable(self, update: int, batch: dict[str, float]) -> None:
        samples = self.options.samples
        if self.num_unusable >= min(MAX_UNUSABLE, self.options.updates):
            num = self.num_unusable
            span = f"in {num} updates in a row, up to update {update}" if num > 1 else f"in update {update}"
            raise GuerdonError(
                f"optimize: some prompt must have a finite reward for each of its {samples} replies, got none {span}. "
                "Give a reward that is finite for more replies."
            )
        log.warning(
            "optimize: at update %d, no prompt has a finite reward for each of its %d replies: nothing is learned",
            update,
            samples,
        )
        self.files.log_metrics({"update": update, "unusable": batch["unusable"]}, self._seconds())

    def write_excluded(self, excluded: Mapping[str, int]) -> None:
        """Write how many prompts were left out, by reason."""
        if self.folder and self.accelerator.is_main_process:
            write_json(self.folder / "excluded.json", dict(excluded))

    def _seconds(self) -> float:
        """Since the run started, without the time between a kill and its resumption."""
        return round(time.monotonic() - self.start, 3)


def run_identity(
    learner: Learner, prompts: PromptSet, held_out: PromptSet, reward: Reward, gold: Reward | None
) -> dict[str, str]:
    """Everything that a run is started with and that changes its result."""
    policy, options = learner.policy, learner.options.model_dump()
    adapters = [
        (a.r, a.lora_alpha, sorted(a.target_modules)) for a in getattr(policy.model, "peft_config", {}).values()
    ]
    own = {name: value for name, value in options.items() if name not in RESULT_NEUTRAL and name != "updates"}
    if learner.options.rollouts:
        own["rollouts"] = "servers"  # whichever these are, so that a run can resume with others
    return {
        "optimize options": digest(own),
        UPDATES: str(learner.options.updates),
        "prompts": digest([prompt_digest(prompt) for prompt in prompts.prompts]),
        "held-out prompts": digest([prompt_digest(prompt) for prompt in held_out.prompts]),
        "policy": digest([policy.fingerprint, str(next(policy.model.parameters()).dtype), adapters]),
        "reward": reward.fingerprint,
        "gold": gold.fingerprint if gold else "",
    }
