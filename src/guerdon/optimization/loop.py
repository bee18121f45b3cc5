"""One loop for PPO, RLOO and GRPO, readable from top to bottom: rollouts, advantages, clipped steps, held-out checks.

Every draw and every order is a function of the seed and the update, so checkpoints need no generator state, and a killed run
resumes as if it had not been killed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guerdon.config import OptimizeOptions
from guerdon.contracts import GuerdonError, Prompt
from guerdon.models.policy import LanguagePolicy
from guerdon.optimization.batch import build_batch, sample_rollouts
from guerdon.optimization.checks import Check
from guerdon.optimization.evaluation import evaluate, select_held_out
from guerdon.optimization.learner import make_learner
from guerdon.optimization.metrics import summarize_batch
from guerdon.optimization.prefix_rewards import refuse_without_prefixes
from guerdon.optimization.prompts import prompts_of_update, select_prompts
from guerdon.optimization.remote_rollouts import rollout_engine
from guerdon.optimization.rewards import Reward
from guerdon.optimization.run_state import OptimizationRun, run_identity
from guerdon.optimization.update import train_on_batch
from guerdon.optimization.value_models import ValueNetwork
from guerdon.progress import ProgressBar
from guerdon.runtime import distributed

__all__ = ["OptimizationResult", "optimize"]

log = logging.getLogger("guerdon")


@dataclass(frozen=True, slots=True)
class OptimizationResult:
    """What a run gave.

    policy: as it ended, or at its best by gold. updates: how many were done. stop_reason: why it stopped early, None if it
    did not. checks: on held-out prompts. kept_update: the update that the policy's weights are from. excluded: how many
    prompts were left out, by reason.
    """

    policy: LanguagePolicy
    updates: int
    stop_reason: str | None
    checks: tuple[Check, ...]
    kept_update: int
    excluded: Mapping[str, int] = field(default_factory=dict)


def optimize(
    policy: LanguagePolicy,
    reward: Reward,
    prompts: Sequence[Prompt],
    options: OptimizeOptions,
    *,
    gold: Reward | None = None,
    held_out: Sequence[Prompt] = (),
    value: ValueNetwork | None = None,
    reference_scale: tuple[float, float] | None = None,
    folder: Path | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> OptimizationResult:
    """Move the policy toward more reward, with a penalty for its KL to where it started.

    With adapters, the reference is the policy without them; otherwise a frozen copy. `gold` judges replies to held-out
    prompts in addition to the reward; nothing learns from it. `value` is the network that a value model of its own starts as; it is
    trained. `reference_scale` is the mean and spread of the reward over the reference policy's replies. With a folder,
    metrics.jsonl, checks.jsonl and checkpoints are kept there, and the same call resumes a killed run. `on_start` is called
    once the folder is known to be this run's.
    """
    _refuse_unusable(options, gold, value, reference_scale, held_out)
    if options.dense:
        refuse_without_prefixes(reward, policy, options.max_tokens)

    # 1. Prompts that fit, and what learns
    accelerator = distributed.make_accelerator(policy.device)
    if not prompts:
        raise GuerdonError("optimize: at least one training prompt is required, got none. Hold out fewer prompts.")
    training = select_prompts(policy, prompts, options.max_tokens)
    checked = select_held_out(policy, held_out, options, gold)
    excluded = {**training.excluded, **{f"held out, {reason}": num for reason, num in checked.excluded.items()}}
    engine = rollout_engine(policy, options, folder, accelerator)
    learner = make_learner(policy, value, options, accelerator, engine)
    weights = learner.trainable_weights()

    # 2. Resume from the newest checkpoint
    run = OptimizationRun(folder, run_identity(learner, training, checked, reward, gold), learner, reference_scale)
    update = run.resume(weights)
    on_start()
    if engine is not None and not run.has_ended(update):
        engine.start()
    run.write_excluded(excluded)
    bar = ProgressBar(options.updates, "optimize", "updates", initial=update)

    # 3. Updates, and checks before the first, in between and after the last
    while True:
        if len(checked) and run.is_check_due(update):
            # One process evaluates: a judge that answers differently must not send processes different ways
            is_main, beta = accelerator.is_main_process, run.kl_penalty.beta
            check = evaluate(learner, checked, reward, gold, update=update, kl_coef=beta) if is_main else None
            run.add_check(check, weights)
        if run.has_ended(update):
            break
        chosen = training.select(prompts_of_update(len(training), options.prompts, options.seed, update))
        with run.kept_if_servers_go(update, weights):
            rollouts = sample_rollouts(learner, chosen, update)
        reward.set_step(update)
        batch, run.scale = build_batch(learner, rollouts, reward, run.scale, run.kl_penalty.beta)
        reward.set_step(None)
        steps = train_on_batch(learner, batch, weights, update)
        summary = summarize_batch(learner, batch) | {"kl_coef": run.kl_penalty.beta}
        if engine is not None:
            engine.warn_if_apart(summary)
        update += 1
        run.end_update(update, steps, summary)
        if run.is_checkpoint_due(update):
            run.save_checkpoint(update, weights)
        bar.advance(1, score=summary["score"], kl=summary["kl"], length=summary["length"])
    bar.close()
    if engine is not None:
        engine.close()

    # 4. The policy to keep
    kept_update = run.restore_best(weights) if options.keep == "best_gold" else update
    policy.model.eval()
    return OptimizationResult(policy, update, run.stop_reason, tuple(run.checks), kept_update, excluded)


def _refuse_unusable(
    options: OptimizeOptions,
    gold: Reward | None,
    value: ValueNetwork | None,
    scale: tuple[float, float] | None,
    held_out: Sequence[Prompt],
) -> None:
    """Raise GuerdonError for an option that conflicts with others, or that these rewards and prompts cannot follow."""
    options.refuse_conflicts()
    if gold is not None and not (held_out and options.check_every):
        raise GuerdonError(
            "optimize: a gold judge needs held-out prompts and optimize.check_every above 0, or gold is never measured. "
            "Give --held-out, or more prompts, of which a tenth is held out."
        )
    if options.baseline == "value" and options.value == "reward" and value is None:
        raise GuerdonError("optimize.value=reward: the reward must be one of our models. Use optimize.value=head.")
    if options.reward_scale == "reference" and scale is None:
        raise GuerdonError(
            "optimize.reward_scale=reference: the model must store a reference mean and spread. "
            "Calibrate it with --reference, or use optimize.reward_scale=running."
        )
    needs_gold = [n for n, on in (("stop_when", options.stop_when != "never"), ("keep", options.keep != "last")) if on]
    if needs_gold and (gold is None or not held_out or not options.check_every):
        raise GuerdonError(
            f"optimize.{needs_gold[0]}: needs a gold judge, held-out prompts and optimize.check_every above 0. Give --gold."
        )
